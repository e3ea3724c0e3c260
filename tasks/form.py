"""How a task writes a prompt and a response, and how both become token ids.

Prompt and response are always tokenised apart and their ids joined, so that the ids of a prompt are the same in
training, in rollouts and in evaluation. A prompt that is too long loses text of its body; what is around it stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from trlx.utils.errors import UserError

END_OF_TEXT = "<|endoftext|>"
WORD_ENDS = re.compile(r"\S(?=\s|$)")
Keep = Literal["start", "end"]


@dataclass(frozen=True)
class EncodedSample:
    """Token ids of one sample; the model reads `prompt_ids + response_ids`."""

    prompt_ids: list[int]
    response_ids: list[int]  # ends with EOS


CountTokens = Callable[[str], int]


class Divided(NamedTuple):
    """A text in which prompt and response were one."""

    prompt: str
    response: str


class Parts(NamedTuple):
    """A prompt in three parts, which joined are the prompt; only the body may be cut."""

    head: str
    body: str
    closing: str
    keep: Keep = "start"  # what is left of a body that is cut: the start of a post, the end of a dialogue


@dataclass(frozen=True)
class TextForm:
    """The texts of one task.

    Args:
        clean_prompt: text of the data → prompt, the same again for a prompt.
        clean_response: text of the data → response, without leading space, marks and end-of-text.
        split_prompt: prompt → its `Parts`.
        stays: what head and closing are called, for messages.
        min_words: pairs with a response of fewer are dropped.
        divide: of a post without a response, whose prompt holds both: (text, tokens of a text) → the two, or None where
            the text is too short for that. None where prompts are whole.
    """

    clean_prompt: Callable[[str], str]
    clean_response: Callable[[str], str]
    split_prompt: Callable[[str], Parts]
    stays: str
    min_words: int = 1
    divide: Callable[[str, CountTokens], Divided | None] | None = None

    def cut(self, prompt: str, tokenizer: Any, max_tokens: int) -> str:
        """The prompt with as much of its body as makes at most `max_tokens` tokens.

        Whole lines go first; if not even one fits, that line loses tokens.

        Raises: UserError when the parts that must stay do not fit by themselves.
        """
        prompt = self.clean_prompt(prompt)
        if len(token_ids(tokenizer, prompt)) <= max_tokens:
            return prompt
        head, body, closing, keep = self.split_prompt(prompt)

        def fits(kept: str) -> bool:
            return len(token_ids(tokenizer, head + kept + closing)) <= max_tokens

        for cuts in (lambda: _line_cuts(body, keep), lambda: _token_cuts(body, keep, tokenizer)):
            place = last_fit(cuts(), lambda cut: fits(_kept(body, cut, keep)))
            kept = "" if place is None else _kept(body, place, keep)
            if kept:  # a cut that leaves no text is no better than none
                return head + kept + closing
        if not fits(""):
            raise UserError(
                f"a prompt needs more than {max_tokens} tokens for {self.stays} alone: "
                f"raise the length limit or drop the row (it begins {prompt[:60]!r})"
            )
        return head + closing

    def encode(self, tokenizer: Any, prompt: str, response: str, max_length: int) -> EncodedSample:
        """Token ids of one training sample: `tok(prompt)`, then `tok(response_text(response)) + [eos]`.

        The prompt is cut so that both together have at most `max_length` tokens; the response is never cut, since a cut
        one would teach the model to end in the middle.

        Raises: UserError when they cannot fit, or when the tokenizer has no EOS token.
        """
        if tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no EOS token: set eos_token in its tokenizer_config.json")
        response_ids = [*token_ids(tokenizer, response_text(response)), int(tokenizer.eos_token_id)]
        room = max_length - len(response_ids)
        if room <= 0:
            raise UserError(
                f"a response of {len(response_ids)} tokens leaves no room for its prompt in max_length "
                f"{max_length}: raise max_length or drop it (it begins {response[:60]!r})"
            )
        return EncodedSample(token_ids(tokenizer, self.cut(prompt, tokenizer, room)), response_ids)


def _line_cuts(body: str, keep: Keep) -> list[int]:
    """Where whole lines can be cut off, ever less of them."""
    breaks = [found.start() for found in re.finditer("\n", body)]
    return breaks if keep == "start" else [place + 1 for place in reversed(breaks)]


def _token_cuts(body: str, keep: Keep, tokenizer: Any) -> list[int]:
    """Where tokens of the line that is kept to the last can be cut off, ever less of them."""
    if keep == "start":
        return [end for _, end in token_spans(tokenizer, body.split("\n", 1)[0])]
    line = body.rpartition("\n")[2]
    return [len(body) - len(line) + start for start, _ in reversed(token_spans(tokenizer, line))]


def _kept(body: str, cut: int, keep: Keep) -> str:
    return body[:cut].rstrip() if keep == "start" else body[cut:].lstrip()


def last_fit(cuts: list[int], fits: Callable[[int], bool]) -> int | None:
    """The last cut that fits, by bisection; then stepping back, as token counts are not quite monotone."""
    low, high = 0, len(cuts)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(cuts[middle]) else (low, middle)
    while low > 0 and not fits(cuts[low - 1]):
        low -= 1
    return cuts[low - 1] if low > 0 else None


def response_text(text: str) -> str:
    """What follows a prompt, of any task, as text; the EOS is an id and never part of the text."""
    return " " + text


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text with no special tokens added."""
    # Not verbose: a text longer than the model takes is about to be cut, which needs no warning.
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def token_spans(tokenizer: Any, line: str) -> list[tuple[int, int]]:
    """Where each token of the line begins and ends, ascending; each character for a tokenizer that cannot tell."""
    try:
        found = tokenizer(line, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    except NotImplementedError:  # one written in Python
        return [(place, place + 1) for place in range(len(line))]
    return sorted({(int(start), int(end)) for start, end in found["offset_mapping"]})
