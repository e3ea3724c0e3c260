"""The report on a console: every number is there, at any width, whatever the data hold."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tasks.inspection.duplicates import Overlap, Shared
from tasks.inspection.lengths import spread
from tasks.inspection.near import Near, NearPair
from tasks.inspection.report import BadReason, Column, Finding, Fit, Report, Rollouts, SplitReport
from tasks.inspection.tables import show
from tasks.inspection.view import Example

LENGTHS = {name: found for name in ("prompt", "response", "sum") if (found := spread([3, 4, 1000]))}


def split(name: str) -> SplitReport:
    return SplitReport(
        name=name,
        rows=1234,
        usable=1200,
        format="carperai-posts",
        files={f"data/{name}.jsonl": 1234},
        columns={"prompt": Column(1234, 0, True), "label": Column(1230, 30, True), "[red]url": Column(1, 0, False)},
        bad=(BadReason("'label' is empty", 34, f"data/{name}.jsonl, line 5", "mend or drop the row"),),
        dropped={"identical": 2, "short": 3},
        facets={"confidence": {str(value): 10 * value for value in range(1, 20)}},
        workers=7,
        lengths=LENGTHS,
        chosen_longer=0.555,
        fit=Fit(550, 1200, 60, 12.34, 2, "data/x.jsonl, line 9"),
        rollouts=Rollouts(500, 50, 70, 80),
    )


def report(*names: str) -> Report:
    shared = (Shared("train", "test", 7, (("data/train.jsonl, line 1", "data/test.jsonl, line 2"),)),)
    both = Overlap("post", dict.fromkeys(names, 1200), dict.fromkeys(names, 11), shared if len(names) > 1 else ())
    pair = NearPair(0.9, ("data/train.jsonl, line 3", "data/test.jsonl, line 4"), ("a \x1b[31mcat", "a dog"))
    return Report(
        source="data",
        kind="posts",
        unit="tokens",
        splits=tuple(map(split, names)),
        overlaps=(both,),
        contradictions={"train": 5},
        near_threshold=0.8,
        near=(Near("train", "test", 1, (pair,)),) if len(names) > 1 else (),
        examples=(
            Example("train", "data/train.jsonl, line 8", "POST: a\nTL;DR:", (" b<|endoftext|>",), (9, 3), 4),
            Example("train", "data/train.jsonl, line 9", "POST: c\nTL;DR:", (" d", " e"), note="does not fit"),
        ),
        findings=(Finding("train: leaks", "drop them"), Finding("test: leaks", "drop them")),
    )


def shown(what: Report, width: int, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    show(what, Console(file=file, width=width, highlight=False, markup=False, emoji=False))
    file.flush()
    return file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_every_number_is_there(width: int) -> None:
    text = shown(report("train", "test"), width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for said in (
        "1,234 rows: 1,200 usable, 34 bad",
        "2 with both sides the same, 3 with a side that is too short",
        "data/train.jsonl (1,234)",
        "34 'label' is empty data/train.jsonl, line 5 mend or drop the row",
        "labelled by 7 people",
        "the longer one in 55.5% of the pairs",
        "60 (5.0%) of the prompts lose text, 12.3 tokens each on average",
        "cannot fit at all: 2, first data/x.jsonl, line 9",
        "a prompt gets 500 tokens: 70 (5.8%) are cut; 80 (6.7%) of the references",
        "train 1,200 1,189 - 7",
        "test 1,200 1,189 7 -",
        "data/test.jsonl, line 2 = data/train.jsonl, line 1",
        "1 post of test nearly the same as one of train (five-word runs in common at least 0.8)",
        "0.900 data/test.jsonl, line 4 ~ data/train.jsonl, line 3 a dog a \\x1b[31mcat",
        "tokens: 9 prompt, 3 response; 4 cut from the prompt",
        "POST: a⏎ TL;DR:▶ b<|endoftext|>",
        "(does not fit)",
        "- train: leaks - test: leaks → drop them",
        "chosen ▶ d",
        "rejected ▶ e",
    ):
        assert said in words, said
    assert "\x1b" not in text
    assert words.count("[red]url") == 4  # markup in the data is text; once as a column and once as one with gaps


def test_facets_are_cut_to_the_commonest() -> None:
    lines = [line.split() for line in shown(report("train"), 100).splitlines()]
    assert ["19", "190"] in lines and ["8", "80"] in lines
    assert ["7", "70"] not in lines
    assert ["others", str(sum(10 * value for value in range(1, 8)))] in lines


def test_one_split_needs_no_matrix() -> None:
    assert "post: 1,189 distinct in 1,200 rows" in shown(report("train"), 100)


def test_a_console_that_knows_no_blocks() -> None:
    text = shown(report("train"), 100, "ascii")
    assert "████" not in text and "####" in text


def test_nothing_to_worry_about() -> None:
    bare = Report("data", "posts", "words", (SplitReport("train", 0, 0, "carperai-posts"),))
    text = shown(bare, 100)
    assert "nothing to worry about" in text
    assert "as the model sees them" not in text
