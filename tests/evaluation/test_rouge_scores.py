"""ROUGE: numbers worked by hand, and rouge-score itself on random texts."""

from __future__ import annotations

import evaluate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from evaluation.rouge_scores import METRIC_FOLDER, ROUGE_TYPES, rouge_average, rouge_both, rouge_f1


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        # 2 of 3 words right, 2 of 2 found: F = 2·(2/3)·1 / (5/3) = 0.8; bigrams 1 of 2, 1 of 1: F = 2/3.
        ("the cat sat", "the cat", (0.8, 2 / 3, 0.8)),
        ("the cat", "the cat", (1.0, 1.0, 1.0)),
        # The same words backwards: every unigram, no bigram, a common subsequence of one word of three.
        ("sat cat the", "the cat sat", (1.0, 0.0, 1 / 3)),
        ("", "the cat", (0.0, 0.0, 0.0)),
        # No stemmer: "cats" is not "cat".
        ("cats", "cat", (0.0, 0.0, 0.0)),
        # Case and punctuation do not count.
        ("The cat!", "the cat", (1.0, 1.0, 1.0)),
    ],
)
def test_by_hand(prediction: str, reference: str, expected: tuple[float, float, float]) -> None:
    scores = rouge_f1([prediction], [reference])
    assert tuple(scores[name][0] for name in ROUGE_TYPES) == pytest.approx(expected)


def test_one_value_a_sample_in_order() -> None:
    scores = rouge_f1(["a b", "x", "a"], ["a b", "y", "a b"])
    assert scores["rouge1"] == pytest.approx([1.0, 0.0, 2 / 3])
    # Third sample: (2/3 + 0 + 2/3) / 3.
    assert rouge_average(scores) == pytest.approx([1.0, 0.0, 4 / 9])


_WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "cats", "on", "mat."]), max_size=8).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(_WORDS, _WORDS, st.booleans())
def test_same_as_rouge_score(prediction: str, reference: str, use_stemmer: bool) -> None:
    expected = rouge_scorer.RougeScorer(list(ROUGE_TYPES), use_stemmer=use_stemmer).score(reference, prediction)
    scores = rouge_f1([prediction], [reference], use_stemmer)
    for name in ROUGE_TYPES:
        assert scores[name] == [expected[name].fmeasure]


def test_with_and_without_stems() -> None:
    # By its stem "cats" is "cat"; "mats" and "mat" likewise. Of three letters or fewer nothing is cut: "its", "it".
    both = rouge_both(["cats on mats", "its"], ["cat on mat", "it"])
    assert both.plain == rouge_f1(["cats on mats", "its"], ["cat on mat", "it"])
    assert both.plain["rouge1"] == pytest.approx([1 / 3, 0.0])
    assert both.stemmed["rouge1"] == pytest.approx([1.0, 0.0])
    assert both.stemmed["rouge2"] == pytest.approx([1.0, 0.0])
    assert list(both.columns()) == [*ROUGE_TYPES, "rouge1_stemmed", "rouge2_stemmed", "rougeL_stemmed"]
    assert both.columns()["rougeL_stemmed"] == both.stemmed["rougeL"]


def test_evaluate_loads_it_by_path_without_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    metric = evaluate.load(str(METRIC_FOLDER), keep_in_memory=True)
    given_ = {"predictions": ["the cat sat", "a"], "references": ["the cat", "b"]}
    assert metric.compute(**given_)["rouge1"] == pytest.approx([0.8, 0.0])
    assert metric.compute(**given_, use_aggregator=True)["rouge1"] == pytest.approx(0.4)
    assert metric.compute(predictions=["cats"], references=["cat"], use_stemmer=True)["rouge1"] == [1.0]


def test_unequal_lengths_and_nothing() -> None:
    with pytest.raises(ValueError, match="2 predictions for 1 references"):
        rouge_f1(["a", "b"], ["a"])
    assert rouge_f1([], []) == {name: [] for name in ROUGE_TYPES}
