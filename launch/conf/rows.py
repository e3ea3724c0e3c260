"""What a `.conf` file says of its rows, as options of a stage, and how often PPO goes over them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from launch.conf.keys import Dataset, PPOTraining
from tasks.chosen import Chosen
from tasks.instruct import TASK
from tasks.reading.files import format_of
from tasks.reading.rows import Skipped
from trlx.utils.errors import BadKey

Options = dict[str, Any]


def data_options(data: Dataset) -> Options:
    """Options of a stage. Raises: BadKey for a file that is not there, and for a share that leaves one side empty."""
    for name in ("train_file", "validation_file"):
        path = getattr(data, name)
        if path and format_of(Path(path)) and not Path(path).exists():
            raise BadKey(
                f"Dataset.{name}",
                f"'Dataset.{name}': no such file: {path}: check the name; paths are relative to the current folder",
            )
    share = data.validation_split_percentage
    key = "Dataset.validation_split_percentage"
    if share is not None and not 0 < share < 100:
        raise BadKey(
            key,
            f"'{key}' must be above 0 and below 100, not {share:g}: some rows are needed to train on and some to "
            "evaluate on (None evaluates on those of validation_file)",
        )
    if share is not None and data.validation_file is not None:
        raise BadKey(key, f"'{key}' and 'Dataset.validation_file' exclude each other: write None for one of them")
    options: Options = {"data": data.train_file, "valid_percentage": share}  # null, too: `configs/instruct` has one
    return options if data.validation_file is None else options | {"valid_data": data.validation_file}


def phases(training: PPOTraining, data: Dataset, num_workers: int | None) -> int | None:
    """How often responses are collected: as said, or as often as the passes over the prompts take.

    Args:
        num_workers: how many there will be, where that is not as the file says.

    Raises: BadKey, and UserError for prompts that cannot be read.
    """
    if training.training_iteration is not None and training.epochs is not None:
        raise BadKey(
            "Training.epochs", "'Training.epochs' and 'Training.training_iteration' exclude each other: remove one"
        )
    if training.epochs is None:
        return training.training_iteration
    if training.experience_batch_size is None:
        raise BadKey("Training.epochs", "'Training.epochs' are counted in 'Training.experience_batch_size': give both")
    chosen = Chosen(TASK.name, data.train_file, "train", bad_rows="skip")
    if data.validation_split_percentage is not None:
        chosen, _ = chosen.divided(data.validation_split_percentage, None, None)
    prompts = sum(1 for _ in chosen.posts(Skipped()))
    at_once = training.experience_batch_size * (num_workers or training.num_training_workers or 1)
    return math.ceil(training.epochs * prompts / at_once)
