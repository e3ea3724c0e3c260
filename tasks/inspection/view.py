"""A sample as a model sees it: cut to its limit, as token ids and written out for people.

The rules are those of `tasks.form`; the reward model (`reward_model.encoding`) follows the same ones, with one prompt
for both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.form import END_OF_TEXT, TextForm, response_text, token_ids
from tasks.records import Pair, Post
from trlx.utils.errors import UserError
from trlx.utils.terminal import inert

Record = Post | Pair
LONGEST_SHOWN = 6000  # characters of a text without a tokenizer to cut it


@dataclass(frozen=True)
class View:
    """Token ids that a model reads: the prompt, then one of the responses (two of a pair, chosen first)."""

    prompt_ids: list[int]
    responses: tuple[list[int], ...]  # each ends with EOS


def responses_of(record: Record) -> tuple[str, ...]:
    """The summary of a post, or chosen and rejected of a pair."""
    return (record.summary,) if isinstance(record, Post) else (record.chosen, record.rejected)


def view(form: TextForm, tokenizer: Any, record: Record, max_length: int) -> View:
    """The ids after truncation.

    Raises: UserError when prompt and response cannot fit into `max_length` tokens.
    """
    if isinstance(record, Post):
        sample = form.encode(tokenizer, record.prompt, record.summary, max_length)
        return View(sample.prompt_ids, (sample.response_ids,))
    end = [int(tokenizer.eos_token_id)]
    sides = tuple([*token_ids(tokenizer, response_text(side)), *end] for side in responses_of(record))
    room = max_length - max(map(len, sides))
    if room <= 0:
        raise UserError(f"{record.where}: a summary leaves no room for the prompt in {max_length} tokens")
    return View(token_ids(tokenizer, form.cut(record.prompt, tokenizer, room)), sides)


@dataclass(frozen=True)
class Example:
    """One sample written out. `tokens`: of the prompt and of each response; empty without a tokenizer."""

    split: str
    where: str
    prompt: str
    responses: tuple[str, ...]
    tokens: tuple[int, ...] = ()
    cut: int = 0  # tokens taken from the prompt
    note: str = ""


def example(form: TextForm, tokenizer: Any | None, split: str, record: Record, max_length: int) -> Example:
    """The sample as decoded from its ids, special tokens visible; from its texts without a tokenizer."""
    texts = tuple(response_text(side) + END_OF_TEXT for side in responses_of(record))
    if tokenizer is None:
        return Example(split, record.where, record.prompt, texts)
    try:
        seen = view(form, tokenizer, record, max_length)
    except UserError as error:
        return Example(split, record.where, record.prompt, texts, note=str(error))

    def decoded(ids: list[int]) -> str:
        return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    return Example(
        split,
        record.where,
        decoded(seen.prompt_ids),
        tuple(decoded(ids) for ids in seen.responses),
        (len(seen.prompt_ids), *map(len, seen.responses)),
        len(token_ids(tokenizer, record.prompt)) - len(seen.prompt_ids),
    )


def visible(text: str) -> str:
    """Line breaks marked, and other control characters written as escapes so that a terminal does not obey them."""
    text = inert(text)
    if len(text) > LONGEST_SHOWN:
        half = LONGEST_SHOWN // 2
        text = f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"
    return text.replace("\n", "⏎\n")
