"""Sampling from a policy: for rollouts and for evaluation."""
