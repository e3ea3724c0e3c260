"""The reward of training, by hand: members compared with themselves, then combined; what length costs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_stage import tiny_base

from reward_model.ensemble import EnsembleScorer, combined, reference_std, scale_factors
from reward_model.model import new_reward_model, new_reward_tokenizer
from reward_model.reward import ReferenceReward, load_scorer, make_reward
from reward_model.reward_options import RewardOptions, check_reward_options, reward_folders
from reward_model.scorer import RewardScorer
from tasks.form import response_text
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError


class Table:
    """A reward model that knows its scores by heart; counts what it was asked."""

    def __init__(self, scores: Mapping[str, float]):
        self.scores, self.asked = scores, 0

    def score(self, prompts: Sequence[str], responses: Sequence[str], ended: Any = None) -> list[float]:
        self.asked += len(responses)
        return [self.scores[response] for response in responses]


class Words:
    """A tokenizer of words, whose end-of-sequence text is a word of its own."""

    eos_token = "<eos>"

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[str]]:
        return {"input_ids": text.replace("<eos>", " <eos>").split()}


# Two members that see two samples and a reference; the second's unit is ten times as large and its zero elsewhere.
FIRST = {" good one": 2.0, " long one of six words": 3.0, " ref": 1.0}
SECOND = {" good one": 120.0, " long one of six words": 90.0, " ref": 100.0}
OUTPUTS = [" good one<eos>", " long one of six words"]


def rewards(how: str, factors: Sequence[float] = (1.0, 0.1), **options: Any) -> list[float]:
    ensemble = EnsembleScorer([Table(FIRST), Table(SECOND)], how, options.pop("std_weight", 1.0), factors)  # type: ignore[arg-type]
    reward = ReferenceReward(lambda: ensemble, response_text, **options)
    return reward(["p", "p"], OUTPUTS, Words(), sample_id=["a", "a"], reference=["ref", "ref"])


def test_members_are_compared_with_their_own_reference_before_they_are_combined() -> None:
    # Relative: first 1 and 2; second (20, -10) * 0.1 = 2 and -1.
    assert rewards("mean") == pytest.approx([1.5, 0.5])
    assert rewards("min") == pytest.approx([1.0, -1.0])
    # Population deviations: 0.5 of (1, 2), 1.5 of (2, -1).
    assert rewards("mean_minus_std") == pytest.approx([1.0, -1.0])
    assert rewards("mean_minus_std", std_weight=0.5) == pytest.approx([1.25, -0.25])


def test_combining_first_and_subtracting_then_would_be_another_reward() -> None:
    # min(2, 12) - min(1, 10) = 1 and min(3, 9) - 1 = 2: the member with the greater zero would never be heard.
    assert rewards("min")[1] != pytest.approx(2.0)


def test_plain_scores_are_combined_as_they_are() -> None:
    assert rewards("min", relative=False) == pytest.approx([2.0, 3.0])
    assert rewards("mean", relative=False) == pytest.approx([(2 + 12) / 2, (3 + 9) / 2])


def test_length_costs_points_for_each_token_over_the_free_ones() -> None:
    # Tokens: "good one <eos>" 3; the second was cut and has 5.
    assert rewards("mean", length_penalty=0.25, length_free=2) == pytest.approx([1.5 - 0.25, 0.5 - 0.75])
    assert rewards("mean", length_penalty=0.25, length_free=3) == pytest.approx([1.5, 0.5 - 0.5])
    assert rewards("mean", length_penalty=0.0, length_free=0) == pytest.approx([1.5, 0.5])


def test_references_are_scored_once_by_each_member() -> None:
    members = [Table(FIRST), Table(SECOND)]
    reward = ReferenceReward(lambda: EnsembleScorer(members), response_text)
    for _ in range(3):
        reward(["p"], [" good one<eos>"], Words(), sample_id=["a"], reference=["ref"])
    assert [member.asked for member in members] == [4, 4]  # three samples, one reference


def test_one_scorer_is_an_ensemble_of_one() -> None:
    reward = ReferenceReward(lambda: Table(FIRST), response_text)
    assert reward(["p"], OUTPUTS[1:], Words(), sample_id=["a"], reference=["ref"]) == [2.0]


SCORES = st.lists(st.floats(-50, 50), min_size=1, max_size=6)


@given(SCORES, st.floats(0, 3))
def test_careful_ways_never_pay_more_than_the_mean(scores: list[float], weight: float) -> None:
    mean = combined(scores, "mean")
    assert combined(scores, "min") <= mean + 1e-9
    assert combined(scores, "mean_minus_std", weight) <= mean + 1e-9
    assert combined(scores, "mean_minus_std", 0.0) == mean
    # No score of k lies further below the mean than sqrt(k - 1) deviations (Samuelson's inequality).
    assert combined(scores, "mean_minus_std", math.sqrt(len(scores) - 1)) <= combined(scores, "min") + 1e-6


@given(st.sampled_from(["mean", "min", "mean_minus_std"]), SCORES, st.floats(-9, 9), st.floats(0.1, 9))
def test_a_common_zero_and_unit_go_through(how: Any, scores: list[float], zero: float, unit: float) -> None:
    moved = combined([unit * score + zero for score in scores], how)
    assert moved == pytest.approx(unit * combined(scores, how) + zero, abs=1e-6)


def test_factors_make_references_spread_alike() -> None:
    assert scale_factors([1.0, 3.0]) == [2.0, pytest.approx(2 / 3)]  # both then spread by 2, the mean
    assert scale_factors([1.7]) == [1.0]
    assert scale_factors([1.0, None, 3.0]) == scale_factors([1.0, 0.0, 3.0]) == [1.0, 1.0, 1.0]


def test_the_spread_is_read_from_what_training_left(tmp_path: Path) -> None:
    assert reference_std(tmp_path) is None
    path = tmp_path / "results.json"
    for text, std in (('{"references": {"std": 1.5}}', 1.5), ('{"references": {"std": 0}}', None), ("[]", None)):
        path.write_text(text)
        assert reference_std(tmp_path) == std
    path.write_text("{")
    with pytest.raises(UserError, match=r"results\.json is not JSON"):
        reference_std(tmp_path)


def test_an_ensemble_needs_members_and_a_factor_for_each() -> None:
    with pytest.raises(ValueError, match="needs a member"):
        EnsembleScorer([])
    with pytest.raises(ValueError, match="1 factors for 2 members"):
        EnsembleScorer([Table(FIRST), Table(SECOND)], factors=[1.0])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two reward models with other heads, whose references spread by 1 and by 3."""
    folder = tmp_path_factory.mktemp("members")
    base = tiny_base(folder / "base")
    for seed, std in ((1, 1.0), (2, 3.0)):
        torch.manual_seed(seed)
        tokenizer = new_reward_tokenizer(base)
        new_reward_model(base, tokenizer).save_pretrained(folder / str(seed))
        tokenizer.save_pretrained(folder / str(seed))
        (folder / str(seed) / "results.json").write_text(json.dumps({"references": {"std": std}}))
    return [str(folder / "1"), str(folder / "2")]


