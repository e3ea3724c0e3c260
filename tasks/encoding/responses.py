"""Posts that must have a response: to be learned from, or to be compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tasks.reading.rows import SKIP, BadRow, BadRows
from tasks.records import Post
from trlx.utils.errors import UserError

NONE = "there is no response to the prompt"


def with_response(posts: Iterable[Post], on_bad: BadRows) -> Iterator[Post]:
    """The posts that have one; `on_bad` is told of the others."""
    for post in posts:
        if post.summary:
            yield post
        else:
            on_bad(BadRow(post.where or post.id, NONE, f"add one, {SKIP}"))


def at_least_one(posts: Iterable[Post], why: Callable[[], str]) -> Iterator[Post]:
    """The posts. Raises: UserError at the end when there was none, saying `why`."""
    none = True
    for post in posts:
        none = False
        yield post
    if none:
        raise UserError(f"no text is left: {why()}: give other data")


def require_responses(posts: list[Post]) -> list[Post]:
    """The posts, all of which have one. Raises: UserError without any post, BadRow for the first that has none."""
    if not posts:
        raise UserError("no text is left to judge: give other data")
    for post in posts:
        if not post.summary:
            remedy = "add one, or take other data"
            raise BadRow(post.where or post.id, f"{NONE}, with which what is written is compared", remedy)
    return posts
