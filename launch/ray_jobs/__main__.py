"""`python -m launch.ray_jobs`."""

from launch.ray_jobs.command import main
from trlx.utils.errors import run_main

run_main(main)
