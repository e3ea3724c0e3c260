"""TL;DR summarisation of Reddit posts: posts with a reference summary, and pairs with a preference.

Posts come with the columns of CarperAI/openai_summarize_tldr (prompt, label) or as raw posts (subreddit,
title, post, summary); pairs with those of CarperAI/openai_summarize_comparisons (prompt, chosen, rejected),
whose prompts lack the closing `TL;DR:` and whose summaries begin with one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import datasets

from tasks.readers import read_rows
from tasks.records import Pair, PairCounts, Post
from tasks.text import clean_prompt, clean_summary, format_post, split_prompt, truncate_prompt
from trlx.utils.errors import UserError

MIN_WORDS = 5
PROMPT_LABEL = ("prompt", "label")
RAW_POST = ("subreddit", "title", "post", "summary")
PAIR = ("prompt", "chosen", "rejected")


def load_posts(
    source: str,
    split: str | None,
    *,
    limit: int | None = None,
    max_prompt_tokens: int | None = None,
    tokenizer: Any = None,
) -> list[Post]:
    """The posts of one split, in the order of the data.

    Args:
        source, split: as in `tasks.readers.read_rows`.
        limit: keep the first so many rows; None for all.
        max_prompt_tokens: prompts are truncated to this many tokens of `tokenizer` (both or neither).

    Raises: UserError for missing columns, a row without its text, ids that are not unique, an empty split.
    """
    if max_prompt_tokens is not None and tokenizer is None:
        raise UserError("max_prompt_tokens needs a tokenizer to count with")
    rows = _rows(source, split, limit, (PROMPT_LABEL, RAW_POST))
    raw = not set(PROMPT_LABEL) <= set(rows.column_names)
    used = RAW_POST if raw else PROMPT_LABEL
    posts = []
    for number, row in enumerate(rows, start=1):
        _require_text(row, used, source, number)
        prompt = format_post(row["subreddit"], row["title"], row["post"]) if raw else clean_prompt(row["prompt"])
        body = split_prompt(prompt)[1]
        if max_prompt_tokens is not None:
            prompt = truncate_prompt(prompt, tokenizer, max_prompt_tokens)
        summary = clean_summary(row["summary" if raw else "label"])
        posts.append(Post(_row_id(row, split, number), prompt, summary, body, _extra(row, used)))
    _require_unique([post.id for post in posts], source)
    return posts


def load_pairs(source: str, split: str | None, *, limit: int | None = None) -> tuple[list[Pair], PairCounts]:
    """The preference pairs of one split, and how many were dropped.

    Dropped are pairs whose summaries are the same text once cleaned, and pairs with a summary of under five
    words (counted without `TL;DR:`).

    Raises: UserError as `load_posts`, and when no pair is left.
    """
    rows = _rows(source, split, limit, (PAIR,))
    pairs: list[Pair] = []
    identical = short = 0
    for number, row in enumerate(rows, start=1):
        _require_text(row, PAIR, source, number)
        chosen, rejected = clean_summary(row["chosen"]), clean_summary(row["rejected"])
        if chosen == rejected:
            identical += 1
        elif min(len(chosen.split()), len(rejected.split())) < MIN_WORDS:
            short += 1
        else:
            prompt = clean_prompt(row["prompt"])
            pairs.append(Pair(_row_id(row, split, number), prompt, chosen, rejected, _extra(row, PAIR)))
    counts = PairCounts(total=len(rows), kept=len(pairs), identical=identical, short=short)
    if not pairs:
        raise UserError(f"{source}, split '{split}': no usable pair ({counts})")
    return pairs, counts


def _rows(source: str, split: str | None, limit: int | None, accepted: Sequence[tuple[str, ...]]) -> datasets.Dataset:
    if limit is not None and limit < 1:
        raise UserError(f"limit must be at least 1, not {limit}: leave it out for all rows")
    rows = read_rows(source, split)
    if not any(set(columns) <= set(rows.column_names) for columns in accepted):
        wanted = " or ".join("+".join(columns) for columns in accepted)
        raise UserError(f"{source}: columns {wanted} are needed, found {', '.join(rows.column_names)}: rename them")
    return rows if limit is None else rows.select(range(min(limit, len(rows))))


def _require_text(row: dict[str, Any], columns: Iterable[str], source: str, number: int) -> None:
    for name in columns:
        if not isinstance(row[name], str):
            kind = "nothing" if row[name] is None else f"a {type(row[name]).__name__}"
            raise UserError(
                f"{source}, row {number}: column '{name}' holds {kind}, text is needed: mend or drop the row"
            )


def _row_id(row: dict[str, Any], split: str | None, number: int) -> str:
    return str(row["id"]) if row.get("id") is not None else f"{split or 'row'}-{number}"


def _extra(row: dict[str, Any], used: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in {*used, "id"} and value is not None}


def _require_unique(ids: list[str], source: str) -> None:
    seen: dict[str, int] = {}
    for number, name in enumerate(ids, start=1):
        if name in seen:
            raise UserError(f"{source}, rows {seen[name]} and {number}: the same id '{name}': make the ids unique")
        seen[name] = number
