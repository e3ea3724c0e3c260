"""The three formats in which `tasks.instruct` takes instructions, written from examples.

    instructions          {"instruction", "context", "response"}, the best answer
    instruction-pairs     {"instruction", "chosen", "rejected"}, the best answer and one that was ranked below it
    instruction-prompts   {"prompt"}, each once

The texts are clean: what `tasks.instruct` reads of a row is what the source held, but for outer white space and
end-of-text marks. Other columns are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tasks.form import END_OF_TEXT
from tasks.instruct import RESPONSE, TURN, clean_response, format_instruction, is_written, split_prompt
from tasks.instructions.example import Choice, Example
from tasks.reading.rows import SKIP, BadRow, RawRow, Row


@dataclass(frozen=True)
class Target:
    """A format to write.

    Args:
        name: as in `convert --to`. write: an example → its rows. Raises BadRow.
        compares: whether it needs several answers to an instruction.
        once: whether a row like an earlier one is dropped.
        kind, nested: as of `tasks.reading.formats.Format`.
    """

    name: str
    write: Callable[[Example, Choice], Iterator[Row]]
    compares: bool = False
    once: bool = False
    kind: str = "instructions"
    nested: bool = False


def written(examples: Iterable[Example], target: Target, choice: Choice) -> Iterator[RawRow]:
    """The rows of examples, in their order; what cannot be written is told to `choice`."""
    seen: set[bytes] = set()
    for example in examples:
        try:
            rows = list(target.write(example, choice))
        except BadRow as bad:
            choice.on_bad(bad)
            continue
        for row in rows:
            if target.once and _known(row, seen):
                choice.dropped["like an earlier row"] += 1
            else:
                yield RawRow(row, example.where)


def _known(row: Row, seen: set[bytes]) -> bool:
    key = hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    if key in seen:
        return True
    seen.add(key)
    return False


def _write_instruction(example: Example, choice: Choice) -> Iterator[Row]:
    instruction, context = _cleaned(example)
    if not example.answers:
        choice.dropped["without an answer"] += 1
        return
    response = clean_response(example.answers[0].text)
    if not response:
        raise BadRow(example.where, "the response is empty", f"fill it in, drop the row, {SKIP}")
    yield {"instruction": instruction, "context": context, "response": response}


def _write_pairs(example: Example, choice: Choice) -> Iterator[Row]:
    instruction = _whole(*_cleaned(example))
    ranked = [(clean_response(answer.text), answer.rank) for answer in example.answers if answer.rank is not None]
    worse = [text for text, rank in ranked if rank > ranked[0][1]]
    if not worse:
        choice.dropped["without ranked answers"] += 1
    for rejected in worse if choice.rejected == "each" else worse[-1:]:
        chosen = ranked[0][0]
        if chosen == rejected or not (chosen and rejected):
            choice.dropped["identical" if chosen == rejected else "with an empty side"] += 1
        else:
            yield {"instruction": instruction, "chosen": chosen, "rejected": rejected}


def _write_prompt(example: Example, choice: Choice) -> Iterator[Row]:
    yield {"prompt": _whole(*_cleaned(example))}


def _cleaned(example: Example) -> tuple[str, str]:
    """Instruction and context. Raises: BadRow when nothing is left of the instruction."""
    instruction = example.instruction.replace(END_OF_TEXT, "").rstrip()
    context = example.context.replace(END_OF_TEXT, "").strip()
    if not split_prompt(_whole(instruction, context)).body.strip():
        raise BadRow(example.where, "the instruction is empty", f"fill it in, drop the row, {SKIP}")
    if context and is_written(instruction):
        if context not in instruction:
            remedy = f"write the context into the prompt, drop the row, {SKIP}"
            raise BadRow(example.where, "a context besides a prompt that has its headings or is a dialogue", remedy)
        context = ""
    whole = instruction.endswith((RESPONSE, TURN))  # a prompt or dialogue, which is left as it is
    return instruction if whole else instruction.strip(), context


def _whole(instruction: str, context: str) -> str:
    """The instruction with its context in it, for formats that have no column for that."""
    return format_instruction(instruction, context) if context else instruction


TARGETS = {
    target.name: target
    for target in (
        Target("instructions", _write_instruction),
        Target("instruction-pairs", _write_pairs, compares=True),
        Target("instruction-prompts", _write_prompt, once=True),
    )
}
