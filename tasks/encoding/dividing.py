"""Posts whose prompt and response are one text, divided as their task says, before anything else is done with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from tasks.form import TextForm, token_ids
from tasks.reading.rows import Skipped
from tasks.records import Post

TOO_SHORT = "too short to be divided into prompt and response"


def divided(
    posts: Iterable[Post], form: TextForm, tokenizer: Any, longest: int | None, left_out: Skipped
) -> Iterator[Post]:
    """The posts, each with a prompt of its own; those of a form that divides nothing as they are.

    Args:
        tokenizer: counts. longest: most tokens of prompt, response and EOS; None for the whole text.
        left_out: is told of texts that are too short.
    """
    for post in posts:
        if form.divide is None or post.summary:
            yield post
            continue
        parts = form.divide(post.prompt, lambda text: len(token_ids(tokenizer, text)), longest)
        if parts is None:
            left_out.counts[TOO_SHORT] += 1
        else:
            yield dataclasses.replace(post, prompt=parts.prompt, summary=parts.response)
