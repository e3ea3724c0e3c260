"""Instructions: JSONL of instruction, context and response; of two answers, one preferred; or of prompts alone.

    {"instruction": "...", "context": "", "response": "..."}          what SFT learns from, and PPO's prompts
    {"instruction": "...", "chosen": "...", "rejected": "..."}        pairs (the first key may be `prompt`)
    {"prompt": "..."}                                                  what PPO samples from

A prompt is written with headings (`### Instruction:`, `### Context:`, `### Response:`). A dialogue whose last line is
`Assistant:` stays as it is. Line ends are `\n`. Left out: system messages, and several answers to one instruction.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from tasks.form import END_OF_TEXT, Parts, TextForm
from tasks.reading.chat import is_chat
from tasks.reading.columns import MEND, listed, need_text, text_or_none
from tasks.reading.formats import Kind, kinds_of
from tasks.reading.rows import SKIP, BadRow, RawRow
from tasks.task import Task

INSTRUCTION, CONTEXT, RESPONSE = "### Instruction:", "### Context:", "### Response:"
NEEDED: dict[Kind, str] = {
    "posts": "instruction+response or instruction+context+response or prompt",
    "pairs": "instruction+chosen+rejected or prompt+chosen+rejected",
}
TURN = "Assistant:"  # the last word of a dialogue that is to go on
_ANSWERS = {"response", "completion", "label", "chosen"}
_SPEAKER = re.compile(r"\s*(?:Human|User):[ ]?")


def format_instruction(instruction: str, context: str = "") -> str:
    """The prompt of an instruction, with or without what it is about."""
    instruction, context = _unix(instruction).strip(), _unix(context).strip()
    about = f"{CONTEXT}\n{context}\n\n" if context else ""
    return f"{INSTRUCTION}\n{instruction}\n\n{about}{RESPONSE}"


def clean_prompt(text: str) -> str:
    """A prompt or dialogue right-stripped; a bare instruction with its headings."""
    text = _bare(text)
    return text if is_written(text) else format_instruction(text)


def _bare(text: str) -> str:
    return _unix(text.replace(END_OF_TEXT, "")).rstrip()


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_written(text: str) -> bool:
    """Whether it is a dialogue, or has its headings."""
    return text.endswith(TURN) or (f"{INSTRUCTION}\n" in text and text.endswith(f"\n{RESPONSE}"))


def clean_response(text: str) -> str:
    """The response without outer white space and anything from an end-of-text mark on."""
    return text.split(END_OF_TEXT, 1)[0].strip()


def split_prompt(prompt: str) -> Parts:
    """Of an instruction the context may be cut, at its end, else its own text; of a dialogue the first turns."""
    prompt = clean_prompt(prompt)
    if prompt.endswith(TURN):
        return _split_dialogue(prompt)
    start = prompt.find(f"\n\n{CONTEXT}\n")
    heading = f"\n\n{CONTEXT}\n" if start >= 0 else f"{INSTRUCTION}\n"
    start = prompt.find(heading) + len(heading)
    end = max(len(prompt) - len(f"\n\n{RESPONSE}"), start)
    return Parts(prompt[:start], prompt[start:end], prompt[end:])


def _split_dialogue(prompt: str) -> Parts:
    last = max(prompt.rfind("\n\nHuman:"), prompt.rfind("\n\nUser:"))
    if last > 0 and prompt[:last].strip():
        return Parts("", prompt[:last], prompt[last:], "end")
    # One turn alone, of which the speaker stays.
    end = len(prompt.removesuffix(TURN).rstrip())
    speaker = _SPEAKER.match(prompt, 0, end)
    start = speaker.end() if speaker else 0
    return Parts(prompt[:start], prompt[start:end], prompt[end:], "end")


def row(raw: RawRow, kind: Kind) -> RawRow:
    """A row under the names that `tasks.reading` knows: prompt with completion, or with chosen and rejected.

    Raises: BadRow for one without an instruction, with an instruction and a prompt that differ, or with a context
    besides a written prompt that does not have it.
    """
    values = dict(raw.values)
    if "output" in values and not values.keys() & _ANSWERS:
        remedy = "`python -m tasks convert FILE --to instructions` writes them under the names that are read here"
        raise BadRow(raw.where, "'input' and 'output', as Alpaca calls context and response", remedy)
    instruction = instruction_of(raw)
    if instruction is not None:
        values["prompt"] = _with_context(raw, instruction)
        values = {name: value for name, value in values.items() if name not in ("instruction", "context")}
    if kind == "posts" and "prompt" in values and not values.keys() & {"completion", "label"}:
        values["completion"] = _reference(raw)
        values = {name: value for name, value in values.items() if name not in ("response", "chosen", "rejected")}
    if kind not in kinds_of(values):
        remedy = "rename them, or say which is which, as in --columns.instruction COLUMN"
        raise BadRow(raw.where, f"{kind} need the columns {NEEDED[kind]}", remedy, f"found {listed(raw.values)}")
    return dataclasses.replace(raw, values=values)


def _with_context(raw: RawRow, instruction: str) -> str:
    text, context = _bare(instruction), _unix(text_or_none(raw, "context") or "").strip()
    if not is_written(text):
        return format_instruction(text, context)
    if context not in text:
        remedy = f"write it into the prompt, or leave it empty, {SKIP}"
        raise BadRow(raw.where, "'context' besides a prompt that has its headings or is a dialogue", remedy)
    return text


def instruction_of(raw: RawRow) -> str | None:
    """The text of a row's `instruction`, or of its `prompt`; None where it has neither as text.

    Raises: BadRow when it is empty, and when both are there and differ.
    """
    given = [name for name in ("instruction", "prompt") if name in raw.values and not is_chat(raw.values[name])]
    texts = {name: text for name in given if (text := (text_or_none(raw, name) or "").strip())}
    if len(set(texts.values())) > 1:
        raise BadRow(raw.where, "both 'instruction' and 'prompt', which differ", f"keep one of them, {SKIP}")
    if given and not texts:
        raise BadRow(raw.where, f"'{given[0]}' is empty", MEND)
    return str(raw.values[next(iter(texts))]) if texts else None


def _reference(raw: RawRow) -> Any:
    """The response; of a pair the better one, which is as good; "" for a prompt alone."""
    if (chosen := raw.values.get("chosen")) and not text_or_none(raw, "response"):
        return chosen
    return need_text(raw, "response") if "response" in raw.values else ""


FORM = TextForm(clean_prompt, clean_response, split_prompt, stays="the headings, or the last turn")
TASK = Task("instruct", FORM, row, needs_response=False)
