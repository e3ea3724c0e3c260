"""Models' samples side by side: matched by id, and what does not fit is said."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from evaluation.report.data import Sample
from evaluation.report.joining import join
from evaluation.samples import SampleRow
from tests.evaluation.sample_rows import row


def joined(**models: list[SampleRow]) -> tuple[list[str], list[Sample], list[str]]:
    said: list[str] = []
    names, samples = join(models, said.append)
    return names, samples, said


def test_a_post_has_its_parts_and_every_models_summary() -> None:
    sft = row(1, reward=-1.5, gold_pred=0.25, gold_truth=0.75, faults="repeats no_eos", ended=False, second_pred=3.0)
    names, [sample], said = joined(sft=[sft], ppo=[row(1, reward=2.5, pred="other")])
    assert (names, said) == (["sft", "ppo"], [])
    assert (sample.id, sample.subreddit, sample.title) == ("p1", "pets", "Title 1")
    assert (sample.post, sample.reference) == ("The body of post 1.", "reference 1")
    assert sample.reference_scores == {"reward": 0.5, "gold": 0.75}  # the second reward was never measured
    assert list(sample.outputs) == ["sft", "ppo"]
    ours = sample.outputs["sft"]
    expected = {"reward": -1.5, "second_reward": 3.0, "gold": 0.25, "rouge1": 0.1, "rouge2": 0.2, "rougeL": 0.3}
    assert ours.scores == expected
    assert (ours.text, ours.tokens, ours.ended, ours.faults) == ("summary 1", 6, False, ["repeats", "no_eos"])
    assert sample.outputs["ppo"].text == "other"
    assert "gold" not in sample.outputs["ppo"].scores


def test_posts_that_a_model_lacks_are_named_and_left_out() -> None:
    _, samples, said = joined(sft=[row(n) for n in range(9)], ppo=[row(n) for n in (8, 1)])
    assert [sample.id for sample in samples] == ["p1", "p8"]  # in the order of the first model
    assert said == [
        "ppo lacks 7 of 9 posts (ids 'p0', 'p2', 'p3', 'p4', 'p5', ... 2 more), which are left out: "
        "evaluate all models in one call."
    ]


def test_models_without_a_common_post() -> None:
    names, samples, said = joined(sft=[row(1)], ppo=[row(2)])
    assert (names, samples) == (["sft", "ppo"], [])
    assert [sentence.split(" posts")[0] for sentence in said] == ["sft lacks 1 of 2", "ppo lacks 1 of 2"]


def test_other_posts_under_the_same_id() -> None:
    _, samples, [said] = joined(sft=[row(1), row(2)], ppo=[row(1), row(2, post="POST: something else\nTL;DR:")])
    assert [sample.id for sample in samples] == ["p1"]
    assert said.startswith("Models read different posts or references under id 'p2'")


def test_numbers_that_are_none_are_counted_and_empty() -> None:
    rows = [row(0, reward=math.nan), row(1, reward=math.inf), row(2, rouge2=math.nan), row(3)]
    _, samples, said = joined(sft=rows)
    assert [sample.outputs["sft"].scores["reward"] for sample in samples] == [None, None, 0.0, 0.0]
    assert samples[2].outputs["sft"].scores["rouge2"] is None
    assert said[0].startswith("sft: 2 of 4 values of score_pred are not finite numbers (ids 'p0', 'p1')")
    assert said[1].startswith("sft: 1 of 4 values of rouge2 are not finite numbers (id 'p2')")
    assert len(said) == 2


def test_an_id_twice_shows_its_first_row() -> None:
    _, samples, [said] = joined(sft=[row(1, pred="first"), row(1, pred="second"), row(2)])
    assert [sample.outputs["sft"].text for sample in samples] == ["first", "summary 2"]
    assert said == "sft has id 'p1' more than once: the first row of each is shown."


def test_references_scored_by_another_reward_model() -> None:
    _, _, [said] = joined(sft=[row(1)], ppo=[row(1, score_truth=0.9)])
    assert said.startswith("ppo and sft were not scored by the same reward model")
    assert not joined(sft=[row(1)], ppo=[row(1, score_truth=0.5 + 1e-5)])[2]  # other batches, other rounding
    assert len(joined(sft=[row(1)], ppo=[row(1, score_truth=math.nan)])[2]) == 1  # said once, as no number


def test_an_empty_file_is_no_model() -> None:
    assert joined(sft=[]) == ([], [], [])
    assert joined(sft=[], ppo=[row(1)])[0] == ["ppo"]


@given(st.lists(st.sets(st.integers(0, 12)), min_size=1, max_size=4))
def test_what_is_shown_is_what_all_models_have(chosen: list[set[int]]) -> None:
    _, samples, said = joined(**{f"m{place}": [row(n) for n in sorted(ids)] for place, ids in enumerate(chosen)})
    filled = [ids for ids in chosen if ids]
    common = set.intersection(*filled) if filled else set()
    assert [sample.id for sample in samples] == [f"p{n}" for n in sorted(common)]
    every = set().union(*filled)
    assert len(said) == sum(ids != every for ids in filled)
