"""News: articles with highlights, and comparisons of their summaries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.news import FORM, TASK, clean_highlights
from tasks.registry import get_task
from trlx.utils.errors import UserError

FIXTURES = Path(__file__).parent / "fixtures"
ARTICLE = "(CNN) -- The bridge of Ostrava Falls leans.\n\nEngineers call it safe."
ROW = {"article": f" {ARTICLE}\n", "highlights": "A bridge leans .\nEngineers call it safe .", "id": "c1"}


def jsonl(folder: Path, *rows: Any) -> str:
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_an_article_and_its_highlights(tmp_path: Path) -> None:
    (post,) = get_task("news").load_posts(jsonl(tmp_path, {**ROW, "site": "cnn.com"}), None)
    assert post.prompt == f"Article:\n\n{ARTICLE}\n\nTL;DR:"
    assert (post.id, post.summary) == ("c1", "A bridge leans. Engineers call it safe.")
    assert (post.post, post.extra) == (ARTICLE, {"site": "cnn.com"})


def test_openai_comparisons_of_news() -> None:
    pairs, counts = TASK.load_pairs(str(FIXTURES / "comparisons" / "cnndm2.json"), "valid1")
    assert counts.kept == 2
    assert pairs[1].prompt.startswith("Article:\n\n") and pairs[1].prompt.endswith("call it charming.\n\nTL;DR:")
    assert pairs[1].chosen == "Ostrava Falls voted to keep its leaning bridge, which engineers call safe."


def test_columns_of_other_names(tmp_path: Path) -> None:
    data = jsonl(tmp_path, {"body": ARTICLE, "points": "It leans ."})
    (post,) = TASK.load_posts(data, None, columns={"article": "body", "highlights": "points"})
    assert post.summary == "It leans."


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"article": " "}, "'article' is empty"),
        ({"highlights": None}, "'highlights' is empty (null)"),
        ({"highlights": "<|endoftext|>."}, "the summary is empty"),
    ],
)
def test_bad_rows(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        TASK.load_posts(jsonl(tmp_path, ROW, {**ROW, "id": "c2", **change}), None)
    assert f"x.jsonl, line 2: {reason}: " in str(caught.value)


@given(st.lists(st.sampled_from(["A bridge", " .", ".", "\n", "  ", "TL;DR:", "<|endoftext|>", "4.5"])).map("".join))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    clean = clean_highlights(text)
    assert clean_highlights(clean) == clean and "\n" not in clean and not clean.endswith(" .")


def test_a_long_article_is_cut_at_its_end(tokenizer: Any) -> None:
    prompt = f"Article:\n\n{ARTICLE}\n\nTL;DR:"
    cut = FORM.cut(prompt, tokenizer, len(tokenizer(prompt)["input_ids"]) - 1)
    assert cut == "Article:\n\n(CNN) -- The bridge of Ostrava Falls leans.\n\nTL;DR:"
