"""The data of reward-model training: which pairs and references are read, as its options say, and their token ids.

Pairs to train and to evaluate on stream from the data into the cache of token ids; the test pairs and the references
are kept as text, since the finished model scores them. Left out: any choice by what is in a pair.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.stage import CACHE
from launch.stage_trainer import Rows
from reward_model.pairs import encode_pairs
from reward_model.splits import SplitOptions, chosen_rows
from tasks.chosen import Chosen
from tasks.reading.rows import Skipped
from tasks.reading.sources import named
from tasks.records import Pair, PairCounts
from tasks.registry import get_task
from tasks.task import say_skipped
from trlx.utils.errors import UserError


@dataclass
class PairDataOptions(SplitOptions):
    """Options of the data.

    Args:
        cache: folder of encoded data, found again by their content; null encodes anew each time.
        references: posts whose reference summaries shall average 0; null takes the evaluation pairs' chosen ones.
        references_columns: their columns, like `columns`.
        references_split: their split.
        references_limit: the first so many.
    """

    cache: str | None = CACHE
    references: str | None = "CarperAI/openai_summarize_tldr"
    references_columns: dict[str, str] = field(default_factory=dict)
    references_split: str = "valid"
    references_limit: int | None = 1000


@dataclass(frozen=True)
class PairData:
    """The pairs of all three splits, and what was dropped of each."""

    train: Rows
    valid: Rows
    test: list[Pair]
    counts: dict[str, PairCounts]
    trained_on: dict[str, Chosen]  # "valid" or "test", where its rows are those that are trained on


def load_data(options: PairDataOptions, tokenizer: Any, max_length: int) -> PairData:
    """The pairs of the three splits. Raises: UserError for data that cannot be read."""
    train, valid, test = chosen_rows(options)
    train_rows, train_counts = encode_split(options, tokenizer, max_length, train)
    valid_rows, valid_counts = encode_split(options, tokenizer, max_length, valid)
    test_pairs, test_counts = test.load_pairs()
    counts = {"train": train_counts, "valid": valid_counts, "test": test_counts}
    trained_on = {name: rows for name, rows in (("valid", valid), ("test", test)) if rows.same_rows_as(train)}
    return PairData(train_rows, valid_rows, test_pairs, counts, trained_on)


def encode_split(options: PairDataOptions, tokenizer: Any, max_length: int, chosen: Chosen) -> tuple[Rows, PairCounts]:
    """The pairs of a split as token ids, from the cache where they are in it; and how many were dropped."""
    skipped, counts = Skipped(), PairCounts()
    items, lengths = encode_pairs(
        chosen.pairs(skipped, counts),
        tokenizer,
        max_length,
        get_task(options.task).form.cut,
        cache=None if options.cache is None else Path(options.cache),
        made_from=chosen.facts,
        notes=lambda: {"skipped": str(skipped) if skipped.counts else "", "counts": dataclasses.asdict(counts)},
    )
    notes = items.store.notes
    say_skipped(chosen.source, chosen.split, notes["skipped"])
    counts = PairCounts(**notes["counts"])
    if not items:
        raise UserError(f"{named(chosen.source, chosen.split)}: no usable pair ({counts}): give other data")
    return Rows(items, lengths), counts


def training_prompts(options: PairDataOptions) -> Iterator[str]:
    """The prompts of the pairs that are trained on, read anew: the cache holds their token ids alone."""
    train, _, _ = chosen_rows(options)
    return (pair.prompt for pair in train.pairs(Skipped(), PairCounts()))


def load_references(options: PairDataOptions) -> list[tuple[str, str]]:
    """(prompt, summary) of the reference summaries whose mean score becomes the offset."""
    if options.references is None:
        _, valid, _ = chosen_rows(options)
        pairs, _ = valid.load_pairs()
        return [(pair.prompt, pair.chosen) for pair in pairs]
    posts = get_task(options.task).load_posts(
        options.references,
        options.references_split,
        limit=options.references_limit,
        columns=options.references_columns,
        bad_rows=options.bad_rows,
    )
    return [(post.prompt, post.summary) for post in posts]
