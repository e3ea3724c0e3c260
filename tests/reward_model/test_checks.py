"""The checks: what passes, what fails, what cannot be judged."""

import dataclasses
import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from reward_model.checks import SECTIONS, Evidence, run_checks
from reward_model.invariance import Invariance
from reward_model.length_bias import words
from reward_model.stress import EDITS
from reward_model.thresholds import StressThresholds, Thresholds
from reward_model.verdict import Check, decide
from tasks.records import Pair
from trlx.utils.errors import UserError

STRICT = Thresholds(
    min_pairs=20,
    min_posts=5,
    accuracy=0.6,
    accuracy_shorter_better=0.5,
    beats_longer_wins=0.0,
    beats_length_only=0.0,
    ece=0.3,
    padding=1e-4,
    batch_size=1e-4,
    trained_on=0.0,
    stress=StressThresholds(*[0.5] * 6),
)


def text(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(["good", "bad"]) for _ in range(count))


def make_pairs(count: int = 400, longer: float = 0.75) -> list[Pair]:
    """Preferred is the side with more "good" words, which in the share `longer` is also the longer one."""
    rng = random.Random(0)
    pairs = []
    for number in range(count):
        long, short = rng.randint(16, 30), rng.randint(5, 15)
        sizes = (long, short) if rng.random() < longer else (short, long)
        chosen = " ".join(["good"] * sizes[0])
        rejected = " ".join(["bad"] * sizes[1])
        pairs.append(Pair(str(number), f"POST: {number // 2}\nTL;DR:", chosen, rejected, {"batch": f"b{number % 2}"}))
    return pairs


def evidence(pairs: Sequence[Pair], score: Any, **changes: Any) -> Evidence:
    found = Evidence(
        pairs=pairs,
        chosen=[score(pair.chosen) for pair in pairs],
        rejected=[score(pair.rejected) for pair in pairs],
        stress={name: [1.0] * 10 for name in EDITS},
        invariance=Invariance(1e-6, 0.0, 32),
        trained_on=0.0,
    )
    return dataclasses.replace(found, **changes)


def by_name(found: Evidence, limits: Thresholds = STRICT) -> dict[str, Check]:
    return {check.name: check for check in run_checks(found, limits)[0]}


def quality(summary: str) -> float:
    return float(2 * ("good" in summary))


def failing(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if check.status == "fail"}


def test_a_good_model_passes_everything() -> None:
    checks = by_name(evidence(make_pairs(), quality))
    assert {check.status for check in checks.values()} == {"pass"} and decide(list(checks.values()))
    assert checks["accuracy"].value == 1.0 and checks["accuracy"].n == 400
    # each side differs by 2: σ(2) = 0.8808, always right
    assert checks["ece"].value == pytest.approx(1 - 0.880797, abs=1e-6)


def test_a_model_that_learnt_only_length_fails_the_baselines_of_length() -> None:
    pairs = make_pairs()
    rng = random.Random(1)
    weight = 0.0
    for _ in range(500):  # trained on length: the one weight of σ(w · Δ words), by logistic steps
        pair = rng.choice(pairs)
        step = 0.1 if words(pair.chosen) > words(pair.rejected) else -0.1
        weight += step * (1 if abs(weight) < 1 else 0.1)
    checks = by_name(evidence(pairs, lambda summary: weight * words(summary)))
    accuracy = checks["accuracy"]
    assert weight > 0 and accuracy.status == "pass" and accuracy.value == pytest.approx(0.75, abs=0.05)
    assert {"beats_longer_wins", "beats_length_only", "accuracy_shorter_better"} <= failing(checks)
    assert checks["beats_longer_wins"].value == 0.0 and checks["accuracy_shorter_better"].value == 0.0
    assert not decide(list(checks.values()))


def test_beating_a_baseline_takes_the_low_end_of_the_paired_interval() -> None:
    pairs = make_pairs(60, longer=1.0)
    almost = {pair.chosen: 1.0 for pair in pairs}
    found = evidence(pairs, lambda summary: almost.get(summary, 0.0))
    check = by_name(found)["beats_longer_wins"]
    assert (check.value, check.low, check.status) == (0.0, 0.0, "fail")  # as good is not better
    assert by_name(found, dataclasses.replace(STRICT, beats_longer_wins=-0.01))["beats_longer_wins"].status == "pass"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"trained_on": 0.01}, "trained_on"),
        ({"invariance": Invariance(2e-4, 0.0, 32)}, "padding"),
        ({"invariance": Invariance(0.0, 2e-4, 32)}, "batch_size"),
        ({"stress": {name: [1.0 - (name == "role_swap")] * 10 for name in EDITS}}, "stress.role_swap"),
    ],
)
def test_each_fault_fails_its_own_check(change: dict[str, Any], name: str) -> None:
    assert failing(by_name(evidence(make_pairs(), quality, **change))) == {name}


def test_too_sure_fails_calibration_alone() -> None:
    pairs = make_pairs()
    wrong = {pair.chosen + pair.rejected for pair in pairs[:120]}
    base = evidence(pairs, lambda summary: 50 * quality(summary))
    swapped = [pair.chosen + pair.rejected in wrong for pair in pairs]
    chosen = [r if swap else c for c, r, swap in zip(base.chosen, base.rejected, swapped, strict=True)]
    rejected = [c if swap else r for c, r, swap in zip(base.chosen, base.rejected, swapped, strict=True)]
    checks = by_name(dataclasses.replace(base, chosen=chosen, rejected=rejected), dataclasses.replace(STRICT, ece=0.2))
    assert checks["ece"].value == pytest.approx(sum(swapped) / 400) and "ece" in failing(checks)


