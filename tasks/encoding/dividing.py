"""Posts whose prompt and response are one text, divided as their form says before anything else is done with them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tasks.form import WORD_ENDS, TextForm, response_text, token_ids, token_spans
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
            response = shortened(parts.response, tokenizer, min(rooms)) if rooms else parts.response
        if parts is None or not response:
            left_out(BadRow(post.where or post.id, TOO_SHORT, "give a longer one"))
        else:
            yield dataclasses.replace(post, prompt=parts.prompt, summary=response, post=parts.prompt)


def shortened(response: str, tokenizer: Any, room: int) -> str:
    """What of a response fits into `room` tokens: whole sentences, or whole words where those leave half of it empty.

    "" where not one word fits.
    """

    def count(length: int) -> int:
        return len(token_ids(tokenizer, response_text(response[:length])))

    if len(response) <= _LONGEST_WORD * room and count(len(response)) <= room:
        return response
    # One look at the tokens tells about where the room ends; what is cut there is counted, as tokens can join.
    spans = token_spans(tokenizer, response_text(response[: _LONGEST_WORD * room])) if room > 0 else []
    reach = spans[min(room, len(spans)) - 1][1] - len(response_text("")) if spans else 0

    def cut_at(ends: re.Pattern[str]) -> int:
        places = [found.end() for found in ends.finditer(response, 0, reach + 1) if found.end() <= reach]
        return next((place for place in reversed(places) if count(place) <= room), 0)

    sentences = cut_at(_SENTENCE_ENDS)
    return response[: sentences if sentences and count(sentences) >= room / 2 else cut_at(WORD_ENDS)]
