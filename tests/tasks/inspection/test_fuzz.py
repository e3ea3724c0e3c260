"""Whatever rows hold, an inspection ends in a report that can be shown and written, or in one line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from tasks.inspection.command import InspectOptions, inspect
from tasks.inspection.tables import show
from trlx.utils.errors import UserError

TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["POST: a cat ran\nTL;DR:", "one two three four five", " TL;DR: ", "a\x1b[2Jb\r", "<|endoftext|>", "😀 ﷽"]
    ),
)
VALUE = st.one_of(
    TEXT,
    st.none(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.lists(st.one_of(TEXT, st.fixed_dictionaries({"role": TEXT, "content": TEXT})), max_size=2),
    st.dictionaries(TEXT, TEXT, max_size=2),
)
NAMES = ("id", "prompt", "label", "chosen", "rejected", "post", "summary", "subreddit", "batch", "confidence", "worker")


def rows_with(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Rows that have these columns as text, and others perhaps."""
    others = {name: VALUE for name in NAMES if name not in names}
    return st.fixed_dictionaries(dict.fromkeys(names, TEXT), optional=others)


ROW = st.one_of(
    rows_with("prompt", "label"),
    rows_with("prompt", "chosen", "rejected"),
    st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=5)), VALUE, max_size=5),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(ROW, min_size=1, max_size=5),
    st.lists(ROW, min_size=1, max_size=3),
    st.sampled_from(["auto", "auto", "posts", "pairs"]),
)
def test_a_report_or_one_line(tmp_path: Path, tokenizer: Any, train: list[Any], test: list[Any], kind: Any) -> None:
    if not (tmp_path / "tokenizer").exists():
        tokenizer.save_pretrained(tmp_path / "tokenizer")
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        report = inspect(InspectOptions(str(data), kind=kind, tokenizer=str(tmp_path / "tokenizer"), max_length=60))
    except UserError as error:
        assert "\n" not in str(error).strip()
        return
    for split, rows in zip(report.splits, (train, test), strict=True):
        bad = sum(reason.count for reason in split.bad)
        assert split.rows == split.usable + bad + sum(split.dropped.values()) == len(rows)
        assert sum(split.files.values()) <= split.rows
    assert json.loads(report.as_json())["kind"] == report.kind
    file = io.StringIO()
    show(report, Console(file=file, width=100, highlight=False, markup=False, emoji=False))
    assert "\x1b" not in file.getvalue() and "\r" not in file.getvalue()
