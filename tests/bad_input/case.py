"""One row of the table of mistakes: what is wrong, which script meets it, and the words it answers with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness import JUDGE, PPO, REWARD, SFT

# (a root in which every stage has run, an empty folder) → options that come after the script's own.
Spoil = Callable[[Path, Path], list[str]]


@dataclass(frozen=True)
class Case:
    """A mistake, made by `spoil` in a copy of a good run.

    Args:
        id: of the test, and of the row in docs/bad-input.md where it has one.
        script: what is run, with options that work until `spoil` has been at it.
        words: that the line must have: the file, line or key, and the remedy.
        setup: Python that the script's process runs first.
        env: variables of that process.
    """

    id: str
    script: str
    spoil: Spoil
    words: tuple[str, ...]
    setup: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


def options_of(script: str, root: Path) -> list[str]:
    """Options with which a script of the pipeline would run in `root`; a stage's own folder is empty."""
    where = ["--root", str(root)]
    no_doctor = ["--preflight", "false"]  # it has tests of its own
    short = ["--max_length", "200", "--max_new_tokens", "16"]
    if script == SFT:
        short = [*no_doctor, *short, "--out", f"{root}/new"]
        return [*where, *short, "--model", "{root}/base", "--data", "{root}/data/sft"]
    if script == REWARD:
        pairs = ["--data", "{root}/data/comparisons", "--references", "null", "--max_length", "200"]
        return [*where, *no_doctor, *pairs, "--out", f"{root}/new", "--model", "{root}/base"]
    if script == PPO:
        loop = ["--train.seq_length", "200", "--train.total_steps", "4", "--train.batch_size", "4"]
        loop += [
            "--train.tracker",
            "null",
            "--train.checkpoint_dir",
            f"{root}/new",
            "--train.logging_dir",
            f"{root}/log",
        ]
        rollouts = ["--method.num_rollouts", "8", "--method.chunk_size", "8"]
        model = ["--model.num_layers_unfrozen", "1", "--method.gen_kwargs.max_new_tokens", "16"]
        return [*where, *no_doctor, "--data", "{root}/data/sft", *loop, *rollouts, *model]
    if script == JUDGE:
        return [*where, *short, "--data", "{root}/data/sft"]
    return []
