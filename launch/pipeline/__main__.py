"""`python -m launch.pipeline sgl_gpu | sgl_mach | mul_mach [--config FILE.yaml] ...`; see `train.sh`."""

from launch.pipeline import main
from trlx.utils.errors import run_main

run_main(main)
