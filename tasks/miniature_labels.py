"""The miniature's pairs with labels that favour length: what a careless label collection would have given.

    python -m tasks.miniature relabel --root runs/demo --name biased --length_bias 1

A share of the pairs, drawn at random, gets its longer summary as `chosen` whatever gold says; the others keep their
label. Pairs, order and texts are those of `comparisons_{train,valid1}.jsonl`, so that a reward model trained on the
result differs in the labels alone. Left out: the test pairs, whose labels are to stay true.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.miniature import write_jsonl
from tasks.miniature_pairs import comparisons_file
from tasks.run_folder import DEFAULT_ROOT
from tasks.scratch_model import refuse_existing
from trlx.utils.errors import UserError
from trlx.utils.ranges import SHARE, require_ranges

RELABELLED = ("train", "valid1")
SIDES = (("chosen", "rejected"), ("gold_chosen", "gold_rejected"))


@dataclass
class LabelOptions:
    """Options of `relabel`.

    Args:
        root: `data/comparisons_{train,valid1}.jsonl` are read, and `data/comparisons_NAME_*.jsonl` written, below it.
        name: of the files written.
        length_bias: share of the pairs whose label prefers the longer summary.
        seed: decides which pairs those are.
        overwrite: replace such files where they exist.
    """

    root: str = DEFAULT_ROOT
    name: str = "biased"
    length_bias: float = 1.0
    seed: int = 1
    overwrite: bool = False


def turned_round(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a comparisons file with its two sides exchanged."""
    turned = {**row, "gold_prefers_chosen": not row["gold_prefers_chosen"]}
    for first, second in SIDES:
        turned[first], turned[second] = row[second], row[first]
    turned["sources"] = "/".join(reversed(row["sources"].split("/")))
    return turned


def favour_length(rows: Sequence[dict[str, Any]], share: float, rng: random.Random) -> list[dict[str, Any]]:
    """The rows, a share of them labelled by length in words; pairs of equal length keep their label.

    Args:
        share: from 0, which changes nothing, to 1.
    """
    return [
        turned_round(row) if rng.random() < share and len(row["rejected"].split()) > len(row["chosen"].split()) else row
        for row in rows
    ]


def write_labels(options: LabelOptions) -> None:
    """The command `relabel`."""
    require_ranges(options, {"length_bias": SHARE})
    if not options.name.isidentifier() or options.name in RELABELLED:
        raise UserError(f"--name must be a word such as biased, not {options.name!r}")
    data = Path(options.root) / "data"
    rng = random.Random(f"{options.seed} length bias")
    for split in RELABELLED:
        source, target = comparisons_file(data, split), comparisons_file(data, split, options.name)
        refuse_existing(target, options.overwrite)
        if not source.exists():
            raise UserError(f"no {source}: `python -m tasks.miniature pairs --root {options.root}` writes it")
        rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
        labelled = favour_length(rows, options.length_bias, rng)
        write_jsonl(target, labelled)
        longer = sum(len(row["chosen"].split()) > len(row["rejected"].split()) for row in labelled)
        true = sum(row["gold_prefers_chosen"] for row in labelled)
        print(
            f"{target.stem}: {len(rows)} pairs, {longer / len(rows):.1%} prefer the longer, {true / len(rows):.1%} gold"
        )
