"""Reward model training from a `.conf` file of llm-on-ray, as a Ray job; see `launch.conf.command`.

python rlhf/reward_trainer.py --config_path rlhf/reward.conf
python rlhf/reward_trainer.py --config_path rlhf/reward.conf --print
"""

from launch.conf.command import main
from trlx.utils.errors import run_main

if __name__ == "__main__":
    run_main(lambda: main("reward"))
