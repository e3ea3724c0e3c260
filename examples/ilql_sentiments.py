"""ILQL from reviews with labels: no reward function is called, the labels are the rewards.

accelerate launch --config_file configs/default_accelerate_config.yaml examples/ilql_sentiments.py
python examples/ilql_sentiments.py --miniature
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import trlx
from examples.sentiments import read_hparams, set_up
from trlx.data.default_configs import default_ilql_config


def main(hparams: Mapping[str, Any] = {}) -> Any:
    config, task = set_up(default_ilql_config(), hparams, "ilql")

    def metric_fn(samples: Sequence[str], **_: Any) -> dict[str, list[float]]:
        return {"sentiments": task.positive(samples)}

    return trlx.train(
        samples=task.reviews,
        rewards=[float(label) for label in task.labels],
        eval_prompts=task.eval_prompts,
        metric_fn=metric_fn,
        config=config,
    )


if __name__ == "__main__":
    main(read_hparams(sys.argv[1:]))
