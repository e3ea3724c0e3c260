"""Over-optimisation on purpose: PPO without a KL penalty against a reward model that favours length, several seeds.

    python -m launch.study overoptimization --root runs/demo --seeds 1,2,3,4,5

Makes length-biased labels and a reward model of them once, then a policy for each seed, watched on held-out prompts by
gold, which only warns here so that the whole curve is seen. Judged on test posts are SFT, the best checkpoint by
reward, the best by held-out gold, and the last. Writes `study.json` and `study.md` into
`<root>/study/overoptimization`. Seeds are listed one by one: five runs are too few for an interval. Left out: stopping
and going back, which `--on_overoptimization stop` of the PPO stage does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from evaluation.statistics import mean_interval
from evaluation.table import Table
from launch.study.parts import (
    NOTE,
    StudyOptions,
    hub_off,
    miniature_once,
    once,
    ppo_once,
    require_finished,
    reward_model_once,
)
from launch.study.scores import MAX_NEW_TOKENS, RESAMPLES, Bench
from tasks.run_folder import REPO, RunFolder
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError
from trlx.utils.files import write_json, write_text
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, SHARE, require_ranges

RANGES = {
    **dict.fromkeys(("steps", "eval_interval", "eval_posts", "posts"), AT_LEAST_1),
    "length_bias": SHARE,
    "kl_posts": AT_LEAST_0,
}
BEST = ("best_heldout_checkpoint", "best_checkpoint")
BIASED = "comparisons_biased"
POLICIES = {"sft": "SFT", "heldout": "held-out", "reward": "by reward", "last": "last"}


@dataclass
class OveroptimizationOptions:
    """Options of `overoptimization`.

    Args:
        root: a finished run of the miniature; everything is written below it.
        seeds: of the PPO runs, separated by commas.
        length_bias: share of the labels that prefer the longer summary.
        steps: optimizer steps of each run.
        eval_interval: optimizer steps between evaluations.
        eval_posts: held-out prompts of each evaluation.
        posts: test posts that the policies are judged on at the end.
        kl_posts: of those, sampled for the KL to SFT; 0 for none.
    """

    root: str = str(REPO / "runs" / "demo")
    seeds: str = "1,2,3,4,5"
    length_bias: float = 0.6
    steps: int = 80
    eval_interval: int = 8
    eval_posts: int = 100
    posts: int = 200
    kl_posts: int = 100


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, run what is not finished, print the table."""
    options = parse_config(OveroptimizationOptions, "PPO that over-optimises a biased reward model.", argv)
    require_ranges(options, RANGES)
    seeds = parse_seeds(options.seeds)
    hub_off()
    run = RunFolder.of(options.root)
    require_finished(run)
    study = StudyOptions(run, run.study("overoptimization"), options.posts, options.kl_posts)
    make_biased_reward_model(study, options.length_bias)
    bench = Bench(study, {"reward": run.biased_reward_model})
    results = [run_seed(study, bench, seed, options) for seed in seeds]
    write_study(study.folder, results, asdict(options))


def parse_seeds(text: str) -> list[int]:
    """`"1,2,3"` → [1, 2, 3]. Raises: UserError for anything else, or a seed twice."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"--seeds must be whole numbers that differ, separated by commas, e.g. 1,2,3; not {text!r}")
    return [int(part) for part in parts]


def make_biased_reward_model(study: StudyOptions, length_bias: float) -> None:
    """Labels and reward model, unless they are there."""
    make_biased_labels(study, length_bias)
    reward_model_once(study, "biased_reward_model", study.run.biased_reward_model, pairs=BIASED)


def make_biased_labels(study: StudyOptions, length_bias: float) -> None:
    """The run's own pairs with labels of which a share prefers the longer summary, unless they are there."""
    relabel = ["relabel", "--length_bias", str(length_bias), "--overwrite", "true"]
    reads, writes = ([f"{pairs}_{split}.jsonl" for split in ("train", "valid1")] for pairs in ("comparisons", BIASED))
    miniature_once(study, f"labels.{NOTE}", relabel, reads, writes)


