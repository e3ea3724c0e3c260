"""Posts and pairs made up for the tests of `tasks.inspection`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.records import Pair, Post
from tasks.text import format_post


@pytest.fixture
def make_post() -> Callable[..., Post]:
    """A post from its body and summary, at `place`."""

    def make(body: str, summary: str = "the cat came back", place: str = "", title: str = "Cat") -> Post:
        return Post(place, format_post("pets", title, body), summary, body, {}, place)

    return make


@pytest.fixture
def make_pair() -> Callable[..., Pair]:
    """A pair from the post's body and two summaries, at `place`."""

    def make(body: str, chosen: str, rejected: str, place: str = "", **extra: object) -> Pair:
        return Pair(place, format_post("pets", "Cat", body), chosen, rejected, extra, place)

    return make
