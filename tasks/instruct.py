"""Instructions: JSONL of instruction, context and response; of two answers, one preferred; or of prompts alone.

    {"instruction": "...", "context": "", "response": "..."}          what SFT learns from, and PPO's prompts
    {"instruction": "...", "chosen": "...", "rejected": "..."}        pairs (the first key may be `prompt`)
    {"prompt": "..."}                                                  what PPO samples from

A prompt is written with headings (`### Instruction:`, `### Context:`, `### Response:`). A dialogue whose last line is
`Assistant:` stays as it is. Left out: system messages, and several answers to one instruction.
"""

from __future__ import annotations

import dataclasses

from tasks.form import END_OF_TEXT, Parts, TextForm
from tasks.reading.columns import text_or_none
from tasks.reading.formats import Kind
from tasks.reading.rows import SKIP, BadRow, RawRow
from tasks.task import Task

INSTRUCTION, CONTEXT, RESPONSE = "### Instruction:", "### Context:", "### Response:"
TURN = "Assistant:"  # the last word of a dialogue that is to go on


def format_instruction(instruction: str, context: str = "") -> str:
    """The prompt of an instruction, with or without what it is about."""
    about = f"{CONTEXT}\n{context.strip()}\n\n" if context.strip() else ""
    return f"{INSTRUCTION}\n{instruction.strip()}\n\n{about}{RESPONSE}"


def clean_prompt(text: str) -> str:
    """A prompt or dialogue right-stripped; a bare instruction with its headings."""
    text = text.replace(END_OF_TEXT, "").rstrip()
    return text if text.endswith((RESPONSE, TURN)) else format_instruction(text)


def clean_response(text: str) -> str:
    """The response without outer white space and anything from an end-of-text mark on."""
    return text.split(END_OF_TEXT, 1)[0].strip()


def split_prompt(prompt: str) -> Parts:
    """Of an instruction the context may be cut, at its end, else its own text; of a dialogue the first turns."""
    prompt = clean_prompt(prompt)
    if prompt.endswith(TURN):
        last = max(prompt.rfind("\n\nHuman:"), prompt.rfind("\n\nUser:"))
        if last <= 0:  # one turn alone
            last = len(prompt.removesuffix(TURN).rstrip())
        return Parts("", prompt[:last], prompt[last:], "end")
    start = prompt.find(f"\n\n{CONTEXT}\n")
    start = start + len(f"\n\n{CONTEXT}\n") if start >= 0 else len(f"{INSTRUCTION}\n")
    end = max(len(prompt) - len(f"\n\n{RESPONSE}"), start)
    return Parts(prompt[:start], prompt[start:end], prompt[end:])


def row(raw: RawRow, kind: Kind) -> RawRow:
    """A row under the names that `tasks.reading` knows: prompt with completion, or with chosen and rejected.

    Raises: BadRow for one that has both an instruction and a prompt, which differ.
    """
    values = dict(raw.values)
    instruction, prompt = text_or_none(raw, "instruction"), text_or_none(raw, "prompt")
    if instruction and prompt and instruction.strip() != prompt.strip():
        raise BadRow(raw.where, "both 'instruction' and 'prompt', which differ", f"keep one of them, {SKIP}")
    if instruction:
        values["prompt"] = format_instruction(values.pop("instruction"), text_or_none(raw, "context") or "")
        values.pop("context", None)
    if kind == "posts" and "prompt" in values and "completion" not in values:
        # Of a pair the better answer is a reference as good as any.
        values["completion"] = values.pop("response", None) or values.pop("chosen", None) or ""
        values.pop("rejected", None)
    return dataclasses.replace(raw, values=values)


FORM = TextForm(clean_prompt, clean_response, split_prompt, stays="the headings, or the last turn")
TASK = Task("instruct", FORM, row, needs_response=False)
