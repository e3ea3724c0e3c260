"""The sentiment examples' shared parts: command line, settings, judge, dense rewards."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from examples import sentiments, sentiments_miniature
from examples.ppo_dense_sentiments import turn_rewards
from trlx.data.default_configs import default_ppo_config
from trlx.utils.errors import UserError


@pytest.mark.parametrize(
    ("argv", "hparams"),
    [
        ([], {}),
        (["--miniature"], {"miniature": True}),
        (['{"train.seed": 1}'], {"train.seed": 1}),
        (['{"train.seed": 1}', "--miniature"], {"train.seed": 1, "miniature": True}),
    ],
)
def test_command_line(argv: list[str], hparams: dict[str, Any]) -> None:
    assert sentiments.read_hparams(argv) == hparams


def test_the_judge_counts_words() -> None:
    texts = ["the plot was great . the pace was weak .", "lovely lovely awful", "the film", "so great</s>"]
    assert sentiments_miniature.positive(texts) == [0.5, pytest.approx(2 / 3), 0.5, 1.0]


def test_reviews_have_their_sentiment() -> None:
    rng = random.Random(1)
    good = sentiments_miniature.positive([sentiments_miniature.write_review(rng, True) for _ in range(400)])
    bad = sentiments_miniature.positive([sentiments_miniature.write_review(rng, False) for _ in range(400)])
    # Each word is of the review's sentiment with probability .8; 1600 words: standard error .01.
    assert sum(good) / 400 == pytest.approx(0.8, abs=0.04)
    assert sum(bad) / 400 == pytest.approx(0.2, abs=0.04)


def test_settings_of_the_user_go_first_and_nothing_is_changed() -> None:
    hparams = {"miniature": True, "train": {"seed": 3}, "method.gen_kwargs.max_new_tokens": 5}
    default = default_ppo_config()
    config, task = sentiments.set_up(default, hparams, "ppo")
    assert (config.train.seed, config.method.gen_kwargs["max_new_tokens"]) == (3, 5)
    assert config.method.num_rollouts == 64  # the miniature's
    assert config.method.lam == 0.95  # the default's
    assert default == default_ppo_config()
    assert hparams == {"miniature": True, "train": {"seed": 3}, "method.gen_kwargs.max_new_tokens": 5}
    assert all(len(prompt.split()) == 4 for prompt in task.prompts())
    with pytest.raises(UserError, match=r"unknown key 'train\.sed'"):
        sentiments.set_up(default, {"miniature": True, "train.sed": 3}, "ppo")


class Words:
    """A tokenizer of words."""

    def __call__(self, text: str, **_: Any) -> dict[str, list[str]]:
        return {"input_ids": text.split()}

    def decode(self, tokens: Sequence[str]) -> str:
        return " ".join(tokens)


def test_dense_rewards_by_hand() -> None:
    outputs = ["awful x great y", "great x awful y z", "", "great"]
    rewards = turn_rewards(sentiments_miniature.positive, outputs, Words())
    # Row 0: "awful x" is 1 − 0 negative, given to its last token; "great y" is 1 positive, at the end. Row 1: 0 and 0.
    # Row 2: no token, so a place for 1 − .5 and .5. Row 3: no first half (1 − .5), the whole is positive.
    assert rewards == [[0, 1, 0, 1], [0, 0, 0, 0, 0], [1.0], [1.5]]
