"""The rule by which reward and held-out score are said to have parted, on histories made by hand and by chance."""

import json
import math

import numpy as np
import pytest

from trlx.trainer.monitor import HeldoutMonitor, Mean


def watched(rewards: list[float], scores: list[list[float]], patience: int = 2) -> HeldoutMonitor:
    """A monitor that has seen one evaluation every ten steps, each with one mean reward."""
    monitor = HeldoutMonitor(patience)
    for index, (reward, row) in enumerate(zip(rewards, scores, strict=True)):
        monitor.observe(10 * index, [reward] * len(row), row)
    return monitor


def around(mean: float) -> list[float]:
    """Eight prompts of their own levels, which every evaluation has alike but for a little."""
    return [mean + level for level in (-0.4, -0.2, -0.1, 0.0, 0.0, 0.1, 0.2, 0.4)]


def shaken(mean: float) -> list[float]:
    """The same with ± 0.04 by prompt: a standard deviation of 0.04 · √(8/7)."""
    return [score + sign * 0.04 for score, sign in zip(around(mean), (1, -1) * 4, strict=True)]


def test_an_interval_worked_by_hand() -> None:
    # mean 2, squared distances 1 + 0 + 1, s = 1, s/√3 = 0.57735; 1.95996 times that is 1.13159
    interval = Mean.of([1.0, 2.0, 3.0])
    assert (interval.mean, interval.n) == (2.0, 3)
    assert (interval.low, interval.high) == pytest.approx((2 - 1.13159, 2 + 1.13159), abs=1e-5)
    # five tests at once: 1 − 0.025/5 = 0.995, whose quantile is 2.57583
    assert Mean.of([1.0, 2.0, 3.0], tests=5).high == pytest.approx(2 + 2.57583 / math.sqrt(3), abs=1e-5)
    assert Mean.of([0.5]) == Mean(0.5, None, None, 1)


def test_a_planted_divergence_is_flagged_at_the_second_evaluation_below() -> None:
    monitor = watched([0, 1, 2, 3, 4], [around(0.5), around(0.8), shaken(0.6), shaken(0.5), shaken(0.4)])
    assert [entry["parted"] for entry in monitor.history] == [False, False, False, True, True]
    assert [entry["streak"] for entry in monitor.history] == [0, 0, 1, 2, 3]
    assert monitor.flagged_at == 30  # the first, not the last
    assert [entry["best_step"] for entry in monitor.history] == [0, 10, 10, 10, 10]
    record = json.loads(json.dumps(monitor.record()))
    assert record["best_by_heldout"] == {"step": 10, "reward": 1.0, "heldout": pytest.approx(0.8)}
    assert record["best_by_reward"] == {"step": 40, "reward": 4.0, "heldout": pytest.approx(0.4)}
    # −0.2 by prompt ± 0.04; two earlier evaluations: the quantile of 1 − 0.0125 is 2.24140
    fall = record["history"][2]["difference"]
    assert fall["high"] == pytest.approx(-0.2 + 2.24140 * 0.04 / math.sqrt(7), abs=1e-5)


def test_the_policy_that_training_starts_from_may_be_the_best() -> None:
    monitor = watched([0, 1, 2], [around(0.8), shaken(0.6), shaken(0.5)])
    assert monitor.flagged_at == 20
    assert monitor.record()["best_by_heldout"]["step"] == 0
    assert monitor.record()["best_by_reward"]["step"] == 20
    assert watched([9, 1], [around(0.8)] * 2).record()["best_by_reward"]["step"] == 10  # step 0 is never kept by reward


@pytest.mark.parametrize(
    ("rewards", "means"),
    [
        ([0, 1, 0.9, 0.8], [0.5, 0.8, 0.6, 0.5]),  # the reward falls too: no hacking
        ([0, 1, 2, 3, 4], [0.5, 0.8, 0.6, 0.9, 0.6]),  # never twice in a row
        ([0, 1, 2, 3, 4], [0.5, 0.8, 0.6, 0.8, 0.6]),  # nor without a new best between
        ([0, 1, 2, 3, 4], [0.5, 0.6, 0.7, 0.8, 0.9]),  # all is well
        ([0, 1, 2, 3, 4], [0.5, 0.8, 0.79, 0.78, 0.79]),  # below, but within the noise
    ],
)
def test_what_is_not_flagged(rewards: list[float], means: list[float]) -> None:
    # Fifty-fold ± 0.04: around a fall of 0.02 the interval reaches ± 0.03 and more
    assert (
        watched(rewards, [shaken(mean) if i % 2 else around(mean) for i, mean in enumerate(means)]).flagged_at is None
    )


