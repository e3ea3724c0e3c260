"""Experiments on a finished miniature run that train several policies and put them into one table."""
