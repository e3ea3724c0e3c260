"""PPO that teaches a model to continue reviews of films positively.

accelerate launch --config_file configs/default_accelerate_config.yaml examples/ppo_sentiments.py
python examples/ppo_sentiments.py --miniature
python examples/ppo_sentiments.py '{"miniature": true, "train.total_steps": 16}'
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import trlx
from examples.sentiments import read_hparams, set_up
from trlx.data.default_configs import default_ppo_config


def main(hparams: Mapping[str, Any] = {}) -> Any:
    config, task = set_up(default_ppo_config(), hparams, "ppo")

    def reward_fn(samples: Sequence[str], **_: Any) -> list[float]:
        return task.positive(samples)

    return trlx.train(reward_fn=reward_fn, prompts=task.prompts(), eval_prompts=task.eval_prompts, config=config)


if __name__ == "__main__":
    main(read_hparams(sys.argv[1:]))
