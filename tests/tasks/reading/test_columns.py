from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.columns import NAMES, check_columns, listed, mapped, need_text, row_id, text_or_none
from tasks.reading.rows import BadRow, RawRow
from tasks.reading.texts import begin_with, others, whole
from trlx.utils.errors import UserError

NAN = float("nan")
NESTED = {
    "info": {"title": "t", "none": None},
    "summaries": [{"text": "one"}, {"text": "two"}],
    "a.b": "dotted",
    "x": 1,
}


def row(**values: Any) -> RawRow:
    return RawRow(values, "x.jsonl, line 3")


def test_a_column_is_renamed_and_the_others_stay() -> None:
    changed = mapped(row(reference="r", post="p", summary="old"), {"summary": "reference"})
    assert changed == RawRow({"post": "p", "summary": "r"}, "x.jsonl, line 3")


def test_columns_can_be_swapped() -> None:
    both = {"chosen": "rejected", "rejected": "chosen"}
    assert mapped(row(chosen="a", rejected="b"), both).values == {"chosen": "b", "rejected": "a"}


@pytest.mark.parametrize(
    "column, value",
    [
        ("info.title", "t"),
        ("summaries.1.text", "two"),
        ("a.b", "dotted"),
        ("info.none", None),
        ("info.none.deep", None),
    ],
)
def test_dotted_names_reach_into_values(column: str, value: Any) -> None:
    changed = mapped(RawRow(NESTED, "x"), {"title": column}).values
    assert changed["title"] == value
    assert changed["info"] == NESTED["info"]


@pytest.mark.parametrize(
    "column", ["info.text", "summaries.2.text", "summaries.text", "x.y", "summaries." + "9" * 5000]
)
def test_dotted_names_that_lead_nowhere(column: str) -> None:
    with pytest.raises(BadRow, match=r"no column '.*', to which --columns.title points"):
        mapped(RawRow(NESTED, "x"), {"title": column})


def test_a_missing_column_is_named_with_the_nearest() -> None:
    with pytest.raises(BadRow) as caught:
        mapped(row(reference="r", post="p", info={"title": "t"}), {"summary": "refrence"})
    assert str(caught.value) == (
        "x.jsonl, line 3: no column 'refrence', to which --columns.summary points (columns: reference, post, info): "
        "did you mean 'reference'? (null in it will do where there is nothing)"
    )
    with pytest.raises(BadRow, match=r"did you mean 'info\.title'"):
        mapped(row(post="p", info={"title": "t"}), {"title": "info.titel"})


def test_the_split_column_can_be_ignored_and_nothing_else() -> None:
    check_columns({"split": ""})
    assert mapped(row(split="s"), {"split": ""}).values == {"split": "s"}
    for empty in ("", "  "):
        with pytest.raises(UserError, match=r"--columns.summary: a column of the data is needed"):
            check_columns({"summary": empty})


