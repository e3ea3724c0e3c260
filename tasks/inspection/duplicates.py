"""The same text again: within a split, and in two splits, which is leakage.

Kept of each row are 64-bit hashes of its texts, never the texts.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.inspection.view import Record
from tasks.records import Post
from tasks.text import split_prompt

SHOWN = 3  # places shown of each pair of splits


def normalised(text: str) -> str:
    """The text without differences of case and white space."""
    return " ".join(text.casefold().split())


def key(*texts: str) -> int:
    """A 64-bit hash of normalised texts, the same in every process."""
    joined = "\0".join(map(normalised, texts))
    return int.from_bytes(hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def body_of(record: Record) -> str:
    """The post alone; the whole prompt where it has none."""
    return split_prompt(record.prompt)[1].strip() or record.prompt


def keys_of(record: Record) -> dict[str, int]:
    """Hashes by what they are of. `swapped` is the pair with the opposite preference."""
    post = key(body_of(record))
    if isinstance(record, Post):
        # Without a summary there is none to be repeated.
        return {"post": post, "summary": key(record.summary) if record.summary else key(record.id, "none")}
    prompt, chosen, rejected = record.prompt, record.chosen, record.rejected
    return {"post": post, "pair": key(prompt, chosen, rejected), "swapped": key(prompt, rejected, chosen)}


@dataclass
class SplitKeys:
    """The hashes of one split in the order of its rows, and the rows' places."""

    keys: dict[str, array[int]] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)

    def add(self, record: Record) -> int:
        """Hash one row; gives the hash of its post."""
        keys = keys_of(record)
        for what, value in keys.items():
            self.keys.setdefault(what, array("Q")).append(value)
        self.places.append(record.where)
        return keys["post"]

    def column(self, what: str) -> np.ndarray:
        """(rows,) uint64"""
        return np.array(self.keys.get(what, array("Q")), dtype=np.uint64)


@dataclass(frozen=True)
class Shared:
    """Distinct texts that two splits have in common, and where the first of them are."""

    first: str
    second: str
    count: int
    places: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Overlap:
    """How often one kind of text ("post", "summary", "pair") occurs again.

    Args:
        what: the kind. rows: of each split. repeated: those of them that repeat an earlier row of the split.
        shared: for each two splits.
    """

    what: str
    rows: dict[str, int]
    repeated: dict[str, int]
    shared: tuple[Shared, ...]


def overlap(splits: Mapping[str, SplitKeys], what: str) -> Overlap:
    """Exact repetitions, case and white space aside."""
    columns = {name: split.column(what) for name, split in splits.items()}
    firsts = {name: np.unique(column, return_index=True) for name, column in columns.items()}
    shared = []
    for a, b in itertools.combinations(splits, 2):
        common = np.intersect1d(firsts[a][0], firsts[b][0], assume_unique=True)
        pairs = _places((splits[a], *firsts[a]), (splits[b], *firsts[b]), common)
        shared.append(Shared(a, b, len(common), pairs))
    return Overlap(
        what,
        {name: len(column) for name, column in columns.items()},
        {name: len(columns[name]) - len(first[0]) for name, first in firsts.items()},
        tuple(shared),
    )


def _places(
    a: tuple[SplitKeys, np.ndarray, np.ndarray], b: tuple[SplitKeys, np.ndarray, np.ndarray], common: np.ndarray
) -> tuple[tuple[str, str], ...]:
    """Where the first few common texts are, in the order of the second split."""
    (split_a, keys_a, rows_a), (split_b, keys_b, rows_b) = a, b
    in_a = rows_a[np.searchsorted(keys_a, common)]
    in_b = rows_b[np.searchsorted(keys_b, common)]
    order: Sequence[int] = np.argsort(in_b)[:SHOWN].tolist()
    return tuple((split_a.places[int(in_a[i])], split_b.places[int(in_b[i])]) for i in order)


def contradictions(splits: Mapping[str, SplitKeys]) -> dict[str, int]:
    """For each split the number of pairs (two summaries of a prompt) preferred once this way and once the other."""
    counts = {}
    for name, split in splits.items():
        pair, swapped = split.column("pair"), split.column("swapped")
        differ = pair != swapped  # in more than case and white space
        counts[name] = len(np.intersect1d(pair[differ], swapped[differ])) // 2  # found as (x, y) and as (y, x)
    return counts
