"""`python -m evaluation scores`: what a reward model thinks of good and bad answers to the same prompt.

    python -m evaluation scores --root runs/demo --task miniature --data runs/demo/data/comparisons --split test
    python -m evaluation scores --reward_model ckpts/reward_model --task instruct --data pairs.jsonl
    python -m evaluation scores --root runs/demo --prompt "my dog ran away" --good "my dog ran off." --bad "I sang."

The first pairs are shown, all of them end in a CSV. Left out: whether the model can be trained against, which takes
more than accuracy (`python -m reward_model.gate`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text
from transformers.utils import logging

from evaluation.devices import DtypeName, choose_devices, choose_dtype
from evaluation.judges import reward_model_path
from evaluation.pasted import nothing, written_by
from evaluation.records import noted_options
from evaluation.side_by_side import shortened
from evaluation.statistics import Interval
from evaluation.table import Table, counted, number
from reward_model.accuracy import accuracies, agreement, write_scored_pairs
from reward_model.labels import require_use_of_label
from reward_model.model import check_reward_model
from reward_model.scorer import RewardScorer
from tasks.form import TextForm, response_text
from tasks.reading.rows import OnBadRows
from tasks.records import Pair
from tasks.registry import get_task
from tasks.run_folder import DEFAULT_ROOT, RunFolder, fill_places
from trlx.utils.cli import parse_config
from trlx.utils.disk import require_writable
from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_config
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, require_ranges
from trlx.utils.terminal import open_console

ABOUT = "Score good and bad answers by a reward model: how often does it prefer the good one?"
LONGEST = 550  # tokens, as the reward model's training has them by default
RANGES = {**dict.fromkeys(("limit", "max_length", "batch_size"), AT_LEAST_1), "show": AT_LEAST_0}
VERDICTS = {1.0: "yes", 0.5: "tie", 0.0: "no"}


@dataclass
class ScoresOptions:
    """Options of `scores`.

    Args:
        root: the run's root folder, in which the reward model lies and the CSV is written.
        reward_model: its folder or hub id; null for root/ckpts/reward_model.
        reward_label: of a text classifier, the label whose log-odds are the reward; null for what its config.json says.
        task: how texts are written; see `tasks/`.
        data: pairs: hub id, local folder (or folder/prefix), or JSONL, JSON, CSV or Parquet files (also .gz).
        columns: where the data call a column otherwise: our name → theirs, e.g. `--columns.chosen better`.
        bad_rows: stop at the first row that cannot be used, or skip such rows and count them.
        split: the split of the data; null for all rows of a file.
        limit: the first so many pairs; null for all.
        prompt: a prompt, instead of data.
        good: the answer to it that should score higher.
        bad: the other one.
        show: so many pairs in the terminal.
        out: the CSV; null for root/metadata/pair_scores.csv. An older file of the name is replaced.
        max_length: prompt + answer in tokens, of which prompts lose what is too much; null for that of the model's
            training, as its record says, else for what it takes, at most 550.
        batch_size: texts scored at once.
        reward_dtype: auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16 or float16.
        reward_device: null for GPU 0, else the CPU.
    """

    root: str = DEFAULT_ROOT
    reward_model: str | None = None
    reward_label: str | None = None
    task: str = "tldr"
    data: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"
    split: str | None = None
    limit: int | None = None
    prompt: str | None = None
    good: str | None = None
    bad: str | None = None
    show: int = 20
    out: str | None = None
    max_length: int | None = None
    batch_size: int = 32
    reward_dtype: DtypeName = "float32"
    reward_device: str | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    options = parse_config(ScoresOptions, ABOUT, argv)
    options = fill_places(options, options.root)
    require_ranges(options, RANGES)
    logging.disable_progress_bar()
    console = open_console()
    run = RunFolder.of(options.root)
    out = run.pair_scores if options.out is None else Path(options.out)
    require_writable(out.parent, "--out or --root")
    path = reward_model_path(options.reward_model, run)
    check_reward_model(path, options.reward_label)
    require_use_of_label(options.reward_label, [path])
    pairs = read_pairs(options)
    form = get_task(options.task).form
    scorer = load_scorer(options, path, form)
    chosen, rejected = score_pairs(scorer, pairs)
    write_scored_pairs(out, pairs, chosen, rejected)
    if options.show:
        scores_table(pairs, chosen, rejected, options.show).print(console)
    for line in [*summary(pairs, chosen, rejected), f"at most {scorer.max_length} tokens each; all scores: {out}"]:
        console.print(Text(line))


def read_pairs(options: ScoresOptions) -> list[Pair]:
    """The pairs of the data, or the one of the command line.

    Raises: UserError for both or neither, an answer that is missing or empty, and as the task's `load_pairs`.
    """
    given = {name: getattr(options, name) for name in ("prompt", "good", "bad")}
    named = [name for name, text in given.items() if text is not None]
    if options.data is not None:
        if named:
            raise UserError(f"--data and --{named[0]} exclude each other: give a file, or one pair with --prompt")
        task = get_task(options.task)
        pairs, counts = task.load_pairs(
            options.data, options.split, limit=options.limit, columns=options.columns, bad_rows=options.bad_rows
        )
        if counts.kept < counts.total:
            print(f"note: {counts}", flush=True)
        return pairs
    if not named:
        raise UserError("no pairs to score: give --data FILE, or --prompt, --good and --bad")
    if missing := [name for name, text in given.items() if not (text or "").strip()]:
        raise UserError(f"--{missing[0]} is missing or empty: a pair is --prompt, --good and --bad")
    form = get_task(options.task).form
    good, bad = form.clean_response(given["good"]), form.clean_response(given["bad"])
    return [Pair("1", written_by(form)(given["prompt"], nothing), good, bad)]


def load_scorer(options: ScoresOptions, path: str, form: TextForm) -> RewardScorer:
    """The reward model. Raises: UserError when it cannot be read, or takes fewer tokens than `max_length`."""
    device = choose_devices(options.reward_device, None).reward
    dtype = choose_dtype(options.reward_dtype, device)
    length = options.max_length or usual_length(path)
    return RewardScorer.load(path, device, dtype, length, options.batch_size, form.cut, options.reward_label)


def usual_length(path: str) -> int:
    """As in the model's training, else as many tokens as it takes, at most `LONGEST`: other cuts are other scores."""
    noted = noted_options(path).get("max_length")
    if type(noted) is int and noted >= 1:
        return noted
    positions = getattr(load_config(path, "--reward_model").get_text_config(), "max_position_embeddings", None)
    return LONGEST if positions is None else min(LONGEST, int(positions))


