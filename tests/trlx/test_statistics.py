"""Statistics of several microbatches are those of all their tokens: by hand, and against all tokens at once."""

import math
from collections.abc import Sequence

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from trlx.functional.masking import masked_spread
from trlx.trainer.statistics import pool

NAN = float("nan")


def pooled(*parts: tuple[float, dict[str, float]]) -> dict[str, float]:
    return pool(Accelerator(cpu=True), [(torch.tensor(weight), stats) for weight, stats in parts])


def test_means_weigh_tokens_not_microbatches() -> None:
    # (2 · 1.5 + 1 · 6) / 3
    assert pooled((2, {"losses/policy_loss": 1.5}), (1, {"losses/policy_loss": 6.0})) == {"losses/policy_loss": 3.0}


def test_spread_by_hand() -> None:
    first = {"values/mean": 1.0, "values/min": -1.0, "values/max": 3.0, "values/std": 2.0}  # of −1 and 3
    second = {"values/mean": 7.0, "values/min": 7.0, "values/max": 7.0, "values/std": 0.0}  # of 7 and 7
    # −1, 3, 7, 7: mean 4; squared distances 25, 1, 9, 9 add up to 44, so the variance is 11
    expected = {"values/mean": 4.0, "values/min": -1.0, "values/max": 7.0, "values/std": math.sqrt(11)}
    assert pooled((2, first), (2, second)) == pytest.approx(expected)


@pytest.mark.parametrize("nothing", [0.0, NAN, math.inf])
def test_a_part_without_tokens_has_no_say(nothing: float) -> None:
    names = ("ratio", "values/mean", "values/std", "values/min", "values/max")
    real = {"ratio": 2.0, "values/mean": 5.0, "values/std": 1.0, "values/min": 4.0, "values/max": 6.0}
    assert pooled((0, dict.fromkeys(names, nothing)), (3, real)) == pytest.approx(real)
    assert pooled((3, real), (0, dict.fromkeys(names, nothing))) == pytest.approx(real)


def test_a_nan_of_real_tokens_shows() -> None:
    assert math.isnan(pooled((1, {"loss": NAN}), (3, {"loss": 1.0}))["loss"])


numbers = st.floats(-100, 100, width=32)


@given(st.lists(st.lists(numbers, max_size=4), min_size=1, max_size=5).filter(lambda rows: any(rows)))
def test_pooling_is_taking_all_tokens_at_once(rows: Sequence[list[float]]) -> None:
    def statistics(row: Sequence[float]) -> dict[str, float]:
        values = torch.tensor([[*row, NAN]], dtype=torch.float64)
        mask = torch.tensor([[True] * len(row) + [False]])
        return {f"values/{name}": number.item() for name, number in masked_spread(values, mask).items()}

    whole = statistics([value for row in rows for value in row])
    got = pooled(*[(len(row), statistics(row)) for row in rows])
    assert got == pytest.approx(whole, rel=1e-6, abs=1e-4)
