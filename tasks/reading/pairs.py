"""The formats of preference pairs but OpenAI's raw one: a prompt and two responses, the first preferred.

A blank response is not refused here: people's data have some, and a pair with one is dropped, and counted, with the
short ones.
"""

from __future__ import annotations

from tasks.form import response_text
from tasks.reading.chat import is_chat, read_prompt, read_response, read_shared
from tasks.reading.columns import MEND, row_id, some_text
from tasks.reading.posts import chat, with_extra
from tasks.reading.rows import SKIP, BadRow, RawRow, Row
from tasks.reading.texts import PairText, begin_with, others
from tasks.records import Pair
from tasks.text import PROMPT_END, clean_prompt

_TEXTS = ("prompt", "chosen", "rejected")
# Where a prompt ends in texts that hold prompt and response in one: the later of these that both share.
_ENDS = ("\n\nAssistant:", "\n" + PROMPT_END)


def read_pair(row: RawRow) -> PairText:
    """Prompt, chosen, rejected, each as text (CarperAI's, TRL's) or chat (TRL's).

    Where all are text and both sides begin with the whole prompt, the prompt is taken off them.
    """
    prompt = read_prompt(row)
    chosen, rejected = (read_response(row, name, prompt) for name in ("chosen", "rejected"))
    if begin_with(prompt, chosen, rejected) and not any(is_chat(row.values[name]) for name in _TEXTS):
        chosen, rejected = (text[len(prompt.rstrip()) :] for text in (chosen, rejected))
    return PairText(prompt, chosen, rejected, row_id(row), others(row, _TEXTS))


def read_implicit_pair(row: RawRow) -> PairText:
    """Chosen and rejected that begin with the same prompt, as text or chat.

    Text is cut after the last `Assistant:` or `TL;DR:` line that both share, else at the last white space they share.
    """
    chats = [is_chat(row.values.get(name)) for name in ("chosen", "rejected")]
    if chats[0] != chats[1]:
        raise BadRow(row.where, "one of 'chosen' and 'rejected' is a chat and the other is not", MEND)
    texts = read_shared(row) if all(chats) else _cut(row, some_text(row, "chosen"), some_text(row, "rejected"))
    return PairText(*texts, row_id(row), others(row, ("chosen", "rejected")))


def _cut(row: RawRow, chosen: str, rejected: str) -> tuple[str, str, str]:
    end = _end_of_shared(chosen, rejected)
    prompt = chosen[:end]
    if not prompt.strip():
        raise BadRow(row.where, "'chosen' and 'rejected' do not begin alike", f"add a prompt column, or {MEND}")
    return prompt, chosen[end:], rejected[end:]


def _end_of_shared(chosen: str, rejected: str) -> int:
    """How many characters belong to the prompt of two texts."""
    differ = (place for place, (one, two) in enumerate(zip(chosen, rejected, strict=False)) if one != two)
    shared = chosen[: next(differ, min(len(chosen), len(rejected)))]
    ends = [place + len(mark) for mark in _ENDS if (place := shared.rfind(mark)) >= 0]
    if ends:
        return max(ends)
    # The last white space; a run of it belongs to the responses.
    words = shared.rstrip()
    if words == shared:
        words = shared[: max((place for place, mark in enumerate(shared) if mark.isspace()), default=0)].rstrip()
    return len(words)


def write_pair(pair: Pair) -> Row:
    """A row of `read_pair` in text, as TRL has it: prompt + chosen is the text that is trained on."""
    chosen, rejected = response_text(pair.chosen), response_text(pair.rejected)
    return with_extra(pair, {"id": pair.id, "prompt": pair.prompt, "chosen": chosen, "rejected": rejected})


def write_carperai_pair(pair: Pair) -> Row:
    """A row of `read_pair` as CarperAI/openai_summarize_comparisons has it: `TL;DR:` begins the summaries instead.

    A prompt whose `TL;DR:` does not stand alone on the line after the text keeps it, as it could not be put back.
    """
    bare = pair.prompt.removesuffix("\n" + PROMPT_END)
    prompt = bare if bare.strip() and clean_prompt(bare) == pair.prompt else pair.prompt
    chosen, rejected = (f"{PROMPT_END} {text}" for text in (pair.chosen, pair.rejected))
    return with_extra(pair, {"id": pair.id, "prompt": prompt, "chosen": chosen, "rejected": rejected})


def write_chat_pair(pair: Pair) -> Row:
    """A row of `read_pair` as chats: the whole prompt is one message of the user."""
    row = {
        "id": pair.id,
        "prompt": chat("user", pair.prompt),
        "chosen": chat("assistant", pair.chosen),
        "rejected": chat("assistant", pair.rejected),
    }
    return with_extra(pair, row)


def write_implicit_pair(pair: Pair) -> Row:
    """A row of `read_implicit_pair` in text. Raises: BadRow when the prompt could not be told from the summaries."""
    chosen, rejected = (pair.prompt + response_text(text) for text in (pair.chosen, pair.rejected))
    if _end_of_shared(chosen, rejected) != len(pair.prompt):
        reason = "the end of the prompt could not be found again in chosen and rejected"
        raise BadRow(pair.where or pair.id, reason, f"choose a format with a prompt column, {SKIP}")
    return with_extra(pair, {"id": pair.id, "chosen": chosen, "rejected": rejected})