def score_pairs(scorer: RewardScorer, pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    """Scores of the good and of the bad answers, all in one call."""
    prompts = [pair.prompt for pair in pairs]
    answers = [response_text(pair.chosen) for pair in pairs] + [response_text(pair.rejected) for pair in pairs]
    scores = scorer.score([*prompts, *prompts], answers)
    return scores[: len(pairs)], scores[len(pairs) :]


def scores_table(pairs: Sequence[Pair], chosen: Sequence[float], rejected: Sequence[float], most: int) -> Table:
    """| Prompt | Good | Bad | Right? | of the first pairs."""
    right = agreement(chosen, rejected)
    rows = [
        [shortened(pair.prompt), f"{good:.3f}", f"{bad:.3f}", VERDICTS[hit]]
        for pair, good, bad, hit in list(zip(pairs, chosen, rejected, right, strict=True))[:most]
    ]
    shown = f"The first {len(rows)} of {len(pairs)} pairs" if len(rows) < len(pairs) else counted(len(rows), "pair")
    return Table(
        "Scores of good and bad answers",
        ["Prompt", "Good", "Bad", "Right?"],
        rows,
        f"{shown}; a score is the model's, less its offset.",
    )


def summary(pairs: Sequence[Pair], chosen: Sequence[float], rejected: Sequence[float]) -> list[str]:
    """How often the good answer scores higher, with its interval; by noise-free labels too, where there are such."""
    found = accuracies(pairs, agreement(chosen, rejected))
    lines = [
        f"accuracy {_share(found, 'accuracy')} of {counted(len(pairs), 'pair')}; a tie is half (brackets: 95%, Wilson)"
    ]
    if "accuracy_noise_free" in found:
        lines.append(f"accuracy by noise-free labels {_share(found, 'accuracy_noise_free')}")
    margins = [good - bad for good, bad in zip(chosen, rejected, strict=True)]
    lines.append(f"mean of good − bad: {sum(margins) / len(margins):+.3f}")
    if broken := sum(not math.isfinite(score) for score in (*chosen, *rejected)):
        lines.append(f"{broken} scores are no finite numbers, and count as wrong: the model is damaged")
    return lines


def _share(found: dict[str, Any], name: str) -> str:
    low, high = found[f"{name}_interval_95"]
    return number(Interval(found[name], low, high, found["pairs"]))
