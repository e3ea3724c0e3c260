"""Where a summary's words come from in its post.

The longest common runs of words, taken greedily from left to right of the summary: the "extractive fragments" of
Grusky et al. 2018, "Newsroom" (section 4, figure 5). Words are compared without case and punctuation. Not every
fragment is evidence of a source, so one is kept only when it has three words or more, or when one of its words is
neither a function word ("the", "because") nor a lone letter.
Left out: stemming and synonyms (a paraphrase has no source here), scripts written without spaces between words.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SPEAKS_FOR_ITSELF = 3  # words in a run; shorter ones need a word that is no function word
_LISTED = """
about after again all also although always am an and another any anything are aren't around as at back be because
been before being both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during
each either else even ever every few for from get gets getting go goes going gone good got had hadn't has hasn't
have haven't having he he's her here hers him himself his how however i'd i'll i'm i've if in into is isn't it it's
its itself just know like lot made make many may maybe me might mine more most much must my myself need never no
nor not now of off on once one only or other our out over own really said same say says see she she's should
shouldn't since so some something still such than that that's the their them then there there's they they're thing
things think this those though through to too two under until up upon us very want was wasn't way we we're we've
well went were weren't what what's when where whether which while who whom whose why will with within without won't
would wouldn't yet you you're your yours
"""
_FUNCTION_WORDS = frozenset(_LISTED.split())


@dataclass(frozen=True)
class Span:
    """One run of words that post and summary share; positions count characters, `end` is exclusive."""

    start: int  # in the post
    end: int
    summary_start: int
    summary_end: int
    words: int


@dataclass(frozen=True)
class _Words:
    """The words of a text (lower case) with their (start, end), and for each word the places where it stands."""

    words: list[str]
    places: list[tuple[int, int]]
    at: dict[str, list[int]]


def source_spans(post: str, summary: str) -> list[Span]:
    """The runs of words that the summary shares with the post, in the summary's order.

    Runs do not overlap in the summary; in the post they may, where the summary says something twice. A run that
    occurs several times in the post is placed where it occurs first.

    Args:
        post: the text in which sources are sought. summary: the text whose words are looked up.
    """
    theirs, ours = _words_of_post(post), _split(summary)
    spans = []
    position = 0
    while position < len(ours.words):
        start, length = _longest_run(theirs, ours.words, position)
        if _is_evidence(ours.words[position : position + length]):
            begin, end = theirs.places[start][0], theirs.places[start + length - 1][1]
            last = ours.places[position + length - 1]
            spans.append(Span(begin, end, ours.places[position][0], last[1], length))
        position += max(length, 1)
    return spans


def _longest_run(post: _Words, words: Sequence[str], position: int) -> tuple[int, int]:
    """Place in the post and length of the longest run that begins with `words[position]`; length 0 for none."""
    best, longest = 0, 0
    for place in post.at.get(words[position], ()):
        length = 0
        room = min(len(words) - position, len(post.words) - place)
        while length < room and words[position + length] == post.words[place + length]:
            length += 1
        if length > longest:
            best, longest = place, length
    return best, longest


def _is_evidence(run: Sequence[str]) -> bool:
    return len(run) >= _SPEAKS_FOR_ITSELF or any(word not in _FUNCTION_WORDS and _not_a_letter(word) for word in run)


def _not_a_letter(word: str) -> bool:
    return len(word) > 1 or word.isdigit()


def _split(text: str) -> _Words:
    matches = list(_WORD.finditer(text))
    words = [match[0].casefold().replace("’", "'") for match in matches]
    at: dict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(words):
        at[word].append(place)
    return _Words(words, [match.span() for match in matches], dict(at))


@lru_cache(maxsize=4)  # the summaries of several models are looked up in one post after another
def _words_of_post(post: str) -> _Words:
    return _split(post)
