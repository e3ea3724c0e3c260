"""Instructions as posts and pairs: three shapes of JSONL, two names of the first key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.instruct import TASK, clean_prompt, clean_response, format_instruction, row, split_prompt
from tasks.reading.rows import BadRow, RawRow
from tasks.records import Pair, Post
from trlx.utils.errors import UserError

DIALOGUE = "\n\nHuman: My cat is lost.\n\nAssistant: Where?\n\nHuman: In the garden.\n\nAssistant:"
QUESTION = "Why do cats sleep?"
ASKED = "### Instruction:\nWhy do cats sleep?\n\n### Response:"


def jsonl(folder: Path, *rows: Any) -> str:
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def post_of(folder: Path, row: dict[str, Any]) -> Post:
    (post,) = TASK.load_posts(jsonl(folder, row), None)
    return post


def pair_of(folder: Path, row: dict[str, Any]) -> Pair:
    ((pair,), _) = TASK.load_pairs(jsonl(folder, row), None)
    return pair


def refused(folder: Path, *rows: Any, pairs: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        (TASK.load_pairs if pairs else TASK.load_posts)(jsonl(folder, *rows), None)
    return str(caught.value).replace(f"{folder}/", "")


# ---------------------------------------------------------------- the three shapes


@pytest.mark.parametrize("context", [{}, {"context": ""}, {"context": " \n"}, {"context": None}])
@pytest.mark.parametrize("key", ["instruction", "prompt"])
def test_an_instruction_with_its_response(tmp_path: Path, key: str, context: dict[str, Any]) -> None:
    post = post_of(tmp_path, {key: f" {QUESTION}\n", **context, "response": " To rest.<|endoftext|>junk"})
    assert (post.prompt, post.summary, post.post) == (ASKED, "To rest.", QUESTION)
    assert not set(post.extra) - {"context"}


@pytest.mark.parametrize("key", ["instruction", "prompt"])
def test_the_context_stands_in_the_prompt(tmp_path: Path, key: str) -> None:
    post = post_of(tmp_path, {key: "Who sings?", "context": "A bird sings.", "response": "A bird", "category": "qa"})
    assert post.prompt == "### Instruction:\nWho sings?\n\n### Context:\nA bird sings.\n\n### Response:"
    assert post.extra == {"category": "qa"}


@pytest.mark.parametrize("key", ["instruction", "prompt"])
def test_two_answers_of_which_one_is_preferred(tmp_path: Path, key: str) -> None:
    values = {key: QUESTION, "chosen": " To rest.", "rejected": " No."}
    pair = pair_of(tmp_path, values)
    assert (pair.prompt, pair.chosen, pair.rejected) == (ASKED, "To rest.", "No.")
    post = post_of(tmp_path, values)  # the better answer is a reference as good as any
    assert (post.prompt, post.summary, post.extra) == (ASKED, "To rest.", {})


@pytest.mark.parametrize("key", ["instruction", "prompt"])
def test_a_prompt_alone_has_an_empty_summary(tmp_path: Path, key: str) -> None:
    post = post_of(tmp_path, {key: QUESTION})
    assert (post.prompt, post.summary) == (ASKED, "")


@pytest.mark.parametrize("key", ["instruction", "prompt"])
def test_a_dialogue_stays_as_it_is(tmp_path: Path, key: str) -> None:
    assert post_of(tmp_path, {key: DIALOGUE + " "}).prompt == DIALOGUE
    pair = pair_of(tmp_path, {key: DIALOGUE, "response": "", "chosen": " Look there.", "rejected": " Buy another."})
    assert (pair.prompt, pair.chosen, pair.rejected) == (DIALOGUE, "Look there.", "Buy another.")


def test_an_answer_may_begin_with_its_question(tmp_path: Path) -> None:
    values = {"prompt": "Cats", "chosen": "Cats sleep.", "rejected": "Cats bark."}
    assert pair_of(tmp_path, values).chosen == "Cats sleep."
    assert post_of(tmp_path, {"instruction": "Cats", "response": "Cats sleep."}).summary == "Cats sleep."


def test_a_written_prompt_is_not_written_again(tmp_path: Path) -> None:
    assert post_of(tmp_path, {"prompt": ASKED, "response": "x"}).prompt == ASKED
    assert post_of(tmp_path, {"prompt": ASKED, "label": "x"}).summary == "x"


@pytest.mark.parametrize("key", ["instruction", "prompt"])
@pytest.mark.parametrize("written", [ASKED, DIALOGUE])
def test_a_context_besides_a_written_prompt(tmp_path: Path, key: str, written: str) -> None:
    values = {key: written, "context": "It is grey.\r\nIt is old.", "response": "x"}
    assert refused(tmp_path, GOOD, values).startswith(
        "x.jsonl, line 2: 'context' besides a prompt that has its headings or is a dialogue: write it into the prompt, "
    )
    has_it = format_instruction(QUESTION, "It is grey.\nIt is old.")
    assert post_of(tmp_path, {**values, key: has_it}).prompt == has_it


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_windows_line_ends(tmp_path: Path, end: str) -> None:
    for written in (ASKED, DIALOGUE):
        assert post_of(tmp_path, {"prompt": written.replace("\n", end) + end, "response": "x"}).prompt == written
    post = post_of(tmp_path, {"instruction": f"Add{end}it.", "context": f"2{end}3{end}", "response": "5"})
    assert post.prompt == format_instruction("Add\nit.", "2\n3")


def test_other_names_of_columns(tmp_path: Path) -> None:
    data = jsonl(tmp_path, {"question": QUESTION, "passage": "About cats.", "answer": "To rest."})
    columns = {"instruction": "question", "context": "passage", "response": "answer"}
    (post,) = TASK.load_posts(data, None, columns=columns)
    assert (post.prompt, post.summary) == (format_instruction(QUESTION, "About cats."), "To rest.")
    alpaca = jsonl(tmp_path, {"instruction": QUESTION, "input": "", "output": "To rest."})
    (post,) = TASK.load_posts(alpaca, None, columns={"context": "input", "response": "output"})
    assert (post.prompt, post.summary) == (ASKED, "To rest.")


@pytest.mark.parametrize("other", ["", None, f" {QUESTION} "])
def test_both_keys_of_which_one_says_nothing_new(tmp_path: Path, other: str | None) -> None:
    assert post_of(tmp_path, {"instruction": other, "prompt": QUESTION, "response": "x"}).prompt == ASKED
    assert post_of(tmp_path, {"instruction": QUESTION, "prompt": other, "response": "x"}).prompt == ASKED


# ---------------------------------------------------------------- what is refused

GOOD = {"instruction": QUESTION, "response": "To rest."}


@pytest.mark.parametrize(
    "bad, line",
    [
        (
            {"instruction": "a", "prompt": "b", "response": "c"},
            "x.jsonl, line 2: both 'instruction' and 'prompt', which differ: keep one of them, or pass --bad_rows skip",
        ),
        ({"instruction": " \n", "response": "c"}, "x.jsonl, line 2: 'instruction' is empty: mend or drop the row, "),
        ({"prompt": None, "response": "c"}, "x.jsonl, line 2: 'prompt' is empty: mend or drop the row, "),
        ({"instruction": "a", "response": ""}, "x.jsonl, line 2: 'response' is empty: mend or drop the row, "),
        ({"instruction": "a", "response": None}, "x.jsonl, line 2: 'response' is empty (null): mend or drop the row, "),
        ({"instruction": "a", "response": 3}, "x.jsonl, line 2: 'response' is not text (a number): make it text, "),
        ({"instruction": 3, "response": "a"}, "x.jsonl, line 2: 'instruction' is not text (a number): make it text, "),
        ({"instruction": "a", "context": [], "response": "c"}, "x.jsonl, line 2: 'context' is not text (a list)"),
        (
            {"instruction": "a", "input": "b", "output": "c"},
            "x.jsonl, line 2: 'input' and 'output', as Alpaca calls context and response: `python -m tasks convert ",
        ),
        ({"prompt": "<|endoftext|>", "response": "c"}, "x.jsonl, line 2: the post is empty: fill it in, "),
        (
            {"question": "a", "answer": "c"},
            "x.jsonl, line 2: posts need the columns instruction+response or instruction+context+response or prompt "
            "(found question, answer): rename them, or say which is which, as in --columns.instruction COLUMN",
        ),
    ],
)
def test_bad_posts(tmp_path: Path, bad: dict[str, Any], line: str) -> None:
    assert refused(tmp_path, GOOD, bad).startswith(line)
    posts = TASK.load_posts(jsonl(tmp_path, GOOD, bad), None, bad_rows="skip")
    assert [post.summary for post in posts] == ["To rest."]


@pytest.mark.parametrize(
    "bad, line",
    [
        ({"instruction": "a", "prompt": "b", "chosen": "c", "rejected": "d"}, "both 'instruction' and 'prompt', which"),
        ({"instruction": "", "chosen": "c", "rejected": "d"}, "'instruction' is empty"),
        ({"instruction": "a", "chosen": None, "rejected": "d"}, "'chosen' is empty (null)"),
        ({"instruction": "a", "response": "c"}, "pairs need the columns instruction+chosen+rejected or prompt+chosen"),
        ({"instruction": "a", "chosen": "c"}, "pairs need the columns instruction+chosen+rejected or prompt+chosen"),
    ],
)
def test_bad_pairs(tmp_path: Path, bad: dict[str, Any], line: str) -> None:
    good = {"instruction": "a", "chosen": "c", "rejected": "d"}
    assert refused(tmp_path, good, bad, pairs=True).startswith(f"x.jsonl, line 2: {line}")


def test_pairs_that_teach_nothing_are_dropped(tmp_path: Path) -> None:
    pair = {"instruction": "a", "chosen": "c", "rejected": "d"}
    rows = [pair, {**pair, "rejected": " c "}, {**pair, "rejected": " "}]
    pairs, counts = TASK.load_pairs(jsonl(tmp_path, *rows), None)
    assert len(pairs) == 1 and (counts.total, counts.identical, counts.short) == (3, 1, 1)


# ---------------------------------------------------------------- whatever the text

PIECES = st.lists(
    st.sampled_from(
        ["### Instruction:", "### Context:", "### Response:", "\n", "\n\n", "Assistant:", "cat", " ", "\r\n", "\r", "é"]
    ),
    max_size=8,
).map("".join)


@given(text=PIECES, context=PIECES)
def test_cleaning_twice_changes_nothing_and_parts_lose_nothing(text: str, context: str) -> None:
    for prompt in (clean_prompt(text), format_instruction(text, context)):
        assert clean_prompt(prompt) == prompt
        assert "".join(split_prompt(prompt)[:3]) == prompt
    assert clean_response(clean_response(text)) == clean_response(text)


@given(text=PIECES.filter(str.strip), context=PIECES)
def test_both_keys_make_the_same_prompt(text: str, context: str) -> None:
    made = []
    for key in ("instruction", "prompt"):
        try:
            made.append(row(RawRow({key: text, "context": context, "chosen": "a", "rejected": "b"}, "here"), "pairs"))
        except BadRow as error:
            made.append(str(error))
    assert made[0] == made[1]
    if isinstance(made[0], RawRow):
        assert set(made[0].values) == {"prompt", "chosen", "rejected"}
        assert clean_prompt(made[0].values["prompt"]) == made[0].values["prompt"]


def test_a_row_is_not_changed() -> None:
    values = {"instruction": "a", "context": "b", "response": "c"}
    row(RawRow(values, "here"), "posts")
    assert values == {"instruction": "a", "context": "b", "response": "c"}
    with pytest.raises(BadRow, match=r"^here: "):
        row(RawRow({}, "here"), "posts")
