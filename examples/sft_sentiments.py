"""Fine-tuning on the positive reviews alone.

accelerate launch --config_file configs/default_accelerate_config.yaml examples/sft_sentiments.py
python examples/sft_sentiments.py --miniature
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import trlx
from examples.sentiments import read_hparams, set_up
from trlx.data.default_configs import default_sft_config


def main(hparams: Mapping[str, Any] = {}) -> Any:
    config, task = set_up(default_sft_config(), hparams, "sft")

    def metric_fn(samples: Sequence[str], **_: Any) -> dict[str, list[float]]:
        return {"sentiments": task.positive(samples)}

    return trlx.train(
        samples=[review for review, label in zip(task.reviews, task.labels, strict=True) if label == 1],
        eval_prompts=task.eval_prompts,
        metric_fn=metric_fn,
        config=config,
    )


if __name__ == "__main__":
    main(read_hparams(sys.argv[1:]))
