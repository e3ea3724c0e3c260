"""Summaries that need no model: what a trained one has to beat. The title, the first sentence, the first 30 words.

Cut from the prompt as the models read it. Left out: the longest sentence and other picks that need a score.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tasks.text import split_prompt

LEAD_WORDS = 30
# A greeting ("Hi all!") or an abbreviation ("Dr.") is no sentence: one goes on until it has as many words.
SENTENCE_WORDS = 3
_TITLE = re.compile(r"^TITLE:[ \t]*(.*)$", re.MULTILINE)
# Where a sentence may end: after . ! ? and whatever closes behind them, before white space; after their full-width
# forms, which no space follows; at the end of a line.
_END = re.compile(r"""[.!?…؟।]+["'”’»)\]]*(?=\s|\Z)|[。！？]+[」』”）]*|(?=\n)|\Z""")


def title(prompt: str) -> str | None:
    """The title in the prompt's header; None where there is none, as in news articles."""
    found = _TITLE.search(split_prompt(prompt)[0])
    return (found.group(1).strip() or None) if found else None


def first_sentence(prompt: str) -> str | None:
    """The post up to the first end of a sentence or of a line, at least three words; None for an empty post."""
    body = split_prompt(prompt)[1].strip()
    ends = (body[: match.end()].strip() for match in _END.finditer(body))
    # Characters of a script without spaces count as words, or its sentences would never be long enough.
    found = next((text for text in ends if _length(text) >= SENTENCE_WORDS), body)
    return " ".join(found.split()) or None


def first_30_words(prompt: str) -> str | None:
    """The first 30 words of the post, parted by single spaces; None for an empty post."""
    return " ".join(split_prompt(prompt)[1].split()[:LEAD_WORDS]) or None


BASELINES: dict[str, Callable[[str], str | None]] = {
    "title": title,
    "first_sentence": first_sentence,
    "first_30_words": first_30_words,
}


def baseline_summaries(name: str, prompts: Sequence[str]) -> list[str | None]:
    """One summary a prompt; None where the prompt has nothing to take it from.

    Raises: KeyError for a name that is not in `BASELINES`.
    """
    baseline = BASELINES[name]
    return [baseline(prompt) for prompt in prompts]


def why_left_out(name: str, summaries: Sequence[str | None]) -> str | None:
    """Why a baseline cannot stand beside the models, which summarised every post; None when it can."""
    missing = sum(summary is None for summary in summaries)
    if not missing:
        return None
    lacking = "title" if name == "title" else "text"
    return f"baseline {name} left out: {missing} of {len(summaries)} posts have no {lacking}"


def _length(text: str) -> int:
    """Words, or letters where the script writes no spaces (CJK ideographs and kana)."""
    return max(len(text.split()), len(re.findall(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]", text)))
