"""The stages as Ray jobs: `python -m launch.ray_jobs`; see `launch.ray_jobs.command`."""

from launch.ray_jobs.command import main

__all__ = ["main"]
