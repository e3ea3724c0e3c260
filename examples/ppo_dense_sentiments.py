"""PPO with a reward for every token: reviews that begin negatively and end positively.

    accelerate launch --config_file configs/default_accelerate_config.yaml examples/ppo_dense_sentiments.py
    python examples/ppo_dense_sentiments.py --miniature

The middle token of a response gets the negativity of the text up to there, the last one the positivity of the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import trlx
from examples.sentiments import Judge, read_hparams, set_up
from trlx.data.default_configs import default_ppo_config


def turn_rewards(positive: Judge, outputs: Sequence[str], tokenizer: Any) -> list[list[float]]:
    """One number a token of each output: 1 − positivity of its first half at the middle, that of its second at the end.

    A reward of a token that was not sampled, or a missing one, would be 0: lengths need not agree to the token.
    """
    ids = [tokenizer(output, add_special_tokens=False)["input_ids"] for output in outputs]
    middles = [len(tokens) // 2 for tokens in ids]
    first = positive([tokenizer.decode(tokens[:middle]) for tokens, middle in zip(ids, middles, strict=True)])
    second = positive([tokenizer.decode(tokens[middle:]) for tokens, middle in zip(ids, middles, strict=True)])
    rewards = [[0.0] * max(len(tokens), 1) for tokens in ids]
    for row, middle, before, after in zip(rewards, middles, first, second, strict=True):
        row[max(middle - 1, 0)] += 1.0 - before
        row[-1] += after
    return rewards


def main(hparams: Mapping[str, Any] = {}) -> Any:
    config, task = set_up(default_ppo_config(), hparams, "ppo_dense")

    def reward_fn(outputs: Sequence[str], tokenizer: Any, **_: Any) -> list[list[float]]:
        return turn_rewards(task.positive, outputs, tokenizer)

    return trlx.train(reward_fn=reward_fn, prompts=task.prompts(), eval_prompts=task.eval_prompts, config=config)


if __name__ == "__main__":
    main(read_hparams(sys.argv[1:]))
