"""Whether a summary is one at all: empty, without an end, repeating itself, or copied from its post.

Words are runs of letters and digits of any script, compared after Unicode's NFKC and case folding, so case, spacing and
punctuation do not count. In a script without spaces between words a run is one long word: of the copies only a whole
title is found then. Left out: faults that take understanding (wrong facts, another post's summary).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

from evaluation.statistics import Interval, proportion

REPEATED_WORDS, REPEATED_TIMES = 4, 3
SENTENCE_WORDS = 3  # shorter ones ("No. No.") are said twice by people too
LEAD_WORDS = 8
TITLE_WORDS = 4
_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f\u061f\u0964\n]+")


@dataclass(frozen=True)
class Faults:
    """What is wrong with one summary.

    Args:
        empty: no letter and no digit; white space, punctuation and emoji alone are empty.
        no_eos: the model did not end it within its limit.
        repeats: the same four words in a row three times (they may overlap), or a sentence of three words or more
            twice.
        copied_lead: the whole summary, at least eight words of it, is how the post begins; its last word may be cut
            when it has no EOS.
        copied_title: the post's title, or a longer text that begins with a title of at least four words.
    """

    empty: bool
    no_eos: bool
    repeats: bool
    copied_lead: bool
    copied_title: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The faults it has, in a fixed order."""
        return tuple(name for name in FAULTS if getattr(self, name))


FAULTS = tuple(field.name for field in fields(Faults))


def words(text: str) -> list[str]:
    """The words of a text as they are compared here."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def faults(text: str, ended: bool, post_body: str, title: str) -> Faults:
    """The faults of one summary.

    Args:
        text: the summary as written, without EOS. ended: whether EOS came within the limit.
        post_body: the post without its header. title: "" where there is none.
    """
    said = words(text)
    return Faults(
        empty=not said,
        no_eos=not ended,
        repeats=_repeats_words(said) or _repeats_a_sentence(text),
        copied_lead=len(said) >= LEAD_WORDS and _begins(words(post_body), said, whole=ended),
        copied_title=_is_title(said, words(title)),
    )


def fault_shares(found: Sequence[Faults]) -> dict[str, Interval]:
    """The share of summaries with each fault, 0 to 1, with Wilson's interval. Raises: ValueError for none."""
    return {name: proportion(sum(getattr(one, name) for one in found), len(found)) for name in FAULTS}


def _repeats_words(said: Sequence[str]) -> bool:
    runs = Counter(zip(*(said[start:] for start in range(REPEATED_WORDS)), strict=False))
    return max(runs.values(), default=0) >= REPEATED_TIMES


def _repeats_a_sentence(text: str) -> bool:
    sentences = [tuple(words(part)) for part in _SENTENCE_END.split(text)]
    long_ones = [sentence for sentence in sentences if len(sentence) >= SENTENCE_WORDS]
    return len(set(long_ones)) < len(long_ones)


def _begins(post: Sequence[str], said: Sequence[str], whole: bool) -> bool:
    """Whether the post begins with what was said; unless `whole`, the last word may be the beginning of the post's."""
    lead = list(post[: len(said)])
    if lead == list(said):
        return True
    return not whole and len(lead) == len(said) and lead[:-1] == list(said[:-1]) and lead[-1].startswith(said[-1])


def _is_title(said: Sequence[str], title: Sequence[str]) -> bool:
    if not said or not title:
        return False
    return list(said) == list(title) or (len(title) >= TITLE_WORDS and list(said[: len(title)]) == list(title))
