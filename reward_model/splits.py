"""Which rows a reward model is trained on, evaluated on while training, and finally judged on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from tasks.chosen import Chosen, train_and_valid
from tasks.reading.rows import OnBadRows


@dataclass
class SplitOptions:
    """Options of the rows.

    Args:
        task: how rows of data are read; see `tasks/`.
        data: hub id, local folder (or folder/prefix), or JSONL, JSON, CSV or Parquet files (also .gz).
        columns: where the data call a column otherwise: our name → theirs, e.g. `--columns.chosen better`.
        bad_rows: stop at the first row that cannot be used, or skip such rows and count them.
        valid_data: the same, of the rows to evaluate on while training; null for the data above.
        valid_percentage: hold out this share of the training rows, by their prompts, and evaluate on those; they are
            the test rows, too, where no others are named. Null for none.
        test_data: the same, of the rows of the final accuracy; null for the data above.
        train_split: the split to train on.
        valid_split: the split to evaluate on while training.
        test_split: the split of the final accuracy.
        train_limit: the first so many training rows; null for all.
        valid_limit: the first so many evaluation rows; null for all.
        test_limit: the first so many test rows; null for all.
    """

    task: str = "tldr"
    data: str = "CarperAI/openai_summarize_comparisons"
    columns: dict[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"
    valid_data: str | None = None
    valid_percentage: float | None = None
    test_data: str | None = None
    train_split: str = "train"
    valid_split: str = "valid1"
    test_split: str = "test"
    train_limit: int | None = None
    valid_limit: int | None = 2000
    test_limit: int | None = None


def chosen_rows(options: SplitOptions) -> tuple[Chosen, Chosen, Chosen]:
    """The rows to train on, to evaluate on while training, and of the final accuracy."""
    train, valid = train_and_valid(options, options.valid_limit)
    source = options.test_data or options.data
    test = Chosen(options.task, source, options.test_split, options.test_limit, options.columns, options.bad_rows)
    # Of a file that names no splits, those held out are the only rows that training has not seen.
    if options.valid_percentage is not None and options.test_data is None and test.content == train.content:
        test = dataclasses.replace(valid, limit=options.test_limit)
    return train, valid, test
