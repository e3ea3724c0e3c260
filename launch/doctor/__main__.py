"""`python -m launch.doctor`: the same as `python -m launch doctor`."""

from launch.doctor.command import main
from trlx.utils.errors import run_main

if __name__ == "__main__":
    run_main(main)
