"""KL against reward: SFT, best-of-n of it, PPO along its training, RFT, all sampled alike on the same posts.

    python -m evaluation frontier
    python -m evaluation frontier --config configs/tiny/frontier.yaml --root runs/demo

Writes `<root>/frontier.json`: each policy's estimated KL to the SFT model (best-of-n: the analytic bound), its reward,
the score of a second reward model and the gold score where there are such, ROUGE and length, all with intervals; and
Gao et al.'s curves through them. Finished work is kept under `<root>/.cache` and is not done again while models,
posts and settings stay as they are. One model is in memory at a time. Left out: several processes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from evaluation.devices import Devices, choose_devices, choose_dtype
from evaluation.frontier_options import RANGES, FrontierOptions
from evaluation.frontier_points import (
    FORMAT,
    Point,
    best_of_n_points,
    fit_all,
    fit_table,
    point_table,
    policy_point,
)
from evaluation.frontier_policies import BASELINE, Policy, find_policies
from evaluation.gao import Fit, Refusal
from evaluation.judges import about, about_second, reward_model_path, second_reward_model_path
from evaluation.progress import Progress
from evaluation.sampled import Sampler, Samples, loaded_late, rewards, text_measures
from reward_model.labels import require_use_of_label
from reward_model.model import check_reward_model
from reward_model.scorer import RewardScorer
from tasks.encoding import cut_prompts, require_responses
from tasks.records import Post
from tasks.registry import get_task
from tasks.run_folder import RunFolder, fill_places
from trlx.utils.cli import parse_config
from trlx.utils.digest import model_digest
from trlx.utils.disk import require_writable
from trlx.utils.errors import UserError, run_main
from trlx.utils.files import write_json
from trlx.utils.pretrained import load_config, load_tokenizer, require_vocabulary
from trlx.utils.ranges import require_ranges

PACKAGES = ("torch", "transformers", "scipy", "numpy")
Scores = Mapping[str, NDArray[Any]]


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, sample, print and write."""
    options = parse_config(FrontierOptions, "KL against reward: SFT, best-of-n, PPO along its training, RFT.", argv)
    options = fill_places(options, options.root)
    _check(options)
    logging.disable_progress_bar()  # of loading, which takes seconds
    console = Console()
    content, fits = run(options)
    conditions = f"{content['posts']} posts of split '{options.split}', {options.decoding_text}"
    caption = (
        f"Mean over {conditions}: {options.samples} a post of {BASELINE}, {options.policy_samples} "
        "of every other policy. KL: nats a response, Σ k1; of best-of-n the bound log n − (n − 1)/n. Brackets: 95% "
        "bootstrap interval over posts (percentile)."
    )
    for table in (point_table(content["points"], caption), fit_table(fits, conditions)):
        console.print()
        table.print(console)
    for line in [*content["run"]["left_out"], f"{RunFolder.of(options.root).frontier}  (all numbers)"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _check(options: FrontierOptions) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("the frontier is sampled in one process: start it with plain python, without a launcher")
    require_ranges(options, RANGES)
    if options.max_new_tokens >= options.max_length:
        raise UserError(
            f"--max_new_tokens {options.max_new_tokens} leaves no room in --max_length {options.max_length}"
        )


def run(options: FrontierOptions) -> tuple[dict[str, Any], list[Fit | Refusal]]:
    """Sample and score what is missing, and write frontier.json; returns its content, and the curves."""
    folder = RunFolder.of(options.root)
    judges = _judges(options, folder)
    policies, left_out = find_policies(folder, options.sft, options.models, options.checkpoints)
    require_writable(folder.frontier_work, "--root")
    tokenizer = load_tokenizer(policies[0].path, "--sft")
    policies, others = _of_one_vocabulary(policies, tokenizer)
    posts = _posts(options, tokenizer)
    devices = choose_devices(options.reward_device, options.policy_device)
    print(f"{devices}\n{len(posts)} posts of {folder.shown(options.data)}, {len(policies)} policies", flush=True)

    sampler = Sampler(
        tokenizer=tokenizer,
        prompts=[post.prompt for post in posts],
        max_new_tokens=options.max_new_tokens,
        batch_size=options.batch_size,
        seed=options.seed,
        dtype=choose_dtype(options.dtype, devices.policy),
        device=devices.policy,
        progress=Progress(folder.frontier_work, resume=not options.overwrite),
    )
    points = measure(options, policies, judges, posts, sampler, devices)
    fits = fit_all(points, options.resamples)
    facts = _run_facts(options, folder, devices, sampler.progress.reused) | {
        "left_out": left_out + others,
        "policies": {
            policy.name: {"path": folder.shown(policy.path), "content": policy.content} for policy in policies
        },
        "reward_model": about(judges["reward"], folder),
        "second_reward_model": about_second(judges.get("second_reward"), judges["reward"], folder),
    }
    content = to_json(options, points, fits, facts)
    write_json(folder.frontier, content)
    return content, fits


def _judges(options: FrontierOptions, folder: RunFolder) -> dict[str, str]:
    """Score → the folder of the reward model that gives it."""
    judges = {"reward": reward_model_path(options.reward_model, folder)}
    second = second_reward_model_path(options.second_reward_model, folder)
    if second is not None:
        judges["second_reward"] = second
    for path in judges.values():
        check_reward_model(path, options.reward_label)
    require_use_of_label(options.reward_label, judges.values())
    return judges


def _of_one_vocabulary(
    policies: Sequence[Policy], tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Policy], list[str]]:
    """Those whose tokens are the SFT model's, and a line for each other one: between them there is no KL."""
    kept, left_out = [], []
    for policy in policies:
        own = load_tokenizer(policy.path, "--models")
        require_vocabulary(load_config(policy.path, "--models"), own, policy.path)
        if own.get_vocab() == tokenizer.get_vocab():
            kept.append(policy)
        else:
            left_out.append(f"No {policy.name}: its vocabulary is not that of {BASELINE}, so it has no KL to it")
    return kept, left_out


