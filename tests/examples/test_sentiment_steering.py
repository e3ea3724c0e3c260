"""The steering exercise's parts: rewards in two ways, labels, prompts, search, tables, models made from files."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from examples import sentiments_miniature
from examples.sentiment_steering import from_scratch, options, prompts, rewards, sources, tables
from examples.sentiment_steering.from_scratch import Size
from examples.sentiment_steering.search import search
from trlx.utils.errors import UserError

TINY = Size(vocabulary=300, layers=1, width=16, positions=16, steps=1, batch=4, rate=1e-3)
TEXTS = ["the film was great .", "", "the plot was weak . " * 9, "Zebra!", "the cast was funny . the pace was tired ."]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random classifier of three labels, as of a bank's."""
    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = from_scratch.word_pieces([sentiments_miniature.write_review(random.Random(0), True)] * 3, TINY)
    names = dict(enumerate(["positive", "negative", "neutral"]))
    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=len(tokenizer), dim=16, n_layers=1, n_heads=4, hidden_dim=32, max_position_embeddings=16,
        id2label=names, label2id={name: number for number, name in names.items()}, initializer_range=1.0,
    )  # fmt: skip
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_pytorch_and_pipeline_give_the_same_reward(classifier: str) -> None:
    """For a long text, which both cut, and an empty one too; the labels' probabilities sum to one."""
    sums = [0.0] * len(TEXTS)
    for label in ("positive", "negative", "neutral"):
        judge = rewards.load_judge(classifier, label)
        by_hand = rewards.by_torch(judge, TEXTS)
        assert rewards.by_pipeline(judge)(TEXTS) == pytest.approx(by_hand, abs=1e-5)
        assert len({round(p, 3) for p in by_hand}) > 2  # they tell texts apart
        sums = [total + p for total, p in zip(sums, by_hand, strict=True)]
    assert sums == pytest.approx([1.0] * len(TEXTS), abs=1e-5)


def test_rewards_by_hand() -> None:
    probabilities = [0.0, 0.25, 0.5, 0.9, 1.0]
    wanted = {
        "positive": [0.0, 0.25, 0.5, 0.9, 1.0],
        "negative": [1.0, 0.75, 0.5, 0.1, 0.0],
        "neutral": [0.0, 0.5, 1.0, 0.2, 0.0],
    }
    for goal, values in wanted.items():
        assert [rewards.GOALS[goal](p) for p in probabilities] == pytest.approx(values)


def test_the_judge_does_not_see_the_end_of_text() -> None:
    seen: list[str] = []

    def score(texts: Sequence[str]) -> list[float]:
        seen.extend(texts)
        return [0.75] * len(texts)

    class Tokenizer:
        eos_token = "</s>"

    reward = rewards.reward_fn(score, "negative")
    assert reward(samples=["so it goes</s>", "</s> on"], prompts=["so", "</s>"], tokenizer=Tokenizer()) == [0.25, 0.25]
    assert seen == ["so it goes", "</s> on"]


def test_labels(classifier: str) -> None:
    names = ["LABEL_0", "Positive"]
    assert rewards.choose_label(names, None, "x") == "Positive"
    assert rewards.choose_label(names, "label_0", "x") == "LABEL_0"
    with pytest.raises(UserError, match=r"has no label 'joy': give --label as one of positive, negative, neutral"):
        rewards.load_judge(classifier, "joy")
    with pytest.raises(UserError, match="x has no label 'positive': give --label as one of LABEL_0, LABEL_1"):
        rewards.choose_label(["LABEL_0", "LABEL_1"], None, "x")
    with pytest.raises(UserError, match="its probability is always 1"):
        rewards.choose_label(["LABEL_0"], "LABEL_0", "x")


def test_a_model_that_is_no_classifier_is_refused(tmp_path: Path) -> None:
    writer = from_scratch.make_writer(tmp_path / "writer", TEXTS[:1] * 4, TINY)
    with pytest.raises(UserError, match=r"writer is no trained classifier \(it lacks score.weight\)"):
        rewards.load_judge(writer, "LABEL_1")


