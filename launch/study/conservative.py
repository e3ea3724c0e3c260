"""Careful rewards under pressure: what an ensemble, a length penalty and a held-out checkpoint each do.

    python -m launch.study conservative --root runs/demo
    python -m launch.study conservative --root runs/demo --length_bias 0         from honest labels

Trains k reward models that differ in their seed alone (new head, order of the pairs) on few pairs, so that there is
something to find in them, and on labels of which a share prefers the longer summary; and a policy without a KL penalty
for each way to use them. The same policy is judged twice for the last way: the single model's best held-out checkpoint.
Rewards are compared by the first member's score, which all ways share, whatever each was trained on. Writes
`study.json` and `study.md` into `<root>/study/conservative`, or `conservative_honest` where the labels are as they
were. Left out: several seeds of each policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from evaluation.table import Table
from launch.study.overoptimization import BIASED, make_biased_labels, paired, ppo_options, shown
from launch.study.parts import StudyOptions, hub_off, once, ppo_once, require_finished, reward_model_once
from launch.study.scores import Bench
from tasks.run_folder import REPO, RunFolder
from trlx.utils.cli import parse_config
from trlx.utils.files import write_json, write_text
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, NOT_NEGATIVE, SHARE, Range, require_ranges

RANGES = {
    **dict.fromkeys(("steps", "eval_interval", "eval_posts", "posts", "pairs", "reward_steps"), AT_LEAST_1),
    **dict.fromkeys(("kl_posts", "length_free", "seed"), AT_LEAST_0),
    **dict.fromkeys(("length_penalty", "std_weight"), NOT_NEGATIVE),
    "members": Range("2 or more", 2),
    "length_bias": SHARE,
}


@dataclass
class ConservativeOptions:
    """Options of `conservative`.

    Args:
        root: a finished run of the miniature; everything is written below it.
        length_bias: share of the labels that prefer the longer summary.
        members: reward models in the ensembles.
        pairs: preference pairs each is trained on.
        reward_steps: optimizer steps of each.
        std_weight: of mean_minus_std.
        length_penalty: reward points for each response token over length_free.
        length_free: response tokens that cost nothing.
        seed: of the PPO runs.
        steps: optimizer steps of each run.
        eval_interval: optimizer steps between evaluations.
        eval_posts: held-out prompts of each evaluation.
        posts: test posts that the policies are judged on at the end.
        kl_posts: of those, sampled for the KL to SFT.
    """

    root: str = str(REPO / "runs" / "demo")
    length_bias: float = 0.6
    members: int = 3
    pairs: int = 400
    reward_steps: int = 80
    std_weight: float = 1.0
    length_penalty: float = 0.2
    length_free: int = 28
    seed: int = 1
    steps: int = 80
    eval_interval: int = 8
    eval_posts: int = 100
    posts: int = 200
    kl_posts: int = 100


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, run what is not finished, print the table."""
    options = parse_config(ConservativeOptions, "Ensembles, a length penalty and a held-out checkpoint compared.", argv)
    require_ranges(options, RANGES)
    hub_off()
    run = RunFolder.of(options.root)
    require_finished(run)
    name = "conservative" if options.length_bias else "conservative_honest"
    study = StudyOptions(run, run.study(name), options.posts, options.kl_posts)
    members = make_members(study, options)
    bench = Bench(study, {"reward": members[0]})
    scores = {"SFT": judge(bench, study.folder / "sft.json", "SFT", run.sft)}
    pace, last = (options.steps, options.eval_interval, options.eval_posts), f"checkpoint_{options.steps}"
    for name, extra in ways(members, options).items():
        wanted = {name: last} | ({"single_heldout": "best_heldout_checkpoint"} if name == "single" else {})
        folder = study.folder / name
        ppo_once(study, folder, [*ppo_options(members[0], options.seed, *pace), *extra], members, [*wanted.values()])
        for policy, saved in wanted.items():
            note = folder / f"{saved}.scores.json"
            scores[policy] = judge(bench, note, f"{name}, {saved}", folder / saved / "hf_model")
    write_study(study.folder, scores, asdict(options))


def make_members(study: StudyOptions, options: ConservativeOptions) -> list[Path]:
    """Folders of the reward models, trained unless they are there."""
    if options.length_bias:
        make_biased_labels(study, options.length_bias)
    folders = [study.folder / f"reward_model_{number}" for number in range(1, options.members + 1)]
    small = ["--train_limit", str(options.pairs), "--max_steps", str(options.reward_steps)]
    small += ["--eval_steps", str(options.reward_steps), "--batch_size", "8"]
    for number, folder in enumerate(folders, start=1):
        seed = [*small, "--seed", str(number)]
        if options.length_bias:
            reward_model_once(study, "biased_reward_model", folder, seed, pairs=BIASED)
        else:
            reward_model_once(study, "reward_model", folder, seed)
    return folders


def ways(members: Sequence[Path], options: ConservativeOptions) -> dict[str, list[str]]:
    """Name of a careful reward → the options of PPO that ask for it."""
    several = ["--reward_model", ",".join(map(str, members)), "--reward_combine"]
    weight = ["--reward_std_weight", str(options.std_weight)]
    penalty = ["--length_penalty", str(options.length_penalty), "--length_free", str(options.length_free)]
    return {
        "single": [],
        "mean": [*several, "mean"],
        "min": [*several, "min"],
        "mean_minus_std": [*several, "mean_minus_std", *weight],
        "length_penalty": penalty,
    }


def judge(bench: Bench, note: Path, about: str, policy: Path) -> dict[str, Any]:
    """Scores of a policy, computed once."""
    return once(note, f"judging {about}", bench.facts([policy]), lambda: bench.measure(policy))


LABELS = {
    "SFT": "SFT",
    "single": "One reward model",
    "mean": "Mean of {members}",
    "min": "Least of {members}",
    "mean_minus_std": "Mean − {std_weight:g} std of {members}",
    "length_penalty": "One, and {length_penalty:g} a token over {length_free}",
    "single_heldout": "One, best held-out checkpoint",
}


def ways_table(scores: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any]) -> Table:
    """A row for each way."""
    rows = []
    for name, label in LABELS.items():
        found = scores[name]["intervals"]
        gain = "" if name in ("SFT", "single") else shown(paired(scores[name], scores["single"]))
        kl = "" if found["kl"] is None or name == "SFT" else f"{found['kl']['mean']:.2f}"
        cells = [f"{found['reward']['mean']:+.2f}", shown(found["gold"], ""), gain, f"{found['tokens']['mean']:.1f}"]
        rows.append([label.format(**options), *cells, kl])
    return Table(
        "Careful rewards",
        ["Reward trained on", "Score of member 1", "Gold", "Gold − one reward model", "Tokens", "KL, nats"],
        rows,
        f"Greedy summaries of {options['posts']} test posts after {options['steps']} steps of PPO without a KL "
        f"penalty, seed {options['seed']}; reward models of {options['pairs']} pairs that differ in their seed, "
        f"{options['length_bias']:.0%} of whose labels prefer the longer summary. "
        "Brackets: 95% bootstrap intervals over posts, of paired differences in the third column; another seed of PPO "
        "would move them further.",
    )


def write_study(folder: Path, scores: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any]) -> None:
    """study.json, study.md, and the table on the console."""
    table = ways_table(scores, options)
    kept = {name: score["intervals"] for name, score in scores.items()}
    write_json(folder / "study.json", {"format": 1, "options": dict(options), "policies": kept})
    write_text(folder / "study.md", table.to_markdown())
    table.print(Console(width=200))
    print(f"{folder / 'study.json'} and study.md written")
