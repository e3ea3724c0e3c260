"""The formats that data may come in, and which of them a row is in, by its columns."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tasks.reading import comparisons, pairs, posts
from tasks.reading.columns import listed
from tasks.reading.rows import BadRow, RawRow, Row
from tasks.reading.texts import PairText, PostText
from trlx.utils.errors import UserError, nearest

__all__ = ["FORMATS", "Format", "Kind", "PairText", "PostText", "RowFormats", "get_format", "kinds_of", "recognise"]

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
        optional: columns that are used where there are any.
    """

    name: str
    kind: Kind
    about: str
    columns: tuple[str, ...]
    read: Callable[[RawRow], Any]
    write: Callable[[Any], Row]
    nested: bool = False
    optional: tuple[str, ...] = ()


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
            optional=("subreddit", "title"),
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


def get_format(name: str, also: Collection[str] = ()) -> Format:
    """The format called `name`. Raises: UserError naming the nearest one, of these and those that are known `also`."""
    if name not in FORMATS:
        raise UserError(f"unknown format '{name}'{nearest(name, [*FORMATS, *also])}")
    return FORMATS[name]


@functools.lru_cache(maxsize=1024)
def _fitting(columns: frozenset[str], kind: Kind, mapped: frozenset[str] = frozenset()) -> Format | None:
    """The format that uses the most of the mapped columns, the first of several."""
    forms = [form for form in FORMATS.values() if form.kind == kind and columns.issuperset(form.columns)]
    return max(forms, key=lambda form: len(mapped.intersection(form.columns + form.optional)), default=None)


def kinds_of(columns: Collection[str]) -> list[Kind]:
    """What rows with these columns can be read as, pairs first; both for some, none for others."""
    kinds: tuple[Kind, Kind] = ("pairs", "posts")
    return [kind for kind in kinds if _fitting(frozenset(columns), kind)]


def recognise(columns: Collection[str], kind: Kind, where: str, mapped: Collection[str] = ()) -> Format:
    """The format that has these columns.

    Args:
        columns: of a row, under our names. kind: what is wanted of it. where: of the row, for the message.
        mapped: our names that `--columns` gave; where several formats fit, the one that uses the most of them is meant.

    Raises: BadRow listing what is accepted and what was found, and the remedy.
    """
    form = _fitting(frozenset(columns), kind, frozenset(mapped))
    if form:
        return form
    other: Kind = "pairs" if kind == "posts" else "posts"
    twin = _fitting(frozenset(columns), other)
    if twin:
        raise BadRow(where, f"holds {other} ({twin.about}), {kind} are needed", "give another file or split")
    forms = {form.columns: form for form in reversed(FORMATS.values()) if form.kind == kind}
    raise BadRow(
        where,
        f"{kind} need the columns {' or '.join(map('+'.join, reversed(forms)))}",
        f"rename them, or say which is which: {_mapping(columns, list(reversed(forms.values())))}",
        f"found {listed(columns)}",
    )


class RowFormats:
    """The format of each row of a source, whose rows may be of several.

    A row that lacks a column of the first row's format, and has no others instead, is taken for one of that format, to
    be refused when it is read: a pair that lost its prompt is not one with the prompt in its summaries.

    Args:
        kind: what is wanted of the rows.
        columns: what `--columns` was given.
    """

    def __init__(self, kind: Kind, columns: Mapping[str, str]):
        self._kind = kind
        self._mapped = frozenset(name for name, column in columns.items() if column)
        self._first: Format | None = None
        self._form: Format | None = None  # of the row before, with its columns
        self._columns: Collection[str] = ()

    def of(self, row: RawRow) -> Format:
        """The format of a row under our names. Raises: BadRow as `recognise`."""
        columns = row.values.keys()
        if self._form is None or columns != self._columns:  # most rows have the columns of the one before
            self._form, self._columns = self._find(row), columns
        return self._form

    def _find(self, row: RawRow) -> Format:
        if self._first is None:
            self._first = recognise(row.values, self._kind, row.where, self._mapped)
        form = _fitting(frozenset(row.values), self._kind, self._mapped)
        return self._first if form is None or set(form.columns) < set(self._first.columns) else form


def _mapping(columns: Collection[str], forms: Collection[Format]) -> str:
    """The options that would make these columns a format's, of the format of which the most is there, or nearly."""
    found = [(form, _nearly(columns, form)) for form in forms]
    form, near = max(found, key=lambda one: _closeness(*one))
    names = [*form.columns, *(name for name in form.optional if name in near)]
    return " ".join(f"--columns.{name} {near.get(name, 'COLUMN')}" for name in names if name not in columns)


def _closeness(form: Format, near: Mapping[str, str]) -> tuple[int, ...]:
    """How much of a format is there: in any spelling; exactly; little missing; else raw data, made of many parts."""
    exact = sum(name == column for name, column in near.items())
    return len(near), exact, -len(form.columns), len(form.optional)


def _nearly(columns: Collection[str], form: Format) -> dict[str, str]:
    """A format's columns that are there, or there in another spelling → their names in the data."""
    names = (*form.columns, *form.optional)
    near = {name: name for name in names if name in columns}
    free = {str(column).lower(): str(column) for column in columns if column not in near}
    # Exact but for the case first, lest another name takes such a column.
    for cutoff in (1.0, 0.6):
        for name in names:
            if name not in near and (close := difflib.get_close_matches(name, free, n=1, cutoff=cutoff)):
                near[name] = free.pop(close[0])
    return near
