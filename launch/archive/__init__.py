"""`python -m launch archive`: what is worth keeping of a run, with its configuration, its time and its results."""

from launch.archive.command import main

__all__ = ["main"]