@given(st.lists(st.text("ab \n", max_size=30)), st.integers(0, 99))
def test_prompts_are_the_first_words(reviews: list[str], seed: int) -> None:
    made = prompts.first_words(reviews, seed)
    long_enough = [review for review in reviews if len(review.split()) >= 3]
    assert len(made) == len(long_enough)
    for prompt, review in zip(made, long_enough, strict=True):
        words = prompt.split(" ")
        assert 3 <= len(words) <= 5
        assert words == review.split()[: len(words)]


def test_prompts_have_each_length() -> None:
    made = prompts.first_words(["a b c d e f"] * 60)
    assert {len(prompt.split()) for prompt in made} == {3, 4, 5}


def test_kinds_of_prompts() -> None:
    scores = {"a": 0.9, "b": 0.1, "c": 0.45, "d": 0.7, "e": 0.2, "f": 0.52, "g": 0.95}
    found = prompts.by_kind(list(scores), list(scores.values()), 2)
    assert found == {"positive": ["a", "g"], "negative": ["b", "e"], "neutral": ["f", "c"]}
    few = prompts.by_kind(list(scores), list(scores.values()), 100)
    assert [len(kind) for kind in few.values()] == [2, 2, 2]


def test_prompts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "headlines.txt"
    file.write_text("\ufeffShares of X\n\n  Profits fell \nA bank\n", encoding="utf-8")
    assert prompts.read_prompts(str(file)) == ["Shares of X", "Profits fell", "A bank"]
    file.write_text("only\nonly\nonly\n")
    with pytest.raises(UserError, match=r"has 1 different prompts: give 3 or more"):
        prompts.read_prompts(str(file))
    with pytest.raises(UserError, match=r"cannot be read .*give a text file, one prompt a line"):
        prompts.read_prompts(str(tmp_path / "absent.txt"))


@settings(max_examples=25)
@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
def test_search_returns_the_best_of_what_it_scored(seed: int, width: int, branch: int, rounds: int) -> None:
    rng = random.Random(seed)
    scored: dict[str, float] = {}
    asked: list[int] = []

    def extend(texts: Sequence[str]) -> list[str]:
        asked.append(len(texts))
        return [text + rng.choice("abcde") for text in texts]

    def score(texts: Sequence[str]) -> list[float]:
        values = [random.Random(text).random() for text in texts]
        scored.update(zip(texts, values, strict=True))
        return values

    found = search(["x", "y"], extend, score, width, branch, rounds)
    assert found.scores == scored
    assert found.score == scored[found.text] == max(scored.values())
    assert asked[0] == 2 * branch
    assert all(count <= width * branch for count in asked[1:])
    assert len(asked) == rounds


def test_search_goes_on_from_the_best() -> None:
    """Width 1: of xa and xb the judge prefers xb, so xa is not continued, though xab would have been the best."""
    turns = iter("ab" * 4)
    values = {"xa": 1.0, "xb": 2.0, "xba": 3.0, "xbb": 1.0}
    found = search(["x"], lambda texts: [t + next(turns) for t in texts], lambda ts: [values[t] for t in ts], 1, 2, 2)
    assert (found.text, found.score, len(found.scores)) == ("xba", 3.0, 4)
    with pytest.raises(ValueError, match="at least 1"):
        search(["x"], list, lambda texts: [0.0], 1, 0, 1)


def test_pieces_are_whole_sentences() -> None:
    text = "One two. Three four five! Six? Seven eight nine ten eleven twelve."
    assert from_scratch.pieces(text, 5) == ["One two. Three four five!", "Six?", "Seven eight nine ten eleven"]
    assert from_scratch.pieces("  ", 5) == []


def test_no_film_is_in_both_halves() -> None:
    films = [f"tt{number // 3}" for number in range(90)]
    whole = sources.Reviews(list(map(str, range(90))), [1] * 90, films)
    first, second = (whole.half(which).texts for which in (0, 1))
    assert sorted(first + second) == sorted(whole.texts)
    assert min(len(first), len(second)) > 20
    assert not {films[int(row)] for row in first} & {films[int(row)] for row in second}


