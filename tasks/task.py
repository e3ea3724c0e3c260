"""What a task is: where its rows come from, how its texts are written, and what is known of their quality.

A task reads rows of any format that is known (`tasks.reading`), in its own columns first; the texts are cleaned by its
form (`tasks.form`), numbered and checked. A row that cannot be used stops the reading, or is skipped and counted; pairs
that teach nothing are dropped and counted always.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.form import TextForm
from tasks.gold import Facts
from tasks.reading.chat import read_prompt
from tasks.reading.columns import check_columns, mapped, row_id
from tasks.reading.formats import Kind, PostText, RowFormats
from tasks.reading.rows import SKIP, BadRow, BadRows, OnBadRows, RawRow, Skipped, choose_on_bad, stop
from tasks.reading.sources import named, open_source
from tasks.reading.texts import others
from tasks.records import Pair, PairCounts, Post
from trlx.utils import logging
from trlx.utils.errors import UserError

log = logging.get_logger(__name__)


@dataclass(frozen=True)
class Task:
    """What the stages need to know of a task.

    Args:
        name: of the option `task`.
        form: of its texts.
        row: (a row of the task's own columns, what it is to be) → one of a format that is known; other rows as they
            are. Raises BadRow.
        needs_response: whether posts without a response are refused; else their `summary` is empty.
        gold_score: `gold_score(facts, response_text, ended)` takes `post.extra["facts"]`; None where the true quality
            is unknown.
    """

    name: str
    form: TextForm
    row: Callable[[RawRow, Kind], RawRow] = lambda row, kind: row
    needs_response: bool = True
    gold_score: Callable[[Facts, str, bool], float] | None = None

    def iter_posts(
        self,
        source: str,
        split: str | None,
        *,
        limit: int | None = None,
        columns: Mapping[str, str] | None = None,
        on_bad: BadRows = stop,
    ) -> Iterator[Post]:
        """The posts of one split, one at a time, in the order of the data.

        Args:
            source, split: as in `tasks.reading.sources.open_source`.
            limit: read the first so many rows; None for all.
            columns: our name of a column → its name in the data, as in `tasks.reading.columns`.
            on_bad: what to do about a row that cannot be used.

        Raises: UserError for data that cannot be read, columns of no known format, a split without rows; and what
            `on_bad` raises.
        """
        seen: dict[str, str] = {}
        for number, row, text in self._texts(source, split, "posts", limit, columns, on_bad):
            try:
                post = self._post(row, text, text.id or _free_name(f"{split or 'row'}-{number}", seen))
                _require_new(post, seen)
            except BadRow as bad:
                on_bad(bad)
            else:
                yield post

    def iter_pairs(
        self,
        source: str,
        split: str | None,
        *,
        limit: int | None = None,
        columns: Mapping[str, str] | None = None,
        on_bad: BadRows = stop,
        counts: PairCounts | None = None,
    ) -> Iterator[Pair]:
        """The preference pairs of one split, one at a time, in the order of the data.

        Dropped are pairs whose responses are the same text once cleaned, and pairs with one of fewer words than the
        form asks for.

        Args: as of `iter_posts`, and
            counts: is kept up to date, for the caller to read at the end.

        Raises: as `iter_posts`.
        """
        counts = PairCounts() if counts is None else counts
        for number, row, text in self._texts(source, split, "pairs", limit, columns, on_bad):
            counts.total += 1
            chosen, rejected = self.form.clean_response(text.chosen), self.form.clean_response(text.rejected)
            if chosen == rejected:
                counts.identical += 1
            elif min(len(chosen.split()), len(rejected.split())) < self.form.min_words:
                counts.short += 1
            else:
                counts.kept += 1
                name = text.id or f"{split or 'row'}-{number}"
                yield Pair(name, self.form.clean_prompt(text.prompt), chosen, rejected, text.extra, row.where)

    def load_posts(
        self,
        source: str,
        split: str | None,
        *,
        limit: int | None = None,
        columns: Mapping[str, str] | None = None,
        bad_rows: OnBadRows = "stop",
    ) -> list[Post]:
        """`iter_posts` as a list. Raises: UserError also when no row could be used."""
        skipped = Skipped()
        on_bad = choose_on_bad(bad_rows, skipped)
        return usable_posts(
            self.iter_posts(source, split, limit=limit, columns=columns, on_bad=on_bad), source, split, skipped
        )

    def load_pairs(
        self,
        source: str,
        split: str | None,
        *,
        limit: int | None = None,
        columns: Mapping[str, str] | None = None,
        bad_rows: OnBadRows = "stop",
    ) -> tuple[list[Pair], PairCounts]:
        """`iter_pairs` as a list, and how many were dropped. Raises: UserError also when no pair is left."""
        skipped, counts = Skipped(), PairCounts()
        on_bad = choose_on_bad(bad_rows, skipped)
        pairs = self.iter_pairs(source, split, limit=limit, columns=columns, on_bad=on_bad, counts=counts)
        return usable_pairs(pairs, source, split, skipped, counts), counts

    def _texts(
        self,
        source: str,
        split: str | None,
        kind: Kind,
        limit: int | None,
        columns: Mapping[str, str] | None,
        on_bad: BadRows,
    ) -> Iterator[tuple[int, RawRow, Any]]:
        """(number of the row from 1, the row, its `PostText` or `PairText`); each row's columns tell its format."""
        if limit is not None and limit < 1:
            raise UserError(f"limit must be at least 1, not {limit}: leave it out for all rows")
        columns = dict(columns or {})
        check_columns(columns)
        opened = open_source(source, split, columns.get("split", "split"))
        forms = RowFormats(kind, columns)
        for number, raw in enumerate(itertools.islice(opened.rows(on_bad), limit), start=1):
            try:
                row = self.row(mapped(raw, columns), kind)
                yield number, row, self._read(row, forms)
            except BadRow as bad:
                on_bad(bad)

    def _read(self, row: RawRow, forms: RowFormats) -> Any:
        if not self.needs_response and row.values.get("completion") == "":
            return PostText(read_prompt(row), "", row_id(row), others(row, ("prompt", "completion")))
        return forms.of(row).read(row)

    def _post(self, row: RawRow, text: PostText, name: str) -> Post:
        """The cleaned record. Raises: BadRow when nothing is left of the post or the summary."""
        prompt, summary = self.form.clean_prompt(text.prompt), self.form.clean_response(text.summary)
        body = self.form.split_prompt(prompt)[1].strip()
        for what, left in (("post", body), ("summary", summary)):
            if not left and (what == "post" or self.needs_response):
                raise BadRow(row.where, f"the {what} is empty", f"fill it in, drop the row, {SKIP}")
        return Post(name, prompt, summary, body, text.extra, row.where)


def usable_posts(posts: Iterable[Post], source: str, split: str | None, skipped: Skipped) -> list[Post]:
    """The posts as a list; what was left out of the split is said. Raises: UserError when there is none."""
    found = list(posts)
    say_skipped(source, split, skipped)
    if not found:
        raise UserError(f"{named(source, split)}: no usable row ({skipped}): mend the data")
    return found


def usable_pairs(
    pairs: Iterable[Pair], source: str, split: str | None, skipped: Skipped, counts: PairCounts
) -> list[Pair]:
    """The same of pairs, `counts` of which says what was dropped."""
    found = list(pairs)
    say_skipped(source, split, skipped)
    if not found:
        raise UserError(f"{named(source, split)}: no usable pair ({counts}): give other data")
    return found


def say_skipped(source: str, split: str | None, skipped: Skipped | str) -> None:
    """Warn on the main rank of rows that were left out; nothing to say without any.

    Args:
        skipped: what was collected, or its text as kept in a cache ("" for none).
    """
    told = skipped if isinstance(skipped, str) else str(skipped) if skipped.counts else ""
    if told:
        log.warning(f"{named(source, split)}: {told}")


def _free_name(name: str, seen: Collection[str]) -> str:
    """The name, with a number after it where an id of the data is the same."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(one for one in names if one not in seen)


def _require_new(post: Post, seen: dict[str, str]) -> None:
    if post.id in seen:
        detail = f"'{post.id}', also at {seen[post.id]}"
        raise BadRow(post.where, "an id for the second time", f"make the ids unique, {SKIP}", detail)
    seen[post.id] = post.where