def test_unknown_names_of_ours_are_named_with_the_nearest() -> None:
    check_columns(dict.fromkeys(NAMES, "x"))
    with pytest.raises(UserError, match="'sumary' is no column that is asked for; did you mean 'summary'"):
        check_columns({"sumary": "x"})
    with pytest.raises(UserError, match="not 3"):
        check_columns({"summary": 3})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "value, reason",
    [
        (None, "'post' is empty (null)"),
        ("", "'post' is empty"),
        (" \n\t", "'post' is empty"),
        (3, "'post' is not text (a number)"),
        (True, "'post' is not text (true or false)"),
        (["a"], "'post' is not text (a list)"),
        ("a\0b", "'post' holds NUL characters"),
        ("a\ud83d", "'post' holds half a character (a lone surrogate)"),
    ],
)
def test_text_that_cannot_be_used(value: Any, reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        need_text(row(post=value), "post")
    assert str(caught.value).startswith(f"x.jsonl, line 3: {reason}: ")


def test_a_missing_text_lists_the_columns() -> None:
    with pytest.raises(
        BadRow, match=r"no column 'post' \(columns: body, title\): add it, or map .*--columns.post COLUMN"
    ):
        need_text(row(body="b", title="t"), "post")
    assert listed([]) == "none"
    assert listed([f"c{number}" for number in range(22)]).endswith("c19 and 2 more")


def test_text_comes_back_untouched() -> None:
    assert need_text(row(post=" a\r\n🐈 "), "post") == " a\r\n🐈 "
    assert need_text(RawRow(NESTED, "x"), "summaries.0.text") == "one"
    assert (text_or_none(row(), "post"), text_or_none(row(post=None), "post"), text_or_none(row(post=""), "post")) == (
        None,
        None,
        "",
    )


@pytest.mark.parametrize("value, name", [("a7", "a7"), (7, "7"), (None, None), (" ", None), (7.5, "7.5"), (NAN, None)])
def test_ids(value: Any, name: str | None) -> None:
    assert row_id(row(id=value)) == name
    assert row_id(row()) is None


@pytest.mark.parametrize("value", [True, ["a"], {}, "a\0"])
def test_ids_that_cannot_be_used(value: Any) -> None:
    with pytest.raises(BadRow, match="'id'"):
        row_id(row(id=value))


@pytest.mark.parametrize(
    "value, number",
    [
        (7, 7),
        (7.0, 7),
        ("7", 7),
        (" -7 ", -7),
        ("7.5", "7.5"),
        ("high", "high"),
        ("", None),
        (None, None),
        ("٣", "٣"),
        (NAN, None),
    ],
)
def test_whole_numbers_in_other_guises(value: Any, number: Any) -> None:
    assert whole(value) == number and type(whole(value)) is type(number)


def test_other_columns_are_kept_and_nulls_are_not() -> None:
    given_row = row(id=1, prompt="p", facts=["f"], nothing=None, blank="", confidence="8", batch="b")
    assert others(given_row, ("prompt",)) == {"facts": ["f"], "confidence": 8, "batch": "b"}


def test_nan_holds_nothing() -> None:
    assert others(row(prompt="p", confidence=NAN, score=NAN, weight=0.5), ("prompt",)) == {"weight": 0.5}


@pytest.mark.parametrize(
    "text, flag",
    [
        *[("True", True), ("true", True), ("1", True), ("False", False), ("false", False), ("0", False)],
        *[(" False ", False), (True, True), ("yes", "yes"), ("2", "2"), (1, 1)],
    ],
)
def test_a_flag_that_csv_made_text(text: Any, flag: Any) -> None:
    found = others(row(gold_prefers_chosen=text, other=text), ())
    assert found["gold_prefers_chosen"] == flag and type(found["gold_prefers_chosen"]) is type(flag)
    assert found["other"] == text


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": "user", "content": "Hi"}]',
        "[{'role': 'user', 'content': 'Hi'}]",
        "[{'content': 'Hi', 'role': 'user'}\n {",
        '[\n  {"role" :"user"}]',
    ],
)
def test_a_chat_written_as_text_is_refused(text: str) -> None:
    with pytest.raises(BadRow, match=r"'post' is a chat written as text .*: save the data as \.jsonl or \.parquet"):
        need_text(row(post=text), "post")


@pytest.mark.parametrize("text", ["[role]", "[{role: x}]", "[removed] [{'role': 1}]", '[{"roles": 1}]', "[{}]"])
def test_text_that_only_looks_like_a_chat(text: str) -> None:
    assert need_text(row(post=text), "post") == text


@pytest.mark.parametrize(
    "prompt, texts, begins",
    [
        ("P\nTL;DR: ", ["P\nTL;DR: a", "P\nTL;DR:b"], True),
        ("P\nTL;DR:", ["P\nTL;DR: a", "b"], False),
        ("It rains", ["It rains\nTL;DR: a"], True),
        ("It rains", ["It rains."], False),
        ("It rains", ["It rainstorms"], False),
        ("It rains.", ["It rains..."], False),
        ("Does it rain?", ["Does it rain?No"], True),
        ("It rains ", ["It rains"], True),
    ],
)
def test_texts_that_begin_with_a_prompt(prompt: str, texts: list[str], begins: bool) -> None:
    assert begin_with(prompt, *texts) is begins


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.0", max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text("ab.0", max_size=3), JSON, max_size=4), st.text("ab.0", min_size=1, max_size=7))
def test_any_row_and_any_path_give_a_value_or_a_bad_row(values: dict[str, Any], column: str) -> None:
    try:
        changed = mapped(RawRow(values, "x"), {"title": column})
    except BadRow as bad:
        assert column in bad.reason
    else:
        assert "title" in changed.values
        assert set(values) - {column} <= set(changed.values)
