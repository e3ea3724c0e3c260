"""The data of reward-model training: which pairs and references are read, as its options say, and their token ids.

Pairs to train and to evaluate on stream from the data into the cache of token ids; the test pairs and the references
are kept as text, since the finished model scores them. Left out: any choice by what is in a pair.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tasks
from launch.stage import CACHE
from launch.stage_trainer import Rows
from reward_model.pairs import encode_pairs
from tasks.leakage import same_rows
from tasks.reading.rows import OnBadRows, Skipped, choose_on_bad
from tasks.records import Pair, PairCounts
from tasks.registry import get_task
from tasks.text import truncate_prompt
from tasks.tldr import data_facts, say_skipped
from trlx.pipeline.token_cache import code_hash
from trlx.utils.errors import UserError


@dataclass
class PairDataOptions:
    """Options of the data.

    Args:
        task: how rows of data are read; see `tasks/`.
        data: pairs: hub id, local folder (or folder/prefix), or JSONL, JSON, CSV or Parquet files (also .gz).
        columns: where the data call a column otherwise: our name → theirs, e.g. `--columns.chosen better`.
        bad_rows: stop at the first row that cannot be used, or skip such rows and count them.
        cache: folder of encoded data, found again by their content; null encodes anew each time.
        valid_data: the same, of the pairs to evaluate on while training; null for the data above.
        test_data: the same, of the pairs of the final accuracy; null for the data above.
        train_split: the split to train on.
        valid_split: the split to evaluate on while training.
        test_split: the split of the final accuracy.
        train_limit: the first so many training pairs; null for all.
        valid_limit: the first so many evaluation pairs; null for all.
        test_limit: the first so many test pairs; null for all.
        references: posts whose reference summaries shall average 0; null takes the evaluation pairs' chosen ones.
        references_columns: their columns, like `columns`.
        references_split: their split.
        references_limit: the first so many.
    """

    task: str = "tldr"
    data: str = "CarperAI/openai_summarize_comparisons"
    columns: dict[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"
    cache: str | None = CACHE
    valid_data: str | None = None
    test_data: str | None = None
    train_split: str = "train"
    valid_split: str = "valid1"
    test_split: str = "test"
    train_limit: int | None = None
    valid_limit: int | None = 2000
    test_limit: int | None = None
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
    trained_on: dict[str, str]  # "valid" or "test" → its source, where that is what is trained on too


@dataclass(frozen=True)
class Chosen:
    """The rows of one split: where they are, and all that they depend on."""

    source: str
    split: str
    limit: int | None
    facts: dict[str, Any]


def load_data(options: PairDataOptions, tokenizer: Any, max_length: int) -> PairData:
    """The pairs of the three splits. Raises: UserError for data that cannot be read."""
    chosen = chosen_rows(options)
    train, train_counts = encode_split(options, tokenizer, max_length, chosen["train"])
    valid, valid_counts = encode_split(options, tokenizer, max_length, chosen["valid"])
    test, test_counts = load_split(options, chosen["test"])
    counts = {"train": train_counts, "valid": valid_counts, "test": test_counts}
    trained_on = {
        name: chosen[name].source for name in ("valid", "test") if same_rows(chosen["train"].facts, chosen[name].facts)
    }
    return PairData(train, valid, test, counts, trained_on)


def chosen_rows(options: PairDataOptions) -> dict[str, Chosen]:
    """What train, valid and test read."""
    asked = {
        "train": (options.data, options.train_split, options.train_limit),
        "valid": (options.valid_data or options.data, options.valid_split, options.valid_limit),
        "test": (options.test_data or options.data, options.test_split, options.test_limit),
    }
    chosen = {}
    for name, (source, split, limit) in asked.items():
        facts = data_facts(source, split, limit=limit, columns=options.columns, bad_rows=options.bad_rows)
        code = code_hash([Path(tasks.__file__).parent])
        chosen[name] = Chosen(source, split, limit, {"task": options.task, "code": code, **facts})
    return chosen


def load_split(options: PairDataOptions, chosen: Chosen) -> tuple[list[Pair], PairCounts]:
    """The pairs of a split as text."""
    return get_task(options.task).load_pairs(
        chosen.source, chosen.split, limit=chosen.limit, columns=options.columns, bad_rows=options.bad_rows
    )


def encode_split(options: PairDataOptions, tokenizer: Any, max_length: int, chosen: Chosen) -> tuple[Rows, PairCounts]:
    """The pairs of a split as token ids, from the cache where they are in it; and how many were dropped."""
    skipped, counts = Skipped(), PairCounts()
    pairs = get_task(options.task).iter_pairs(
        chosen.source,
        chosen.split,
        limit=chosen.limit,
        columns=options.columns,
        on_bad=choose_on_bad(options.bad_rows, skipped),
        counts=counts,
    )
    items, lengths = encode_pairs(
        pairs,
        tokenizer,
        max_length,
        truncate_prompt,
        cache=None if options.cache is None else Path(options.cache),
        made_from=chosen.facts,
        notes=lambda: {"skipped": str(skipped) if skipped.counts else "", "counts": dataclasses.asdict(counts)},
    )
    notes = items.store.notes
    say_skipped(chosen.source, chosen.split, notes["skipped"])
    counts = PairCounts(**notes["counts"])
    if not items:
        raise UserError(f"{chosen.source}, split '{chosen.split}': no usable pair ({counts}): give other data")
    return Rows(items, lengths), counts


def load_references(options: PairDataOptions) -> list[tuple[str, str]]:
    """(prompt, summary) of the reference summaries whose mean score becomes the offset."""
    if options.references is None:
        pairs, _ = load_split(options, chosen_rows(options)["valid"])
        return [(pair.prompt, pair.chosen) for pair in pairs]
    posts = get_task(options.task).load_posts(
        options.references,
        options.references_split,
        limit=options.references_limit,
        columns=options.references_columns,
        bad_rows=options.bad_rows,
    )
    return [(post.prompt, post.summary) for post in posts]
