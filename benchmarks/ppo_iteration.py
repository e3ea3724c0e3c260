"""Time one PPO iteration by phase: the engine against a plain implementation of the same algorithm.

    python -m benchmarks.ppo_iteration                                   # the two settings of the table, on one thread
    python -m benchmarks.ppo_iteration --ragged                          # and one of different lengths
    python -m benchmarks.ppo_iteration --device cuda --dtype bfloat16 --shape 125m

An iteration collects rollouts (generate, score, experience) and trains several epochs on them (forward, backward,
optimizer). Writes a JSON file and a plot below `out`; see benchmarks/README.md for how to read them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console

from benchmarks.agreement import TOLERANCE
from benchmarks.measure import Measured, measure
from benchmarks.report import make_table, plot, write_json
from benchmarks.workload import SHAPES, Workload, prepare
from trlx.utils.cli import parse_config
from trlx.utils.errors import fail


@dataclass
class Options:
    """Options of the benchmark.

    Args:
        shape: of the GPT-Neo: small is 8 layers x 256, toy is for tests.
        layers_unfrozen: one setting for each: top layers that train, with embeddings frozen; -1 trains everything.
        ragged: add a setting with prompts and responses of different lengths, the first of layers_unfrozen.
        prompt: tokens of a prompt, at most.
        response: tokens of a response, at most.
        rollouts: responses of an iteration.
        chunk: prompts continued at once.
        batch: responses of an optimizer step.
        epochs: passes over the rollouts.
        device: where both sides run.
        dtype: that forwards run in; weights are float32.
        threads: processor threads.
        repeats: timed iterations of each side and setting, after one that warms up.
        isolated: run each side in a process of its own, so that its memory can be told; false is quicker to start.
        seed: of weights, prompts and sampling.
        out: folder for the JSON file and the plot.
        name: of both files; null for one made of shape, device and dtype.
    """

    shape: Literal["toy", "small", "125m", "1.3b"] = "small"
    layers_unfrozen: list[int] = field(default_factory=lambda: [2, -1])
    ragged: bool = False
    prompt: int = 192
    response: int = 48
    rollouts: int = 32
    chunk: int = 32
    batch: int = 8
    epochs: int = 4
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    threads: int = 1
    repeats: int = 3
    isolated: bool = True
    seed: int = 0
    out: str = "benchmarks/results"
    name: str | None = None

    def settings(self) -> list[tuple[int, bool]]:
        """(layers unfrozen, ragged) of each workload."""
        ragged = [(self.layers_unfrozen[0], True)] if self.ragged else []
        return [(layers, False) for layers in self.layers_unfrozen] + ragged


def run(options: Options, layers_unfrozen: int, ragged: bool, console: Console) -> Measured:
    """One setting. Exits when the sides differ: times of different computations say nothing."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), options.shape, ragged, options.prompt + options.response, options.seed)
        names = ("shape", "prompt", "response", "rollouts", "chunk", "batch", "epochs", "device", "dtype", "threads")
        sizes = {name: getattr(options, name) for name in (*names, "seed")}
        workload = Workload(folder=folder, layers_unfrozen=layers_unfrozen, ragged=ragged, **sizes)
        measured = measure(workload, options.repeats, console.print, options.isolated)
    different = {name: value for name, value in measured.differences.items() if value > TOLERANCE}
    if different:
        fail(f"the engine and the baseline do not compute the same: {different} (at most {TOLERANCE:.0e} each)")
    return measured


def main(argv: Sequence[str] | None = None) -> list[Measured]:
    """Measure, show and write every setting."""
    options = parse_config(Options, "Time one PPO iteration against a plain implementation.", argv)
    _refuse_impossible(options)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    console = Console()
    measured = []
    for layers_unfrozen, ragged in options.settings():
        console.rule(f"{options.shape}, layers_unfrozen {layers_unfrozen}{', ragged' if ragged else ''}")
        measured.append(run(options, layers_unfrozen, ragged, console))
        console.print(make_table(measured[-1]))
        write(options, measured, console)
    return measured


def write(options: Options, measured: Sequence[Measured], console: Console) -> None:
    """The settings measured so far; a run that is ended early has left these."""
    name = options.name or f"ppo_iteration_{options.shape}_{options.device}_{options.dtype}"
    path = Path(options.out) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path.with_name(f"{name}.json"), measured)
    plot(path.with_name(f"{name}.png"), measured)
    console.print(f"wrote {path}.json and .png")


def _refuse_impossible(options: Options) -> None:
    depth = SHAPES[options.shape].layers
    wrong = [layers for layers in options.layers_unfrozen if layers > depth or layers < -1 or layers == 0]
    if wrong or not options.layers_unfrozen:
        fail(f"--layers_unfrozen must be a list of -1 and numbers up to {depth}, not {options.layers_unfrozen}")
    if options.dtype != "float32" and not options.isolated:
        fail("--isolated=false needs --dtype=float32: accelerate keeps one precision for the life of a process")


if __name__ == "__main__":
    main()