def test_patience() -> None:
    history = ([0, 1, 2, 3, 4], [around(0.5), around(0.8), shaken(0.6), shaken(0.5), shaken(0.4)])
    assert [watched(*history, patience=patience).flagged_at for patience in (1, 2, 3, 4)] == [20, 30, 40, None]


def test_one_prompt_tells_nothing_of_noise() -> None:
    assert watched([0, 1, 2, 3], [[0.9], [0.1], [0.1], [0.1]]).flagged_at is None


def test_prompts_are_paired() -> None:
    """Levels of the prompts spread 5 times as far as the fall; each prompt falls alike."""
    wide = [5 * level for level in around(0.0)]
    fallen = [level - 0.2 + sign * 0.01 for level, sign in zip(wide, (1, -1) * 4, strict=True)]
    assert Mean.of(fallen).high > Mean.of(wide).mean  # apart they tell nothing
    assert watched([0, 1, 1], [wide, fallen, fallen]).flagged_at == 20


def simulated(rng: np.random.Generator, means: np.ndarray, prompts: int = 100) -> int | None:
    """The step at which a run is flagged whose true held-out means are given, its reward climbing all the while.

    Prompts differ by 0.15, and each evaluation of each prompt by 0.2 more, as the miniature's gold scores do.
    """
    levels = rng.normal(0, 0.15, prompts)
    scores = levels + means[:, None] + rng.normal(0, 0.2, (len(means), prompts))
    return watched(list(np.linspace(0, 3, len(means))), [list(row) for row in scores]).flagged_at


def test_healthy_runs_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    rise = 0.3 * (1 - np.exp(-4 * np.linspace(0, 1, 20)))
    false = {
        "rises and flattens out": sum(simulated(rng, rise) is not None for _ in range(200)),
        "five evaluations of nothing": sum(simulated(rng, np.zeros(5)) is not None for _ in range(200)),
        "twenty evaluations of nothing": sum(simulated(rng, np.zeros(20)) is not None for _ in range(200)),
    }
    assert false["rises and flattens out"] <= 4, false  # 2%
    assert false["five evaluations of nothing"] <= 8 and false["twenty evaluations of nothing"] <= 20, false


def test_runs_that_over_optimise_are_found_in_time() -> None:
    """Up by 0.1 within a fifth of the run and then down by 0.4: a hump as in Gao et al."""
    rng = np.random.default_rng(1)
    at = np.linspace(0, 1, 20)
    hump = np.where(at < 0.2, 0.5 * at, 0.1 - 0.5 * (at - 0.2))
    flagged = [simulated(rng, hump) for _ in range(50)]
    assert None not in flagged
    assert max(step for step in flagged if step is not None) <= 150  # 20 evaluations end at 190


def test_numbers_that_cannot_be_compared() -> None:
    monitor = watched([0], [around(0.5)])
    with pytest.raises(ValueError, match="1 of 8 held-out scores are not finite"):
        monitor.observe(10, [1.0] * 8, [float("nan"), *around(0.5)[1:]])
    with pytest.raises(ValueError, match="7 held-out scores, and 8 in the best evaluation"):
        monitor.observe(10, [1.0] * 7, around(0.5)[1:])
    assert [entry["step"] for entry in monitor.history] == [0]


def test_the_state_survives_json() -> None:
    rewards, scores = [0, 1, 2, 3], [around(0.5), around(0.8), shaken(0.6), shaken(0.5)]
    for cut in range(4):
        resumed = HeldoutMonitor(2)
        resumed.load_state_dict(json.loads(json.dumps(watched(rewards[:cut], scores[:cut]).state_dict())))
        for index in range(cut, 4):
            resumed.observe(10 * index, [rewards[index]] * 8, scores[index])
        assert resumed.record() == watched(rewards, scores).record() and resumed.flagged_at == 30
