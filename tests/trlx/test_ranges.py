"""Numbers that cannot be meant are refused by name; those at the edge are not."""

import math
from typing import Any

import pytest

from trlx.data.default_configs import default_ilql_config, default_ppo_config, default_sft_config
from trlx.data.limits import require_limits
from trlx.utils.errors import UserError


@pytest.mark.parametrize("make", [default_ppo_config, default_ilql_config, default_sft_config])
def test_the_defaults_can_be_meant(make: Any) -> None:
    require_limits(make())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.seq_length", -5, "train.seq_length must be at least 1, not -5"),
        ("train.batch_size", 0, "train.batch_size must be at least 1, not 0"),
        ("train.eval_interval", 0, "train.eval_interval must be at least 1"),
        ("train.total_steps", -1, "train.total_steps must be 0 or more"),
        ("method.chunk_size", 0, "method.chunk_size must be at least 1"),
        ("method.gamma", 1.5, "method.gamma must be between 0 and 1, not 1.5"),
        ("method.init_kl_coef", math.inf, "method.init_kl_coef must be a number that is 0 or more, not inf"),
        ("method.cliprange", 0.0, "method.cliprange must be above 0, not 0.0"),
        ("method.cliprange", math.nan, "'method.cliprange' must be a number, not nan"),
        ("method.missing_eos_penalty", -math.inf, "must be a finite number, not -inf"),
    ],
)
def test_what_cannot_be_meant(key: str, value: float, words: str) -> None:
    section, name = key.split(".")
    with pytest.raises(UserError) as refused:
        require_limits(default_ppo_config().evolve(**{section: {name: value}}))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.total_steps", 0),
        ("train.keep_checkpoints", None),
        ("method.gamma", 1.0),
        ("method.gamma", 0.0),
        ("method.cliprange_value", math.inf),  # no clipping
        ("method.cliprange_reward", 0.0),
        ("method.target", None),
        ("method.missing_eos_penalty", -1.0),
    ],
)
def test_the_edges_can(key: str, value: float | None) -> None:
    section, name = key.split(".")
    require_limits(default_ppo_config().evolve(**{section: {name: value}}))
