"""OpenAI's raw comparisons, `comparisons/batch*.json`: two summaries of a Reddit post or a CNN/DM article.

    {"info": {"id", "post", "title", "subreddit"}  or  {"id", "article", "site", "title"},
     "summaries": [{"text", "policy", "note"}, {...}], "choice": 0 or 1,
     "worker", "batch", "split", "extra": {"confidence": 1..9}}

The hub's copy has every key of `info` in every row, null where the raw file has none. What is not text becomes `extra`:
batch, worker, split, confidence (int), policy_chosen, policy_rejected, note_chosen, note_rejected, subreddit or site,
title and post_id. Other keys of `info`, `summaries` and `extra` are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.form import response_text
from tasks.reading.columns import MEND, kind_of, listed, need_text, row_id, some_text, text_or_none
from tasks.reading.posts import parts_of_prompt
from tasks.reading.rows import BadRow, RawRow, Row
from tasks.reading.texts import PairText, others, whole
from tasks.records import Pair
from tasks.text import format_article, format_post, split_prompt

_SIDES = ("chosen", "rejected")
_INFO = ("id", "post", "title", "subreddit", "site", "article")


def read_comparison(row: RawRow) -> PairText:
    """A pair of one comparison; its summaries may be blank.

    Raises: BadRow when there are not exactly two summaries, the choice is not 0 or 1, or the text is missing.
    """
    order = _order(row)
    prompt = _prompt(row)
    chosen, rejected = (some_text(row, f"summaries.{place}.text") for place in order)
    extra = others(row, ("info", "summaries", "choice", "extra")) | _confidence(row) | _about(row)
    for side, place in zip(_SIDES, order, strict=True):
        for name in ("policy", "note"):
            extra[f"{name}_{side}"] = text_or_none(row, f"summaries.{place}.{name}")
    known = {name: value for name, value in extra.items() if value is not None}
    return PairText(prompt, chosen, rejected, row_id(row), known)


def _order(row: RawRow) -> tuple[int, int]:
    """The places of the chosen and of the rejected summary."""
    summaries = row.values.get("summaries")
    if not isinstance(summaries, list) or len(summaries) != 2:
        found = f"{len(summaries)}" if isinstance(summaries, list) else kind_of(summaries)
        raise BadRow(row.where, "'summaries' is not a list of two", MEND, f"found {found}")
    for number, summary in enumerate(summaries):
        if not isinstance(summary, Mapping):
            raise BadRow(row.where, "'summaries' does not hold objects with a 'text'", MEND, f"number {number + 1}")
    choice = whole(row.values.get("choice"))
    if isinstance(choice, bool) or choice not in (0, 1):
        raise BadRow(row.where, "'choice' is neither 0 nor 1", MEND, f"it is {str(choice)[:40]!r}")
    return (0, 1) if choice == 0 else (1, 0)


def _prompt(row: RawRow) -> str:
    info = row.values.get("info")
    if not isinstance(info, Mapping):
        raise BadRow(row.where, "'info' is not an object with the post", MEND, f"found {kind_of(info)}")
    if info.get("post") is None and info.get("article") is not None:
        return format_article(need_text(row, "info.article"))
    if "post" not in info:
        raise BadRow(row.where, "'info' has neither 'post' nor 'article'", MEND, f"fields: {listed(info)}")
    subreddit, title = (text_or_none(row, f"info.{name}") or "" for name in ("subreddit", "title"))
    return format_post(subreddit, title, need_text(row, "info.post"))


def _about(row: RawRow) -> Row:
    """What `info` says of the post."""
    info = row.values["info"]
    post_id = info.get("id") if isinstance(info.get("id"), int) else text_or_none(row, "info.id")
    about = {name: text_or_none(row, f"info.{name}") for name in ("subreddit", "site", "title")}
    return {**about, "post_id": None if post_id is None else str(post_id)}


def _confidence(row: RawRow) -> Row:
    extra = row.values.get("extra")
    confidence = whole(extra.get("confidence")) if isinstance(extra, Mapping) else None
    if confidence is None:
        return {}
    if isinstance(confidence, bool) or not isinstance(confidence, int):
        detail = f"it is {str(confidence)[:40]!r}"
        raise BadRow(row.where, "'extra.confidence' is not a whole number", f"make it one or null, {MEND}", detail)
    return {"confidence": confidence}


def write_comparison(pair: Pair) -> Row:
    """A row of `read_comparison`, the chosen summary first, with every key there is (null where nothing is known).

    Raises: BadRow when the prompt is neither a post's nor an article's.
    """
    extra = dict(pair.extra)
    info: Row = dict.fromkeys(_INFO)
    about = {name: extra.pop(name, None) for name in ("title", "subreddit", "site")}
    info |= {"id": extra.pop("post_id", pair.id), **_parts(pair, about)}
    summaries: list[dict[str, Any]] = [
        {"text": response_text(text), **{name: extra.pop(f"{name}_{side}", None) for name in ("policy", "note")}}
        for side, text in zip(_SIDES, (pair.chosen, pair.rejected), strict=True)
    ]
    row = {"id": pair.id, "info": info, "summaries": summaries, "choice": 0}
    row |= {name: extra.pop(name, None) for name in ("worker", "batch", "split")}
    row["extra"] = {"confidence": extra.pop("confidence", None)}
    return row | {name: value for name, value in extra.items() if name not in row}


def _parts(pair: Pair, about: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys of `info` that make the prompt again."""
    article = split_prompt(pair.prompt)[1]
    if format_article(article).split() == pair.prompt.split():
        return {"article": article, "title": about["title"], "site": about["site"]}
    return parts_of_prompt(pair)
