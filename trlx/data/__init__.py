"""Configurations, and the records that travel between rollout and loss."""