def test_options_make_the_reward(models: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = RewardOptions(reward_model=",".join(models), reward_combine="min", length_penalty=0.5, length_free=0)
    folders = reward_folders(options, "unused")
    assert folders == models
    reward = make_reward(options, folders, "cpu", torch.float32, 64, response_text)
    tokenizer = RewardScorer.load(models[0]).tokenizer
    prompt, sample, truth = "TL;DR:", " the cat", "my sister lost the keys."
    (value,) = reward([prompt], [sample], tokenizer, sample_id=["a"], reference=[truth])
    alone = [RewardScorer.load(model, max_length=64) for model in models]
    gains = [one.score([prompt], [sample], [False])[0] - one.score([prompt], [" " + truth])[0] for one in alone]
    cost = 0.5 * len(tokenizer(sample)["input_ids"])
    assert value == pytest.approx(min(2.0 * gains[0], 2 / 3 * gains[1]) - cost, abs=1e-5)
    assert abs(gains[0] - gains[1]) > 1e-3 and not capsys.readouterr().out
    (Path(models[1]) / "results.json").unlink()
    assert load_scorer(options, folders, "cpu", torch.float32, 64).factors == [1.0, 1.0]
    assert "scores are not rescaled" in capsys.readouterr().out


def test_options_that_cannot_be_meant() -> None:
    assert reward_folders(RewardOptions(), "here") == ["here"]
    assert reward_folders(RewardOptions(reward_model="a, b"), "here") == ["a", "b"]
    for options, told in (
        (RewardOptions(reward_model="a,"), "names nothing between commas"),
        (RewardOptions(reward_model="a,b,a"), "names a twice"),
        (RewardOptions(reward_model="a,./a/"), r"names a twice \(as ./a/\)"),
        (RewardOptions(reward_combine="min"), "--reward_combine min needs several models: give --reward_model A,B"),
    ):
        with pytest.raises(UserError, match=told):
            reward_folders(options, "here")
    for name in ("reward_std_weight", "length_penalty", "length_free", "reward_batch_size"):
        with pytest.raises(UserError, match=f"--{name} must be"):
            check_reward_options(RewardOptions(**{name: -1}))


def test_a_stage_can_take_the_options_as_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    options = parse_config(RewardOptions, "x", ["--reward_combine", "mean_minus_std", "--length_penalty", "0.1"])
    assert (options.reward_combine, options.length_penalty) == ("mean_minus_std", 0.1)
    with pytest.raises(SystemExit):
        parse_config(RewardOptions, "x", ["--reward_combine", "median"])
    assert "mean_minus_std" in capsys.readouterr().err


def test_reference_scores_travel_in_a_checkpoint_of_the_same_models() -> None:
    table = Table({**FIRST, " other": 5.0})
    first = ReferenceReward(lambda: table, response_text, models=lambda: "these")
    first(["p"], [" good one<eos>"], Words(), sample_id=["a"], reference=["ref"])
    state = json.loads(json.dumps(first.resume_state()))
    for models, asked in (("these", 1), ("others", 2)):
        again = Table(table.scores)
        reward = ReferenceReward(lambda again=again: again, response_text, models=lambda models=models: models)  # type: ignore[misc]
        reward.load_resume_state(state)
        assert reward(["p"], [" good one<eos>"], Words(), sample_id=["a"], reference=["ref"]) == [1.0]
        assert again.asked == asked
        # the same id with another reference is another post
        assert reward(["p"], [" good one<eos>"], Words(), sample_id=["a"], reference=["other"]) == [-3.0]


def test_without_a_reference_scored_no_weights_are_read_for_a_checkpoint() -> None:
    def read() -> str:
        raise AssertionError("read")

    reward = ReferenceReward(lambda: Table(FIRST), response_text, models=read)
    reward.load_resume_state(reward.resume_state())