def test_table_by_hand() -> None:
    """Two of four above one half before, four of four after; the second judge reads outputs alone."""

    def score(texts: Sequence[str]) -> list[float]:
        return [0.75 if text.endswith("good") else 0.25 for text in texts]

    asked: list[str] = []

    def second(texts: Sequence[str]) -> list[float]:
        asked.extend(texts)
        return [1.0] * len(texts)

    before = tables.judge_outputs(["a "] * 4, ["good", "bad", "good", "bad"], score, second)
    after = tables.judge_outputs(["a "] * 4, ["good"] * 4, score, None)
    assert asked == ["good", "bad", "good", "bad"]
    table = tables.before_after("neutral", "POSITIVE", {"odd": before}, {"odd": after})
    assert table.header == ["Prompts", "POSITIVE", "p", "Reward"]  # no second judge where one side has none
    # Wilson for 2 of 4: (.5 + z²/8 ± z sqrt(1/16 + z²/64)) / (1 + z²/4) with z = 1.96: .5 ± .35; for 4 of 4 from .51.
    assert table.rows[0][:2] == ["odd, before", "0.50 [0.15, 0.85]"]
    assert table.rows[1][1:] == ["1.00 [0.51, 1.00]", "0.75 [0.75, 0.75]", "0.50 [0.50, 0.50]"]
    lines = tables.examples({"odd": before}, {"odd": after}, count=1)
    assert lines == ["odd prompt: a ", "    before (0.75): good", "    after (0.75): good"]


@pytest.fixture
def imdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> options.Options:
    """Files of a few reviews, and models of no size."""
    for name in ("JUDGE", "WRITER"):
        monkeypatch.setattr(sources, name, TINY)
    rng = random.Random(0)
    for split in ("train", "test"):
        rows = [
            {"text": sentiments_miniature.write_review(rng, bool(row % 2)), "label": row % 2, "movie": f"tt{row}"}
            for row in range(12)
        ]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return options.Options("imdb-files", data=str(tmp_path), out=str(tmp_path / "out"))


def test_models_from_files_are_made_once(imdb: options.Options, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sources.open_material(imdb)
    assert sum(first.train.labels) == 6
    assert rewards.load_judge(first.judge).labels == ["NEGATIVE", "POSITIVE"]
    assert len({first.judge, first.second, first.writer}) == 3

    def fit(*_: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(from_scratch, "fit", fit)
    again = sources.open_material(imdb)
    assert (again.writer, again.judge, again.second) == (first.writer, first.judge, first.second)
    file = Path(str(imdb.data)) / "train.jsonl"
    file.write_text(file.read_text().replace("was", "is"))
    with pytest.raises(AssertionError, match="made again"):  # other reviews, other models
        sources.open_material(imdb)


def test_labels_of_files_that_cannot_be(imdb: options.Options) -> None:
    file = Path(str(imdb.data)) / "train.jsonl"
    file.write_text('{"text": "fine enough", "label": 3}\n')
    with pytest.raises(UserError, match=r"train.jsonl, line 1: .*neither positive nor negative"):
        sources.open_material(imdb)
    file.write_text('{"text": "fine enough"}\n')
    with pytest.raises(UserError, match=r"train.jsonl, line 1: no column label"):
        sources.open_material(imdb)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--goals", '["hapiness"]'], "--goals has 'hapiness'; known: negative, neutral, positive"),
        (["--source", "imdb-files"], "--source imdb-files needs --data"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--count", "1"], "count must be at least 2"),
    ],
)
def test_options_that_cannot_be(argv: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["steer.py", *argv])
    monkeypatch.setattr("sys.excepthook", None)
    with pytest.raises(UserError) as caught:
        options.read_options()
    assert message in str(caught.value)


def test_a_script_without_main_ends_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options._plainly(UserError, UserError("no such thing"), None)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: no such thing\n"
