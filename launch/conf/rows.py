"""What a `.conf` file says of its rows, as options of a stage, and how often PPO goes over them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from launch.conf.keys import Dataset, PPOTraining
from tasks.chosen import RowOptions, train_and_valid
from tasks.reading.files import format_of
from tasks.reading.rows import Skipped
from trlx.data.method_configs import PPOConfig
from trlx.utils.errors import BadKey
from trlx.utils.ranges import AT_LEAST_1, require_ranges

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


def iterations(training: PPOTraining) -> int | None:
    """How often responses are collected, where that is said; see `phases` for passes over the prompts.

    Raises: BadKey for both at once, and for passes without what they are counted in.
    """
    if training.training_iteration is not None and training.epochs is not None:
        raise BadKey(
            "Training.epochs", "'Training.epochs' and 'Training.training_iteration' exclude each other: remove one"
        )
    if training.epochs is not None and training.experience_batch_size is None:
        raise BadKey("Training.epochs", "'Training.epochs' are counted in 'Training.experience_batch_size': give both")
    return training.training_iteration


def phases(passes: float, options: RowOptions, method: PPOConfig, num_workers: int) -> int:
    """How often responses are collected to pass so often over the prompts that PPO trains on.

    Args:
        options, method: of the stage, with all that stands behind the file.

    Raises: UserError for prompts that cannot be read, and for options that nothing can be counted with.
    """
    require_ranges(method, dict.fromkeys(("num_rollouts", "chunk_size"), AT_LEAST_1), "method.")
    at_once = math.ceil(method.num_rollouts / method.chunk_size) * method.chunk_size * num_workers  # whole chunks
    chosen, _ = train_and_valid(options, None)
    return math.ceil(passes * sum(1 for _ in chosen.posts(Skipped())) / at_once)
