"""Sentiment of film reviews (IMDB): a prompt is how a review begins, the response how it goes on.

    {"text": "...", "label": 1}          1 or "positive" (pos), 0 or "negative" (neg); other columns are kept

Reviews of 200 characters or less are too short to be divided, and are left out where that is done. How long a prompt
is, 6 to 18 tokens up to the end of a word, follows from the review's own text: it is the same in every stage and run.
Pairs come in any format that `tasks.reading` knows. Left out: neutral reviews, and ratings.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tasks.form import END_OF_TEXT, WORD_ENDS, CountTokens, Divided, Parts, TextForm, last_fit
from tasks.reading.columns import listed, need_text
from tasks.reading.formats import Kind, kinds_of
from tasks.reading.rows import SKIP, BadRow, BadRows, RawRow
from tasks.reading.texts import whole as whole_number
from tasks.records import Post
from tasks.task import Task

PROMPT_TOKENS = (6, 18)
MIN_CHARACTERS = 200
LABELS = {**dict.fromkeys(("1", "pos", "positive", "true"), 1), **dict.fromkeys(("0", "neg", "negative", "false"), 0)}


def clean(text: str) -> str:
    """The text without HTML line breaks, outer white space and anything from an end-of-text mark on."""
    return re.sub(r"<br */?>", "\n", text.split(END_OF_TEXT, 1)[0]).strip()


def whole(prompt: str) -> Parts:
    """A prompt has no parts that must stay; a long one is cut at its end."""
    return Parts("", clean(prompt), "")


def divide(text: str, count: CountTokens) -> Divided | None:
    """How a review begins, and how it goes on; None for one that is too short."""
    end = _end_of_prompt(text, count) if len(text) > MIN_CHARACTERS else None
    return None if end is None else Divided(text[:end], text[end:].strip())


def _end_of_prompt(text: str, count: CountTokens) -> int | None:
    """Where the prompt ends: at the last word that fits into as many tokens as the text's hash says."""
    low, high = PROMPT_TOKENS
    wanted = low + int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % (high - low + 1)
    ends = [found.end() for found in itertools.islice(WORD_ENDS.finditer(text), high)]  # a word has a token or more

    def end_within(most: int) -> int | None:
        end = last_fit(ends, lambda end: count(text[:end]) <= most)
        return end if end is not None and count(text[:end]) >= low else None

    found = end_within(wanted)
    return end_within(high) if found is None else found  # a long word may jump over the wanted number


def label_of(raw: RawRow) -> int:
    """1 for positive, 0 for negative. Raises: BadRow for anything else."""
    value: Any = raw.values.get("label")
    found = LABELS.get(str(whole_number(value)).strip().lower())
    if found is None:
        remedy = f"make it 0 or 1 (negative or positive), drop the row, {SKIP}"
        raise BadRow(raw.where, "a label that is neither positive nor negative", remedy, repr(value)[:40])
    return found


def labelled(posts: Iterable[Post], on_bad: BadRows) -> Iterator[tuple[str, int]]:
    """Each review whole, with its label (1 = positive); `on_bad` is told of reviews without one."""
    for post in posts:
        if "positive" in post.extra:
            yield (f"{post.prompt} {post.summary}" if post.summary else post.prompt), post.extra["positive"]
        else:
            on_bad(BadRow(post.where or post.id, "a review without a label", f"add a column 'label', {SKIP}"))


def row(raw: RawRow, kind: Kind) -> RawRow:
    """A review as a prompt that is yet to be divided. Raises: BadRow for one that is empty or has another label."""
    if kind != "posts" or "text" not in raw.values:
        if kind == "pairs" or kind in kinds_of(raw.values):
            return raw
        remedy = "rename them, or say which is which: --columns.text COLUMN --columns.label COLUMN"
        raise BadRow(raw.where, "reviews need the columns text (and label)", remedy, f"found {listed(raw.values)}")
    values = {name: value for name, value in raw.values.items() if name not in ("text", "label")}
    if "label" in raw.values:
        values["positive"] = label_of(raw)
    return dataclasses.replace(raw, values=values | {"prompt": need_text(raw, "text"), "completion": ""})


FORM = TextForm(clean, clean, whole, stays="nothing", divide=divide)
TASK = Task("sentiment", FORM, row, needs_response=False)
