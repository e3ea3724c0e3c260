"""Calibration curve and error, worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_model.calibration import Bin, calibrate


def at(probability: float) -> float:
    """The score difference that says so."""
    return math.log(probability / (1 - probability))


def test_four_pairs_golden() -> None:
    # confidences .62 right, .64 wrong, .91 right, .93 right:
    # bin [.60,.65): confidence .63, accuracy .5; bin [.90,.95): .92 and 1; ECE = 2/4·.13 + 2/4·.08 = .105
    differences = [at(0.62), -at(0.64), at(0.91), at(0.93)]
    found = calibrate(differences, [0.0] * 4)
    assert found.ece == pytest.approx(0.105)
    low, high = found.bins
    assert low == Bin(pytest.approx(0.6), pytest.approx(0.65), pytest.approx(0.63), 0.5, 2)
    assert high == Bin(pytest.approx(0.9), pytest.approx(0.95), pytest.approx(0.92), 1.0, 2)


def test_bins_hold_their_lower_edge_and_the_last_holds_one() -> None:
    # two bins, [.5, .75) and [.75, 1]: a tie lies in the first, log 3 (σ = .75) and a huge difference in the last
    found = calibrate([0.0, at(0.75) + 1e-12, 1000.0], [0.0, 0.0, 0.0], bins=2)
    assert [(one.low, one.high, one.pairs) for one in found.bins] == [(0.5, 0.75, 1), (0.75, 1.0, 2)]
    assert found.bins[0].accuracy == 0.5 and found.bins[0].confidence == 0.5
    assert found.ece == pytest.approx((0 + 2 * (1 - (0.75 + 1) / 2)) / 3)


def test_ten_bins_have_the_edges_that_are_written_for_them() -> None:
    found = calibrate([at(0.505 + 0.05 * number) for number in range(10)], [0.0] * 10)
    assert [one.low for one in found.bins] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert [one.high for one in found.bins] == [0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0]


def test_the_order_of_the_sides_does_not_matter_to_confidence() -> None:
    right, wrong = calibrate([2.0], [0.0]), calibrate([0.0], [2.0])
    assert right.bins[0].confidence == wrong.bins[0].confidence == pytest.approx(0.880797, abs=1e-6)
    assert (right.bins[0].accuracy, wrong.bins[0].accuracy) == (1.0, 0.0)
    assert right.ece == pytest.approx(1 - 0.880797, abs=1e-6) and wrong.ece == pytest.approx(0.880797, abs=1e-6)


def test_labels_drawn_as_the_model_says_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    difference = rng.normal(0, 2, 40_000)
    label = rng.random(40_000) < 1 / (1 + np.exp(-difference))
    signed = np.where(label, difference, -difference)  # the preferred side first
    assert calibrate(signed, np.zeros(40_000)).ece < 0.01
    assert calibrate(4 * signed, np.zeros(40_000)).ece > 0.1  # the same order, far too sure


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=60))
def test_every_pair_is_in_one_bin_that_holds_it(differences: list[float]) -> None:
    found = calibrate(differences, [0.0] * len(differences))
    assert sum(one.pairs for one in found.bins) == len(differences) and 0 <= found.ece <= 1
    assert all(one.low - 1e-12 <= one.confidence <= one.high + 1e-12 for one in found.bins)


def test_no_pairs_is_an_error() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        calibrate([], [])
