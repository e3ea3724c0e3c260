"""Each source of instructions written in each of the three formats, which `tasks.instruct` reads back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.convert import ConvertOptions, convert
from tasks.instruct import TASK, clean_prompt, clean_response, format_instruction
from tasks.instructions.example import Answer, Choice, Example
from tasks.instructions.targets import TARGETS, written
from tasks.reading.rows import Skipped
from trlx.utils.errors import UserError

DOLLY = [
    {"instruction": "Which of these floats?", "context": "", "response": "A cork", "category": "classification"},
    {
        "instruction": "When was it built?",
        "context": "It was built in 1871.",
        "response": " In 1871\n",
        "category": "qa",
    },
]
ALPACA = [
    {"instruction": "Name a warm colour.", "input": "", "output": "Red"},
    {"instruction": "Put this into the past tense.", "input": "She sings.", "output": "She sang."},
]
MILK = "\n\nHuman: Can I freeze milk?\n\nAssistant:"
STATIC = [
    {"prompt": MILK, "response": " Yes, for a month.", "chosen": " Yes, for a month.", "rejected": " No."},
    {"prompt": MILK, "response": " Yes.", "chosen": " Yes.", "rejected": " Never."},
]
HH = [{"chosen": f"{MILK} Yes, for a month.", "rejected": f"{MILK} No."}]
OURS = [{"instruction": "Why?", "chosen": "Because.", "rejected": "No."}]


def message(name: str, parent: str | None, text: str, rank: int | None = None, lang: str = "en") -> dict[str, Any]:
    role = "prompter" if (parent is None or parent.startswith("a")) else "assistant"
    return {"message_id": name, "parent_id": parent, "role": role, "text": text, "rank": rank, "lang": lang}


MESSAGES = [
    message("p1", None, "How do I keep bread fresh?"),
    message("a1", "p1", "In the fridge.", 1),
    message("a2", "p1", "In a paper bag.", 0),
    message("a3", "p1", "Do not.", 2),
    message("p2", "a2", "And in summer?"),
    message("a4", "p2", "Freeze it."),
    message("p3", None, "Wie spät ist es?", lang="de"),
    message("a5", "p3", "Drei.", 0, "de"),
]
SUMMER = "\n\nHuman: How do I keep bread fresh?\n\nAssistant: In a paper bag.\n\nHuman: And in summer?\n\nAssistant:"


def jsonl(path: Path, rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(folder: Path, rows: Any, to: str, **options: Any) -> tuple[str, list[dict[str, Any]]]:
    """What is said, and the rows that are written."""
    data, out = jsonl(folder / "in.jsonl", rows), folder / "out" / "x.jsonl"
    said = convert(ConvertOptions(data=str(data), to=to, out=str(out), overwrite=True, **options))
    return str(said).replace(f"{folder}/", ""), lines(out)


BREAD = "How do I keep bread fresh?"


@pytest.mark.parametrize(
    "rows, instructions, prompts",
    [
        (
            DOLLY,
            [
                {"instruction": "Which of these floats?", "context": "", "response": "A cork"},
                {"instruction": "When was it built?", "context": "It was built in 1871.", "response": "In 1871"},
            ],
            ["Which of these floats?", format_instruction("When was it built?", "It was built in 1871.")],
        ),
        (
            ALPACA,
            [
                {"instruction": "Name a warm colour.", "context": "", "response": "Red"},
                {"instruction": "Put this into the past tense.", "context": "She sings.", "response": "She sang."},
            ],
            ["Name a warm colour.", format_instruction("Put this into the past tense.", "She sings.")],
        ),
        (
            STATIC,
            [
                {"instruction": MILK, "context": "", "response": "Yes, for a month."},
                {"instruction": MILK, "context": "", "response": "Yes."},
            ],
            [MILK],  # once
        ),
        (HH, [{"instruction": MILK, "context": "", "response": "Yes, for a month."}], [MILK]),
        (OURS, [{"instruction": "Why?", "context": "", "response": "Because."}], ["Why?"]),
        (
            MESSAGES,
            [
                {"instruction": BREAD, "context": "", "response": "In a paper bag."},
                {"instruction": "Wie spät ist es?", "context": "", "response": "Drei."},
            ],
            [BREAD, "Wie spät ist es?"],
        ),
    ],
    ids=["dolly", "alpaca", "rm-static", "hh-rlhf", "pairs", "oasst"],
)
def test_instructions_and_prompts(tmp_path: Path, rows: Any, instructions: Any, prompts: list[str]) -> None:
    assert run(tmp_path, rows, "instructions")[1] == instructions
    assert run(tmp_path, rows, "instruction-prompts")[1] == [{"prompt": prompt} for prompt in prompts]


@pytest.mark.parametrize(
    "rows, pairs, said",
    [
        (STATIC, [(MILK, "Yes, for a month.", "No."), (MILK, "Yes.", "Never.")], "2 written"),
        (HH, [(MILK, "Yes, for a month.", "No.")], "1 written"),
        (OURS, [("Why?", "Because.", "No.")], "1 written"),
        (MESSAGES, [(BREAD, "In a paper bag.", "Do not.")], "1 written; dropped: 1 without ranked answers"),
    ],
    ids=["rm-static", "hh-rlhf", "pairs", "oasst"],
)
def test_pairs(tmp_path: Path, rows: Any, pairs: Any, said: str) -> None:
    expected = [dict(zip(("instruction", "chosen", "rejected"), pair, strict=True)) for pair in pairs]
    assert run(tmp_path, rows, "instruction-pairs") == (said, expected)


def test_options_of_conversations(tmp_path: Path) -> None:
    said, found = run(tmp_path, MESSAGES, "instruction-pairs", rejected="each", lang="en")
    assert said == "2 written; dropped: 1 in another language"
    assert [(row["chosen"], row["rejected"]) for row in found] == [
        ("In a paper bag.", "In the fridge."),
        ("In a paper bag.", "Do not."),
    ]
    said, found = run(tmp_path, MESSAGES, "instructions", turns="all", lang="en")
    assert found[1:] == [{"instruction": SUMMER, "context": "", "response": "Freeze it."}]
    said, found = run(tmp_path, MESSAGES, "instruction-prompts", turns="all", limit=2)
    assert [row["prompt"] for row in found] == [BREAD, SUMMER]


def test_a_list_in_a_json_file_and_splits_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "alpaca.json").write_text(json.dumps(ALPACA, indent=2))
    out = tmp_path / "x.csv.gz"
    said = convert(ConvertOptions(data=str(tmp_path / "alpaca.json"), to="instructions", out=str(out)))
    assert str(said) == "2 written"
    assert [post.summary for post in TASK.load_posts(str(out), None)] == ["Red", "She sang."]
    (tmp_path / "data").mkdir()
    jsonl(tmp_path / "data" / "train.jsonl", DOLLY)
    jsonl(tmp_path / "data" / "test.jsonl", DOLLY[:1])
    folder = tmp_path / "out"
    said = convert(ConvertOptions(data=str(tmp_path / "data"), to="instructions", out=str(folder)))
    assert str(said) == "3 written (train 2, test 1)"
    assert len(lines(folder / "train.jsonl")) == 2


# ---------------------------------------------------------------- rows and options that are refused


@pytest.mark.parametrize(
    "rows, to, bad",
    [
        ([*DOLLY, {**DOLLY[0], "response": ""}], "instructions", "line 3: the response is empty: fill it in, drop"),
        ([*DOLLY, {**DOLLY[0], "response": 5}], "instruction-prompts", "line 3: 'response' is not text (a number)"),
        ([*DOLLY, {"context": "", "response": "a"}], "instructions", "line 3: no column 'instruction'"),
        ([*ALPACA, {**ALPACA[0], "instruction": " "}], "instructions", "line 3: 'instruction' is empty"),
        ([*ALPACA, {**ALPACA[0], "prompt": "b"}], "instructions", "line 3: both 'instruction' and 'prompt', which"),
        ([*STATIC, {**STATIC[0], "chosen": None}], "instruction-pairs", "line 3: 'chosen' is empty (null)"),
        ([*STATIC, {**STATIC[0], "instruction": "b"}], "instruction-pairs", "line 3: both 'instruction' and 'prompt'"),
        ([*STATIC, {"prompt": "a"}], "instruction-pairs", "line 3: pairs need the columns"),
        ([*OURS, {**OURS[0], "instruction": "<|endoftext|>"}], "instruction-pairs", "line 2: the instruction is empty"),
        ([*MESSAGES, {**MESSAGES[1], "message_id": "x", "role": "system"}], "instructions", "line 9: a role must be"),
    ],
)
def test_a_bad_row_stops_or_is_skipped(tmp_path: Path, rows: Any, to: str, bad: str) -> None:
    with pytest.raises(UserError) as caught:
        run(tmp_path, rows, to)
    assert bad in str(caught.value).replace(f"{tmp_path}/", "") and "in.jsonl" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if path.name != "out"] == ["in.jsonl"]
    assert not list((tmp_path / "out").glob("*"))
    said, found = run(tmp_path, rows, to, bad_rows="skip")
    assert "1 rows skipped: 1 " in said and found == run(tmp_path, rows[:-1], to)[1]


@pytest.mark.parametrize(
    "rows, options, reason",
    [
        (DOLLY, {"to": "instruction-pairs"}, "line 1: Dolly's rows have one answer each, of which no pair can be made"),
        (ALPACA, {"to": "instruction-pairs"}, "line 1: Alpaca's rows have one answer each"),
        (DOLLY, {"lang": "en"}, "line 1: Dolly's rows do not tell their language: leave --lang out"),
        (MESSAGES, {"lang": "fr"}, "no row is left to write .0 written; dropped: 2 in another language.: give other"),
        (
            [{"question": "a", "answer": "b"}],
            {},
            "instructions need the columns message_id.*instruction.output .Alpaca",
        ),
        ([{"question": "a"}], {"columns": {"instruction": "qestion"}}, "no column 'qestion'.*did you mean 'question'"),
        (DOLLY, {"to": "instruction-pair"}, "unknown format 'instruction-pair'; did you mean 'instruction-pairs'"),
        (DOLLY, {"limit": 0}, "--limit must be at least 1"),
        ([], {}, "holds no rows"),
    ],
)
def test_what_makes_no_sense(tmp_path: Path, rows: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        run(tmp_path, rows, **{"to": "instructions", **options})


def test_columns_of_other_names(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "b"}]
    columns = {"instruction": "question", "response": "answer"}
    assert run(tmp_path, rows, "instructions", columns=columns)[1][0]["response"] == "b"


# ---------------------------------------------------------------- what is written reads back

PIECES = st.lists(
    st.sampled_from(["é🙂", " ", "\n", "\n\n", "\u2028", "Assistant:", "\n\nHuman:", "### Response:", '"', ","]),
    max_size=6,
).map("".join)
TEXT = st.tuples(PIECES, PIECES).map("cat".join)
EXAMPLES = st.lists(
    st.builds(
        Example,
        TEXT,
        PIECES,
        st.lists(TEXT, min_size=2, max_size=3).map(
            lambda texts: tuple(Answer(text, rank) for rank, text in enumerate(texts))
        ),
        st.just("here"),
    ).filter(
        lambda one: not one.context.strip() or clean_prompt(one.instruction) == format_instruction(one.instruction)
    ),
    min_size=1,
    max_size=4,
)


def asked(example: Example) -> str:
    bare = not example.context.strip()
    return clean_prompt(example.instruction) if bare else format_instruction(example.instruction, example.context)


@settings(deadline=None, max_examples=40)
@given(examples=EXAMPLES)
def test_whatever_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, examples: list[Example]) -> None:
    folder = tmp_path_factory.mktemp("again")

    def rows(to: str) -> str:
        choice = Choice(Skipped(), rejected="each")
        found = [row.values for row in written(examples, TARGETS[to], choice)]
        assert not choice.on_bad.counts  # type: ignore[attr-defined]
        return str(jsonl(folder / f"{to}.jsonl", found))

    posts = TASK.load_posts(rows("instructions"), None)
    assert [(post.prompt, post.summary) for post in posts] == [
        (asked(example), clean_response(example.answers[0].text)) for example in examples
    ]
    prompts = TASK.load_posts(rows("instruction-prompts"), None)
    assert [post.prompt for post in prompts] == list(dict.fromkeys(map(asked, examples)))
    pairs = [
        (asked(example), clean_response(example.answers[0].text), clean_response(answer.text))
        for example in examples
        for answer in example.answers[1:]
    ]
    kept = [pair for pair in pairs if pair[1] != pair[2]]
    if kept:
        read, counts = TASK.load_pairs(rows("instruction-pairs"), None)
        assert [(pair.prompt, pair.chosen, pair.rejected) for pair in read] == kept
        assert counts.kept == counts.total
