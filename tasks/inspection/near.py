"""Posts of two splits that are nearly the same: MinHash and locality-sensitive hashing find them, counting proves them.

A text is the set of its runs of five words. Kept of each post is a signature of 512 bytes; the texts of the few posts
that may be alike are read again at the end and compared exactly. The signatures follow from the text alone, so the same
data always give the same result.
"""

from __future__ import annotations

import heapq
import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from datasketch import MinHash, MinHashLSH
from tqdm import tqdm

from tasks.inspection.duplicates import SHOWN, normalised

WORDS = 5
PERMUTATIONS = 128
RECALL = 0.99  # chance of a pair at the threshold itself to be looked at; above it is higher
MARGIN = 0.15  # more than four standard deviations of the estimated similarity
MOST = 5  # posts of the other split that a post is compared with, the likeliest first
CHUNK = 4096
SHOWN_CHARACTERS = 80

_BLANK = MinHash(PERMUTATIONS, seed=1, hashfunc=zlib.crc32)

# (split, rows) → their posts
Texts = Callable[[str, set[int]], Mapping[int, str]]


def shingles(text: str) -> set[str]:
    """Every run of five words, case and white space aside; a shorter text is one run."""
    words = normalised(text).split(" ")
    return {" ".join(words[start : start + WORDS]) for start in range(max(len(words) - WORDS + 1, 1))}


def jaccard(a: set[str], b: set[str]) -> float:
    """|a ∩ b| / |a ∪ b|"""
    common = len(a & b)
    return common / (len(a) + len(b) - common)


def signature(text: str) -> np.ndarray:
    """(128,) uint32: equal places in two signatures, as a share, estimate the Jaccard similarity of their texts."""
    runs = iter(shingles(text))
    sketch = _BLANK.copy()
    while chunk := [run.encode("utf-8", "surrogatepass") for run in itertools.islice(runs, CHUNK)]:
        sketch.update_batch(chunk)
    return sketch.hashvalues


@dataclass
class SplitSignatures:
    """Signatures of the distinct posts of one split."""

    signatures: list[np.ndarray] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def add(self, row: int, key: int, text: str) -> None:
        """The post of a row; one whose exact text was there before is passed over."""
        if key not in self.seen:
            self.seen.add(key)
            self.signatures.append(signature(text))
            self.rows.append(row)
            self.keys.append(key)

    def without(self, other: SplitSignatures) -> SplitSignatures:
        """The posts that are not exactly one of another split."""
        kept = [number for number, key in enumerate(self.keys) if key not in other.seen]
        return SplitSignatures(
            [self.signatures[i] for i in kept], [self.rows[i] for i in kept], [self.keys[i] for i in kept]
        )


@dataclass(frozen=True)
class NearPair:
    """Two posts and the share of their five-word runs that they have in common."""

    similarity: float
    places: tuple[str, str]
    texts: tuple[str, str]


@dataclass(frozen=True)
class Near:
    """Posts of `second` that are nearly, not exactly, a post of `first`, and the closest of them."""

    first: str
    second: str
    count: int
    closest: tuple[NearPair, ...]


def bands(threshold: float) -> tuple[int, int]:
    """(number of bands, rows in each) with the fewest needless comparisons that still have `RECALL`."""
    for rows in range(PERMUTATIONS // 2, 0, -1):
        number = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** number >= RECALL:
            return number, rows
    return PERMUTATIONS, 1


Candidate = tuple[float, int, int]  # estimated similarity, row of the first split, row of the second


def near_duplicates(
    splits: Mapping[str, SplitSignatures], places: Mapping[str, list[str]], texts: Texts, threshold: float
) -> list[Near]:
    """For each two splits the posts whose similarity reaches the threshold, those that are exactly equal aside.

    Args:
        splits: in the order of the report. places: of every row of each split.
        texts: reads posts again. threshold: smallest Jaccard similarity, in (0, 1].
    """
    both = list(itertools.combinations(splits, 2))
    candidates = {}
    wanted: dict[str, set[int]] = {name: set() for name in splits}
    for a, b in both:
        ours, theirs = splits[a].without(splits[b]), splits[b].without(splits[a])
        candidates[a, b] = _likeliest(_candidates(ours, theirs, threshold, f"near duplicates: {a}, {b}"))
        wanted[a] |= {row for _, row, _ in candidates[a, b]}
        wanted[b] |= {row for _, _, row in candidates[a, b]}
    posts = {name: texts(name, rows) if rows else {} for name, rows in wanted.items()}
    found = []
    for a, b in both:
        pairs = _verified(candidates[a, b], posts[a], posts[b], threshold)
        closest = sorted(pairs, key=lambda item: -item[0])[:SHOWN]
        shown = tuple(
            NearPair(likeness, (places[a][x], places[b][y]), (_start(posts[a][x]), _start(posts[b][y])))
            for likeness, x, y in closest
        )
        found.append(Near(a, b, len(pairs), shown))
    return found


def _candidates(a: SplitSignatures, b: SplitSignatures, threshold: float, description: str) -> list[Candidate]:
    """Pairs whose signatures agree in a band and, as a whole, almost enough."""
    if len(a.rows) < len(b.rows):  # the index takes far more memory than the signatures: the smaller side goes into it
        return [(likeness, x, y) for likeness, y, x in _candidates(b, a, threshold, description)]
    index = MinHashLSH(num_perm=PERMUTATIONS, params=bands(threshold))
    for number, values in enumerate(b.signatures):
        index.insert(number, _sketch(values), check_duplication=False)
    found: list[Candidate] = []
    for row, values in zip(
        a.rows, tqdm(a.signatures, description, unit="post", leave=False, disable=None), strict=True
    ):
        alike = ((float(np.mean(b.signatures[hit] == values)), hit) for hit in index.query(_sketch(values)))
        close = [(likeness, row, b.rows[hit]) for likeness, hit in alike if likeness >= threshold - MARGIN]
        found += heapq.nlargest(20 * MOST, close)
    return found


def _sketch(values: np.ndarray) -> MinHash:
    return MinHash(hashvalues=values, permutations=_BLANK.permutations, scheme=_BLANK.scheme)


def _likeliest(candidates: list[Candidate]) -> list[Candidate]:
    """The likeliest first, at most `MOST` for each row of the second split."""
    taken: Counter[int] = Counter()
    kept = []
    for candidate in sorted(candidates, key=lambda item: (-item[0], item[1:])):
        if taken[candidate[2]] < MOST:
            taken[candidate[2]] += 1
            kept.append(candidate)
    return kept


def _verified(
    candidates: list[Candidate], ours: Mapping[int, str], theirs: Mapping[int, str], threshold: float
) -> list[Candidate]:
    """For each row of the second split the closest of its candidates, when it reaches the threshold exactly."""
    best: dict[int, Candidate] = {}
    for _, x, y in candidates:
        likeness = jaccard(shingles(ours[x]), shingles(theirs[y]))
        if likeness >= threshold and (y not in best or likeness > best[y][0]):
            best[y] = (likeness, x, y)
    return [best[y] for y in sorted(best)]


def _start(text: str) -> str:
    return " ".join(text.split())[:SHOWN_CHARACTERS]