def _posts(options: FrontierOptions, tokenizer: PreTrainedTokenizerBase) -> list[Post]:
    task = get_task(options.task)
    posts = task.load_posts(
        options.data, options.split, limit=options.limit, columns=options.columns, bad_rows=options.bad_rows
    )
    room, longest = options.max_length - options.max_new_tokens, options.max_new_tokens
    posts = cut_prompts(posts, task.form, tokenizer, room, response_tokens=longest, bad_rows=options.bad_rows)
    return require_responses(posts)


def measure(
    options: FrontierOptions,
    policies: Sequence[Policy],
    judges: Mapping[str, str],
    posts: Sequence[Post],
    sampler: Sampler,
    devices: Devices,
) -> list[Point]:
    """Every point, SFT first; weights that several policies share are sampled once."""
    sft, others = policies[0], policies[1:]
    one_of = {policy.content: policy for policy in reversed(others) if policy.content != sft.content}
    tracked = {
        content: sampler.draw_tracked(policy.name, policy.path, content, options.policy_samples)
        for content, policy in reversed(one_of.items())
    }
    drawn: dict[str, Samples] = {sft.content: sampler.draw(sft.name, sft.path, sft.content, options.samples), **tracked}
    with loaded_late(lambda: sampler.load(sft.name, sft.path)) as reference:
        kl = {
            content: sampler.kl_to(reference, sft.content, one_of[content].name, samples)
            for content, samples in tracked.items()
        }
    kl[sft.content] = (np.zeros(len(posts)), np.zeros(len(posts)))
    names = {content: policy.name for content, policy in {**one_of, sft.content: sft}.items()}
    scores = _scores(options, judges, posts, drawn, names, sampler, devices)
    points = best_of_n_points(sft, scores[sft.content], {"samples": options.samples})
    for policy in others:
        about_it = {"samples": drawn[policy.content].per_post}
        points.append(policy_point(policy, *kl[policy.content], scores[policy.content], about_it))
    return points


def _scores(
    options: FrontierOptions,
    judges: Mapping[str, str],
    posts: Sequence[Post],
    drawn: Mapping[str, Samples],
    names: Mapping[str, str],
    sampler: Sampler,
    devices: Devices,
) -> dict[str, dict[str, NDArray[Any]]]:
    """Content of a policy → score → (P, samples a post)."""
    dtype, form = choose_dtype(options.reward_dtype, devices.reward), get_task(options.task).form
    wanted = options.reward_label
    found = {content: text_measures(get_task(options.task), posts, samples) for content, samples in drawn.items()}
    for score, path in judges.items():
        facts = [model_digest(path), wanted, str(dtype), options.max_length, options.reward_batch_size]

        def load(path: str = path) -> RewardScorer:
            size = options.reward_batch_size
            return RewardScorer.load(path, devices.reward, dtype, options.max_length, size, form.cut, wanted)

        with loaded_late(load) as scorer:
            for content, samples in drawn.items():
                label = f"{names[content]}, {score.replace('_', ' ')}"
                found[content][score] = rewards(sampler.progress, label, scorer, facts, sampler.prompts, samples)
    return found


def to_json(
    options: FrontierOptions, points: Sequence[Point], fits: Sequence[Fit | Refusal], facts: dict[str, Any]
) -> dict[str, Any]:
    """The content of frontier.json."""
    return {
        "format": FORMAT,
        "decoding_text": options.decoding_text,
        "split": options.split,
        "posts": len(points[0].kl),
        "baseline": BASELINE,
        "points": [point.to_json(options.resamples) for point in points],
        "fits": [one.to_json() for one in fits if isinstance(one, Fit)],
        "fits_refused": [asdict(one) for one in fits if isinstance(one, Refusal)],
        "run": facts,
    }


def _run_facts(options: FrontierOptions, folder: RunFolder, devices: Devices, reused: int) -> dict[str, Any]:
    settings = asdict(options)
    for name in ("root", "overwrite", "sft", "models", "reward_model", "second_reward_model"):
        settings.pop(name)
    return settings | {
        "data": folder.shown(options.data),
        "dtype": str(choose_dtype(options.dtype, devices.policy)).removeprefix("torch."),
        "reward_dtype": str(choose_dtype(options.reward_dtype, devices.reward)).removeprefix("torch."),
        "devices": str(devices),
        "reused": reused,
        "versions": {"python": sys.version.split()[0], **{name: metadata.version(name) for name in PACKAGES}},
    }


if __name__ == "__main__":
    run_main(main)