def ppo_options(reward_model: Path, seed: int, steps: int, eval_interval: int, eval_posts: int) -> list[str]:
    """What makes PPO of the miniature over-optimise: no KL penalty, room to write at length; and its monitor."""
    return [
        *("--reward_model", str(reward_model), "--accept_failing_reward_model", "true"),
        *("--method.init_kl_coef", "0", "--monitor", "gold", "--train.seed", str(seed)),
        *("--train.total_steps", str(steps), "--train.eval_interval", str(eval_interval)),
        *("--eval_limit", str(eval_posts), "--method.gen_kwargs.max_new_tokens", str(MAX_NEW_TOKENS)),
    ]


def run_seed(study: StudyOptions, bench: Bench, seed: int, options: OveroptimizationOptions) -> dict[str, Any]:
    """Train and judge one policy; what study.json keeps of it."""
    folder = study.folder / f"seed_{seed}"
    pace = (options.steps, options.eval_interval, options.eval_posts)
    judge = study.run.biased_reward_model
    ppo_once(study, folder, ppo_options(judge, seed, *pace), [judge], [*BEST, f"checkpoint_{options.steps}"])
    monitor = json.loads((folder / "logs" / "monitor.json").read_text(encoding="utf-8"))
    places = {
        "sft": study.run.sft,
        "heldout": folder / BEST[0] / "hf_model",
        "reward": folder / BEST[1] / "hf_model",
        "last": folder / f"checkpoint_{options.steps}" / "hf_model",
    }

    def measure() -> dict[str, Any]:
        return {name: bench.measure(place) for name, place in places.items()}

    scores = once(folder / "scores.json", f"judging seed {seed}", bench.facts(list(places.values())), measure)
    steps = {
        "sft": 0,
        "heldout": monitor["best_by_heldout"]["step"],
        "reward": monitor["best_by_reward"]["step"],
        "last": monitor["history"][-1]["step"],
    }
    return {
        "seed": seed,
        "flagged_at": monitor["flagged_at"],
        "steps": steps,
        "policies": {name: score["intervals"] for name, score in scores.items()},
        "lost_by_reward": paired(scores["reward"], scores["heldout"]),
        "lost_by_last": paired(scores["last"], scores["heldout"]),
        "history": monitor["history"],
    }


def paired(ours: Mapping[str, Any], theirs: Mapping[str, Any], measure: str = "gold") -> dict[str, Any]:
    """Interval of the paired differences of two policies, post by post, as JSON."""
    a, b = ours["by_post"][measure], theirs["by_post"][measure]
    return asdict(mean_interval([x - y for x, y in zip(a, b, strict=True)], resamples=RESAMPLES))


def seeds_table(results: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Table:
    """A row a seed."""
    names = " → ".join(POLICIES.values())
    header = ["Seed", "Flagged", f"Step: {names}", "Reward", "Gold", "Tokens", "Gold by reward − held-out"]
    return Table(
        "Over-optimisation, seed by seed",
        header,
        [_row(result) for result in results],
        f"Greedy summaries of {options['posts']} test posts, in the order {names}: SFT, the checkpoint with the best "
        f"held-out gold, the one with the best reward, the last. KL penalty off, {options['length_bias']:.0%} of the "
        "labels prefer the longer summary. Flagged: the step at which the monitor warned. Last column: paired "
        "difference and 95% bootstrap interval over posts.",
    )


def _row(result: Mapping[str, Any]) -> list[str]:
    def means(measure: str, digits: int) -> str:
        found = [result["policies"][name][measure]["mean"] for name in POLICIES]
        return " → ".join(f"{value:.{digits}f}" for value in found)

    flagged = result["flagged_at"]
    return [
        str(result["seed"]),
        "never" if flagged is None else str(flagged),
        " → ".join(str(result["steps"][name]) for name in POLICIES),
        means("reward", 2),
        means("gold", 3),
        means("tokens", 1),
        shown(result["lost_by_reward"]),
    ]


def shown(interval: Mapping[str, Any], sign: str = "+") -> str:
    """`+0.12 [+0.10, +0.14]`, or the mean alone where nothing is known of its spread."""
    mean = f"{interval['mean']:{sign}.3f}"
    if interval["low"] is None:
        return mean
    return f"{mean} [{interval['low']:{sign}.3f}, {interval['high']:{sign}.3f}]"


def write_study(folder: Path, results: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> None:
    """study.json, study.md, and the table on the console."""
    table = seeds_table(results, options)
    write_json(folder / "study.json", {"format": 1, "options": dict(options), "seeds": list(results)})
    write_text(folder / "study.md", table.to_markdown())
    table.print(Console(width=200))
    print(f"{folder / 'study.json'} and study.md written")