def test_what_cannot_be_judged_says_why_and_does_not_pass() -> None:
    few = evidence(
        make_pairs(10),
        quality,
        stress={name: [1.0] * (4 if name == "title_twice" else 0) for name in EDITS},
        invariance=None,
        trained_on=None,
    )
    checks = by_name(few, dataclasses.replace(STRICT, ece=None))
    whys = {name: check.why for name, check in checks.items() if check.status == "not judged"}
    assert whys["accuracy"] == "of the 20 that are needed there are 10"
    assert whys["stress.title_twice"] == "of the 5 that are needed there are 4"
    assert whys["stress.role_swap"] == "of the 5 that are needed there are 0"
    assert whys["ece"] == "no threshold is set" and whys["padding"] == "fewer than 2 texts"
    assert whys["trained_on"] == "the model came without training_posts.npy"
    assert set(checks) - set(whys) == {"finite_scores"}
    assert not decide(list(checks.values()))  # nothing failed, and still nothing was let through


def test_many_pairs_of_few_posts_are_not_judged() -> None:
    pairs = [dataclasses.replace(pair, prompt=f"POST: {n % 4}\nTL;DR:") for n, pair in enumerate(make_pairs(200))]
    checks = by_name(evidence(pairs, quality))
    needed = "of the 5 posts that are needed there are 4"
    for name in ("accuracy", "accuracy_shorter_better", "beats_longer_wins", "ece"):
        assert (checks[name].status, checks[name].why) == ("not judged", needed), name
    assert by_name(evidence(pairs, quality), dataclasses.replace(STRICT, min_posts=4))["accuracy"].status == "pass"


def test_a_required_check_that_cannot_be_judged_fails() -> None:
    required = dataclasses.replace(STRICT, required=["accuracy", "stress.other_post"])
    assert decide(list(by_name(evidence(make_pairs(), quality), required).values()))
    few = evidence(make_pairs(), quality, stress={name: [1.0] * 3 for name in EDITS})
    assert decide(list(by_name(few).values()))
    checks = by_name(few, required)
    assert failing(checks) == {"stress.other_post"} and not decide(list(checks.values()))
    check = checks["stress.other_post"]
    assert check.why == "required, and cannot be judged: of the 5 that are needed there are 3"
    assert checks["stress.truncated"].status == "not judged"


def test_no_pairs_at_all_are_a_line() -> None:
    with pytest.raises(UserError, match="no test pairs to judge the reward model on: name others"):
        run_checks(evidence([], quality), STRICT)


def test_fewer_posts_than_folds_leave_one_baseline_out() -> None:
    pairs = [dataclasses.replace(pair, prompt="POST: one\nTL;DR:") for pair in make_pairs(40)]
    checks, told = run_checks(evidence(pairs, quality), STRICT)
    (check,) = (one for one in checks if one.name == "beats_length_only")
    assert check.status == "not judged" and told["baselines"]["length_only"] is None


@pytest.mark.parametrize("where", ["chosen", "stress", "invariance"])
def test_a_score_that_is_no_number_fails_and_nothing_else_is_judged(where: str) -> None:
    nan = float("nan")
    good = evidence(make_pairs(), quality)
    change: dict[str, Any] = {
        "chosen": {"chosen": [nan, *good.chosen[1:]]},
        "stress": {"stress": {**good.stress, "truncated": [nan]}},
        "invariance": {"invariance": Invariance(nan, 0.0, 32)},
    }[where]
    checks, told = run_checks(dataclasses.replace(good, **change), STRICT)
    assert [(check.name, check.status, check.value) for check in checks] == [("finite_scores", "fail", 1.0)]
    assert list(told) == list(SECTIONS) and not any(told.values()) and not decide(checks)


def test_what_is_told_is_plain_json() -> None:
    _, told = run_checks(evidence(make_pairs(), quality), STRICT)
    told = json.loads(json.dumps(told, allow_nan=False))
    assert set(told) == set(SECTIONS)
    assert told["accuracy"]["accuracy"]["mean"] == 1.0 and set(told["accuracy"]["by"]) == {"batch"}
    assert {name: row["pairs"] for name, row in told["accuracy"]["by"]["batch"].items()} == {"b0": 200, "b1": 200}
    assert set(told["accuracy"]["by"]["batch"]["b0"]["accuracy"]) == {"mean", "low", "high", "n"}
    buckets = told["accuracy"]["by_length_difference"]
    assert sum(one["pairs"] for one in buckets) == 400 and buckets[0]["from"] < 0 < buckets[-1]["to"]
    assert told["baselines"]["longer_wins"]["mean"] == pytest.approx(0.75, abs=0.05)
    assert [one["name"] for one in told["stress"]] == list(EDITS) and told["stress"][0]["n"] == 10
    assert told["invariance"] == {"padding": 1e-6, "batch_size": 0.0, "texts": 32}
    assert told["calibration"]["bins"][0]["pairs"] == 400
