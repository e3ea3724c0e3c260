"""Edited reference summaries that are worse than the untouched ones: a reward model should notice each time.

The edits are those of Stiennon et al. 2020 (appendix on the reward model's validation sets). Each is made only where it
changes the text, and compared with the reference of the same post. Left out: their edits by people, and "asks for
advice at the end", which takes wording of the posts' own kind.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reward_model.role_swap import swap_roles

SEED = 0
TRUNCATED_WORDS = 4  # a shorter reference is not cut in half
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True)
class ReferencePost:
    """A post with its reference summary; title and body may be empty."""

    prompt: str
    title: str
    body: str
    summary: str


@dataclass(frozen=True)
class Edited:
    """An edited reference. `post`: its index among the posts."""

    edit: str
    post: int
    text: str


@dataclass(frozen=True)
class _Edit:
    about: str
    make: Callable[[ReferencePost, ReferencePost, random.Random], str]


def sentences(text: str) -> list[str]:
    """Sentences as full stops, question marks, exclamation marks and line ends part them."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def _title_twice(post: ReferencePost, other: ReferencePost, rng: random.Random) -> str:
    return f"{post.title} {post.title}".strip()


def _shuffled(post: ReferencePost, other: ReferencePost, rng: random.Random) -> str:
    parts = sentences(post.summary)
    if len(set(parts)) < 2:
        return ""
    mixed = rng.sample(parts, len(parts))
    while mixed == parts:
        mixed = rng.sample(parts, len(parts))
    return " ".join(mixed)


def _roles(post: ReferencePost, other: ReferencePost, rng: random.Random) -> str:
    return swap_roles(post.summary)


def _first_three(post: ReferencePost, other: ReferencePost, rng: random.Random) -> str:
    return " ".join(sentences(post.body)[:3])


def _truncated(post: ReferencePost, other: ReferencePost, rng: random.Random) -> str:
    words = post.summary.split()
    return " ".join(words[: len(words) // 2]) if len(words) >= TRUNCATED_WORDS else ""


def _other(post: ReferencePost, other: ReferencePost, rng: random.Random) -> str:
    return other.summary


EDITS = {
    "title_twice": _Edit("the post's title, twice", _title_twice),
    "shuffled_sentences": _Edit("the sentences in another order", _shuffled),
    "role_swap": _Edit("I <-> he, my <-> his, mother <-> father, ...", _roles),
    "first_three_sentences": _Edit("the first three sentences of the post", _first_three),
    "truncated": _Edit("the first half of the words", _truncated),
    "other_post": _Edit("the reference of another post", _other),
}


def edited_references(posts: Sequence[ReferencePost]) -> list[Edited]:
    """Every edit of every reference that changes it (white space does not count) and leaves something; the same for
    the same posts each time."""
    rng = random.Random(SEED)
    made = []
    for number, post in enumerate(posts):
        other = _next_other(posts, number)
        for name, edit in EDITS.items():
            text = edit.make(post, other, rng)
            if text and text.split() != post.summary.split():
                made.append(Edited(name, number, text))
    return made


def _next_other(posts: Sequence[ReferencePost], number: int) -> ReferencePost:
    """The next post, round and round, of another prompt; itself where there is none."""
    following = [*posts[number + 1 :], *posts[:number]]
    return next((one for one in following if one.prompt != posts[number].prompt), posts[number])


def stress_texts(posts: Sequence[ReferencePost], edited: Sequence[Edited]) -> list[tuple[str, str]]:
    """(prompt, summary) of every text to score: the references, then the edits."""
    return [(post.prompt, post.summary) for post in posts] + [(posts[one.post].prompt, one.text) for one in edited]


def prefers_reference(edited: Sequence[Edited], scores: Sequence[float]) -> dict[str, list[float]]:
    """Edit → for each text that it changed: 1 where the reference scores higher, 0.5 for a tie, 0 where the edit does;
    not a number where a score is none.

    Args:
        scores: of `stress_texts`.
    """
    references, of_edits = scores[: len(scores) - len(edited)], scores[len(scores) - len(edited) :]
    found: dict[str, list[float]] = {name: [] for name in EDITS}
    for one, score in zip(edited, of_edits, strict=True):
        difference = references[one.post] - score
        found[one.edit].append(
            difference if math.isnan(difference) else 0.5 * (1 + (difference > 0) - (difference < 0))
        )
    return found
