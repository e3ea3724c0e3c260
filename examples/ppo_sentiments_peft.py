"""PPO of a LoRA adapter: the model's own weights stay as they are, and are the reference with the adapter off.

pip install peft
accelerate launch --config_file configs/default_accelerate_config.yaml examples/ppo_sentiments_peft.py
python examples/ppo_sentiments_peft.py --miniature
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import trlx
from examples.sentiments import read_hparams, set_up
from trlx.data.configs import TRLConfig
from trlx.data.default_configs import default_ppo_config

LORA = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 32, "lora_dropout": 0.0}


def default_config() -> TRLConfig:
    return default_ppo_config().evolve(model={"peft_config": LORA, "num_layers_unfrozen": -1})


def main(hparams: Mapping[str, Any] = {}) -> Any:
    config, task = set_up(default_config(), hparams, "ppo_peft")

    def reward_fn(samples: Sequence[str], **_: Any) -> list[float]:
        return task.positive(samples)

    return trlx.train(reward_fn=reward_fn, prompts=task.prompts(), eval_prompts=task.eval_prompts, config=config)


if __name__ == "__main__":
    main(read_hparams(sys.argv[1:]))
