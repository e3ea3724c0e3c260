"""Options of the exercise, and its errors on one line."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from examples.sentiment_steering.rewards import GOALS
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError, fail, nearest
from trlx.utils.ranges import AT_LEAST_1, Range, require_ranges

RUNS = Path(__file__).resolve().parents[2] / "runs" / "sentiment_steering"
RANGES = {"steps": AT_LEAST_1, "count": Range("at least 2", 2)}
Source = Literal["miniature", "imdb-files", "hub"]


@dataclass
class Options:
    """Options of the exercise.

    Args:
        source: where reviews and models are from: "miniature" makes all on the spot in a tiny language, "imdb-files"
            trains small models on the files in `data`, "hub" takes IMDB, GPT-2 and DistilBERT from the hub.
        data: with imdb-files, the folder of train.jsonl.gz and test.jsonl.gz (columns text and label, movie if known).
        out: the folder for all that is made; null takes `runs/sentiment_steering/SOURCE`.
        goals: what to steer towards: positive, negative, neutral.
        steps: PPO's optimizer steps for each goal; null leaves them to the source.
        count: prompts of each kind in the tables; null leaves it to the source.
        reward_model: a text classifier, folder or hub id, in place of the source's.
        label: the label of it whose probability is the reward; null for "positive".
        prompts: a text file, one prompt a line, in place of the beginnings of reviews.
        seed: of PPO and of what is sampled for the tables.
    """

    source: Source = "miniature"
    data: str | None = None
    out: str | None = None
    goals: list[str] = field(default_factory=lambda: list(GOALS))
    steps: int | None = None
    count: int | None = None
    reward_model: str | None = None
    label: str | None = None
    prompts: str | None = None
    seed: int = 0

    @property
    def folder(self) -> Path:
        """Where all that is made goes."""
        return Path(self.out) if self.out else RUNS / self.source


def read_options() -> Options:
    """From the command line; in a notebook, which has none, the defaults. Ends the script where they cannot be."""
    sys.excepthook = _plainly
    options = parse_config(Options, __doc__ or "", [] if "ipykernel" in sys.modules else None)
    require_ranges(options, RANGES)
    for goal in options.goals:
        if goal not in GOALS:
            raise UserError(f"--goals has '{goal}'{nearest(goal, GOALS)}")
    if options.source == "imdb-files" and options.data is None:
        raise UserError("--source imdb-files needs --data: the folder of train.jsonl.gz and test.jsonl.gz")
    return options


def _plainly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`run_main` for a script in cells, which has no main: what a person can mend is said in a line."""
    if isinstance(error, UserError):
        fail(str(error))
    sys.__excepthook__(kind, error, trace)
