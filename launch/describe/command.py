"""A model's parts in the order in which they run, with shapes and parameters, from its config alone.

    python -m launch describe facebook/opt-350m
    python -m launch describe EleutherAI/gpt-neo-1.3B --blocks all
    python -m launch describe ckpts/sft --json model.json

docs/questions.md explains what is printed. Left out: encoder-decoders, and code that comes with a model.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.describe.anatomy import Anatomy, Step, anatomy
from launch.describe.facts import facts
from launch.published import config_of
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError
from trlx.utils.files import write_json

WIDTH = 132  # of a table in a file


@dataclass
class DescribeOptions:
    """Options of describe.

    Args:
        model: a folder or hub id; may stand first, without its name.
        blocks: one: of blocks that are alike the first; all: each one.
        json: a file to write the same to, besides.
    """

    model: str = ""
    blocks: Literal["one", "all"] = "one"
    json: str | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Print a model's parts. Raises: UserError for a model that cannot be read or is no causal one."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and not given[0].startswith("-"):
        given.insert(0, "--model")
    options = parse_config(DescribeOptions, "Show what a model is made of, from its config alone.", given)
    if not options.model:
        raise UserError("a model is needed: python -m launch describe facebook/opt-350m, or a folder")
    config, note = config_of(options.model, "--model")
    if config.is_encoder_decoder:
        raise UserError(f"--model {options.model}: {config.model_type} is an encoder-decoder: give a causal model")
    found = anatomy(config)
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    for line in filter(None, [note, *facts(config, found)]):
        console.print(line, highlight=False, markup=False)
    console.print(_table(found, options.blocks == "all"))
    if options.json is not None:
        write_json(Path(options.json), dataclasses.asdict(found) | {"facts": facts(config, found)})
        console.print(f"written: {options.json}", highlight=False, markup=False)


def _table(found: Anatomy, every: bool) -> Table:
    table = Table(title="modules in the order in which a forward pass runs them")
    for heading in ("module", "kind", "weights"):
        table.add_column(heading, overflow="fold")
    for heading in ("parameters", "gives a token"):
        table.add_column(heading, justify="right")
    for step in found.before:
        table.add_row(*_cells(step, ""))
    for blocks in found.blocks:
        last = blocks.first + blocks.count - 1
        copies = [(number, number, 1) for number in range(blocks.first, last + 1)] if every else []
        for first, end, count in copies or [(blocks.first, last, blocks.count)]:
            name = f"block {first}" if count == 1 else f"blocks {first} to {end}: {count} like this"
            table.add_row(Text(name, style="bold"), "", "", f"{count} × {blocks.numbers:,}", "")
            for step in blocks.steps:
                table.add_row(*_cells(step, "  "))
    for step in found.after:
        table.add_row(*_cells(step, ""))
    if found.counted != found.numbers:
        table.add_row("(in no module of its own)", "", "", f"{found.numbers - found.counted:,}", "")
    table.add_row(Text("all", style="bold"), "", "", f"{found.numbers:,}", "")
    return table


def _cells(step: Step, indent: str) -> list[Text]:
    shapes = ", ".join(f"{name} {' × '.join(map(str, shape))}" for name, shape in step.weights)
    numbers = f"as {step.tied}" if step.tied else (f"{step.numbers:,}" if step.weights else "")
    output = "" if step.output is None else f"{step.output:,}"
    return [Text(cell) for cell in (indent + step.name, step.kind, shapes, numbers, output)]
