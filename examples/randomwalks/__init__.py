"""Shortest walks on a random graph: a task on which a method shows in minutes, on a CPU, whether it learns."""

from examples.randomwalks.randomwalks import generate_random_walks

__all__ = ["generate_random_walks"]
