"""The formats that data may come in, and which of them a row is in, by its columns."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from tasks.reading import comparisons, pairs, posts
from tasks.reading.columns import listed
from tasks.reading.rows import BadRow, RawRow, Row
from tasks.reading.texts import PairText, PostText
from trlx.utils.errors import UserError, nearest

__all__ = ["FORMATS", "Format", "Kind", "PairText", "PostText", "get_format", "kinds_of", "recognise"]

Kind = Literal["posts", "pairs"]


@dataclass(frozen=True)
class Format:
    """How rows of some origin hold their texts.

    Args:
        name: as in `convert --to`.
        kind: what a row is.
        about: for people.
        columns: needed; formats with the same ones are read alike and differ in how they are written.
        read: a row → its `PostText` or `PairText`. Raises BadRow.
        write: a `Post` or `Pair` → a row. Raises BadRow for a record that the format cannot hold.
        nested: whether a written row has values that are not plain text or numbers, so that it does not fit into CSV.
    """

    name: str
    kind: Kind
    about: str
    columns: tuple[str, ...]
    read: Callable[[RawRow], Any]
    write: Callable[[Any], Row]
    nested: bool = False


_LABELLED, _COMPLETED, _PAIR = ("prompt", "label"), ("prompt", "completion"), ("prompt", "chosen", "rejected")

# In the order in which they are tried; the first of several with the same columns stands for all when reading.
FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format(
            "carperai-posts",
            "posts",
            "CarperAI's prompt and label",
            _LABELLED,
            posts.read_labelled_prompt,
            posts.write_labelled_prompt,
        ),
        Format(
            "trl-completions",
            "posts",
            "TRL's prompt and completion",
            _COMPLETED,
            posts.read_completed_prompt,
            posts.write_completed_prompt,
        ),
        Format(
            "trl-chat-completions",
            "posts",
            "TRL's prompt and completion as chats",
            _COMPLETED,
            posts.read_completed_prompt,
            posts.write_completed_chat,
            True,
        ),
        Format(
            "openai-posts",
            "posts",
            "OpenAI's posts: subreddit, title, post, summary",
            ("post", "summary"),
            posts.read_openai_post,
            posts.write_openai_post,
        ),
        Format(
            "openai-comparisons",
            "pairs",
            "OpenAI's comparisons",
            ("info", "summaries", "choice"),
            comparisons.read_comparison,
            comparisons.write_comparison,
            True,
        ),
        Format(
            "pairs",
            "pairs",
            "prompt, chosen and rejected, as TRL has them",
            _PAIR,
            pairs.read_pair,
            pairs.write_pair,
        ),
        Format(
            "carperai-pairs",
            "pairs",
            "prompt, chosen and rejected, as CarperAI has them",
            _PAIR,
            pairs.read_pair,
            pairs.write_carperai_pair,
        ),
        Format(
            "trl-chat-pairs",
            "pairs",
            "TRL's prompt, chosen and rejected as chats",
            _PAIR,
            pairs.read_pair,
            pairs.write_chat_pair,
            True,
        ),
        Format(
            "implicit-pairs",
            "pairs",
            "chosen and rejected, each with the prompt in it",
            ("chosen", "rejected"),
            pairs.read_implicit_pair,
            pairs.write_implicit_pair,
        ),
    )
}


def get_format(name: str) -> Format:
    """The format called `name`. Raises: UserError naming the nearest one."""
    if name not in FORMATS:
        raise UserError(f"unknown format '{name}'{nearest(name, FORMATS)}")
    return FORMATS[name]


def _fitting(columns: Collection[str], kind: Kind) -> Format | None:
    forms = (form for form in FORMATS.values() if form.kind == kind)
    return next((form for form in forms if set(form.columns) <= set(columns)), None)


def kinds_of(columns: Collection[str]) -> list[Kind]:
    """What rows with these columns can be read as, pairs first; both for some, none for others."""
    kinds: tuple[Kind, Kind] = ("pairs", "posts")
    return [kind for kind in kinds if _fitting(columns, kind)]


def recognise(columns: Collection[str], kind: Kind, where: str) -> Format:
    """The format that has these columns.

    Args:
        columns: of a row, under our names. kind: what is wanted of it. where: of the row, for the message.

    Raises: BadRow listing what is accepted and what was found, and the remedy.
    """
    form = _fitting(columns, kind)
    if form:
        return form
    other: Kind = "pairs" if kind == "posts" else "posts"
    twin = _fitting(columns, other)
    if twin:
        raise BadRow(where, f"holds {other} ({twin.about}), {kind} are needed", "give another file or split")
    accepted = dict.fromkeys(form.columns for form in FORMATS.values() if form.kind == kind)
    raise BadRow(
        where,
        f"{kind} need the columns {' or '.join(map('+'.join, accepted))}",
        f"rename them, or say which is which: {_mapping(columns, accepted)}",
        f"found {listed(columns)}",
    )


def _mapping(columns: Collection[str], accepted: Iterable[tuple[str, ...]]) -> str:
    """The options that would make these columns a format's, of the format that lacks the fewest."""
    missing = min(([name for name in needed if name not in columns] for needed in accepted), key=len)
    close = {name: difflib.get_close_matches(name, map(str, columns), n=1) for name in missing}
    return " ".join(f"--columns.{name} {''.join(found) or 'COLUMN'}" for name, found in close.items())
