"""The gold score of the miniature: what a summary is really worth, computed from the facts its post was made of.

    gold = C − 0.25·min(I, 3) − min(0.5, 0.04·max(0, words − 30)) − 0.1·F

C is the share of the post's facts that the summary covers: the event's key phrase, the writer's wish and every slot
value (person, age, place, time, amount), each matched as whole words, ignoring case. I counts invented values: people,
places, times, numbers and amounts of the miniature's vocabulary in the summary that the post does not have. F counts
faults of form: not beginning with a capital, not closing with a full stop, repeating a run of four words or a sentence,
and not having ended (cut off before EOS). A perfect summary scores 1; an empty one −0.2 or less.

It labels preference pairs and judges in evaluation; the policy never sees it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.miniature_situations import COUNTS, PEOPLE, PLACES, UNITS

INVENTED_PENALTY, INVENTED_MOST = 0.25, 3
FREE_WORDS, WORD_PENALTY, LENGTH_MOST = 30, 0.04, 0.5
FORM_PENALTY = 0.1
REPEAT = 4

_VALUE = re.compile(
    rf"\$\d+|\b\d+\b|\b(?:{'|'.join(COUNTS)}) (?:{'|'.join(UNITS)})\b|\b(?:{'|'.join(PEOPLE + PLACES)})\b",
    re.IGNORECASE,
)

Facts = Sequence[Mapping[str, Any]]


def gold_score(facts: Facts, text: str, ended: bool = True) -> float:
    """The gold score (see above).

    Args:
        facts: of the post, each `{"name": "place", "text": "Denver"}`.
        text: the summary, without EOS; outer white space does not count.
        ended: whether the generation reached its EOS.
    """
    text = text.strip()
    return (
        coverage(facts, text)
        - INVENTED_PENALTY * min(len(invented(facts, text)), INVENTED_MOST)
        - min(LENGTH_MOST, WORD_PENALTY * max(0, len(text.split()) - FREE_WORDS))
        - FORM_PENALTY * form_faults(text, ended)
    )


def coverage(facts: Facts, text: str) -> float:
    """Share of the facts that the summary states, in [0, 1]."""
    return sum(_states(text, fact["text"]) for fact in facts) / len(facts)


def invented(facts: Facts, text: str) -> set[str]:
    """Values of the miniature's vocabulary that the summary states and no fact of the post does."""
    known = {fact["text"].lower() for fact in facts}
    return {value.lower() for value in _VALUE.findall(text)} - known


def form_faults(text: str, ended: bool = True) -> int:
    """Faults of form, 0 to 4: no capital, no full stop, something repeated, not ended."""
    return sum((not text[:1].isupper(), not text.endswith("."), _repeats(text), not ended))


def _states(text: str, value: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE) is not None


def _repeats(text: str) -> bool:
    """Whether a run of four words, or a whole sentence, occurs twice."""
    words = re.findall(r"[\w$]+", text.lower())
    runs = [tuple(words[start : start + REPEAT]) for start in range(len(words) - REPEAT + 1)]
    sentences = [part.strip().lower() for part in text.split(".") if part.strip()]
    return len(set(runs)) < len(runs) or len(set(sentences)) < len(sentences)
