"""Posts whose prompt and response are one text, divided as their form says before anything else is done with them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tasks.form import WORD_ENDS, CountTokens, TextForm, last_fit, response_text, token_ids
from tasks.reading.rows import BadRow, Skipped
from tasks.records import Post

TOO_SHORT = "too short to be divided into prompt and response"
_SENTENCE_ENDS = re.compile(r"[.!?][\"')\]]*(?=\s|$)")
_LONGEST_WORD = 12  # letters of a token, seldom more; what is longer need not be looked at


def divided(
    posts: Iterable[Post],
    form: TextForm,
    tokenizer: Any,
    left_out: Skipped,
    *,
    max_length: int | None = None,
    response_tokens: int | None = None,
) -> Iterator[Post]:
    """The posts, each with a prompt and a response of its own; those of a form that divides nothing as they are.

    Args:
        tokenizer: counts.
        left_out: is told of texts that are too short, which is no fault of theirs: they never stop the reading.
        max_length: most tokens of prompt, response and EOS together. response_tokens: of response and EOS. A response
            that is longer ends with an earlier sentence.
    """

    def count(text: str) -> int:
        return len(token_ids(tokenizer, text))

    for post in posts:
        if form.divide is None or post.summary:
            yield post
            continue
        parts = form.divide(post.prompt, count)
        response = ""
        if parts is not None:
            limits = (response_tokens, None if max_length is None else max_length - count(parts.prompt))
            rooms = [limit - 1 for limit in limits if limit is not None]
            response = shortened(parts.response, count, min(rooms)) if rooms else parts.response
        if parts is None or not response:
            left_out(BadRow(post.where or post.id, TOO_SHORT, "give a longer one"))
        else:
            yield dataclasses.replace(post, prompt=parts.prompt, summary=response, post=parts.prompt)


def shortened(response: str, count: CountTokens, room: int) -> str:
    """What of a response fits into `room` tokens: whole sentences, or whole words where those leave half of it empty.

    "" where not one word fits.
    """
    limit = _LONGEST_WORD * max(room, 0)
    if len(response) <= limit and count(response_text(response)) <= room:
        return response

    def cut_at(ends: re.Pattern[str]) -> str:
        places = [found.end() for found in ends.finditer(response, 0, limit + 1) if found.end() <= limit]
        place = last_fit(places, lambda place: count(response_text(response[:place])) <= room)
        return response[: place or 0]

    sentences = cut_at(_SENTENCE_ENDS)
    return sentences if count(response_text(sentences)) >= room / 2 else cut_at(WORD_ENDS)
