"""Judging the summarizers: SFT, PPO and any other model on the test split, greedy, by ROUGE and by the reward model.

    python trlx_inference_gptneo.py
    python trlx_inference_gptneo.py --config configs/tiny/inference.yaml --root runs/demo
    python trlx_inference_gptneo.py --models sft,ppo,base=EleutherAI/gpt-neo-1.3B --limit 500 --batch_size 32

Prints the ROUGE table, the reward table and the paired differences from the baseline, and writes
`<root>/results.json`, `<root>/metadata/results.md` and one CSV of summaries a model; all are written anew on each run.
With two GPUs the reward model sits on the first and the policy on the second; with fewer they share, which is said. One
policy is in memory at a time. Left out: several processes.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from evaluation.devices import Devices, choose_devices, choose_dtype
from evaluation.judge import (
    JudgeSettings,
    add_kl,
    judge,
    kl_samples,
    sample_rows,
    score_references,
)
from evaluation.kl import SampledResponse
from evaluation.policies import load_policy, release_memory, require_fit, require_model
from evaluation.results import Outcome, References, Results, summarise
from evaluation.samples import write_samples
from evaluation.statistics import RESAMPLES
from evaluation.tables import print_tables, to_markdown
from reward_model.model import check_reward_model
from reward_model.scorer import RewardScorer
from tasks.encoding import cut_prompts
from tasks.reading.rows import OnBadRows
from tasks.records import Post
from tasks.registry import Task, get_task
from tasks.run_folder import DEFAULT_ROOT, MAKERS, default_under, fill_places
from tasks.text import truncate_prompt
from trlx.utils.cli import parse_config
from trlx.utils.disk import require_writable
from trlx.utils.errors import UserError, run_main
from trlx.utils.files import write_json, write_text
from trlx.utils.pretrained import load_config, load_tokenizer, require_vocabulary
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, require_ranges

# Where each stage leaves its model under the root, and the command that makes it.
STAGES = {
    "sft": (("ckpts", "sft"), MAKERS["ckpts", "sft"]),
    "ppo": (
        ("ckpts", "best_checkpoint", "hf_model"),
        "accelerate launch --config_file configs/default_accelerate_config.yaml trlx_gptneo_text_summarization.py",
    ),
    "reward": (("ckpts", "reward_model"), MAKERS["ckpts", "reward_model"]),
}
RANGES = {
    **dict.fromkeys(("limit", "batch_size", "reward_batch_size", "max_length", "max_new_tokens"), AT_LEAST_1),
    **dict.fromkeys(("kl_posts", "seed"), AT_LEAST_0),
    "resamples": AT_LEAST_1,
}
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
PACKAGES = ("torch", "transformers", "evaluate", "rouge-score", "scipy", "datasets", "tokenizers")


@dataclass
class InferenceOptions:
    """Options of the evaluation.

    Args:
        root: the run's root folder; models are looked for and outputs written under it, `{root}` in a path means it.
        models: what to judge, separated by commas: sft and ppo are found under the root, others are name=path.
        baseline: the model that the others are compared with (paired differences, KL); skipped when not judged.
        reward_model: its folder; null for root/ckpts/reward_model.
        task: how rows of data are read and whether there is a gold score; see `tasks/`.
        data: hub id, local folder (or folder/prefix), or JSONL, JSON, CSV or Parquet files (also .gz).
        columns: where the data call a column otherwise: our name → theirs, e.g. `--columns.summary tldr`.
        bad_rows: stop at the first row that cannot be used, or skip such rows and count them.
        split: the split to judge on.
        limit: the first so many posts; null for all.
        batch_size: prompts continued at once.
        reward_batch_size: texts scored at once.
        max_length: longest prompt + summary in tokens; posts are cut to leave room for the summary.
        max_new_tokens: longest summary that is written.
        kl_posts: posts sampled at temperature 1 to estimate the KL to the baseline; 0 for none.
        dtype: of the policies: auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16 or float16.
        reward_dtype: of the reward model, likewise.
        policy_device: null for GPU 1, else GPU 0, else the CPU.
        reward_device: null for GPU 0, else the CPU.
        resamples: bootstrap resamples behind each 95% interval.
        seed: of the sampling for the KL.
    """

    root: str = DEFAULT_ROOT
    models: str = "sft,ppo"
    baseline: str = "sft"
    reward_model: str | None = None
    task: str = "tldr"
    data: str = "CarperAI/openai_summarize_tldr"
    columns: dict[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"
    split: str = "test"
    limit: int | None = None
    batch_size: int = 16
    reward_batch_size: int = 32
    max_length: int = 550
    max_new_tokens: int = 50
    kl_posts: int = 500
    dtype: DtypeName = "auto"
    reward_dtype: DtypeName = "float32"
    policy_device: str | None = None
    reward_device: str | None = None
    resamples: int = RESAMPLES
    seed: int = 42


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, judge, print and write."""
    options = parse_config(InferenceOptions, "Judge summarizers by ROUGE and by the reward model.", argv)
    options = fill_places(options, options.root)
    _check(options)
    # Loading takes seconds; the bars to watch are those of generating and scoring.
    logging.disable_progress_bar()
    results, files = evaluate(options)
    console = Console()
    console.print()
    print_tables(results, console)
    for line in notes(results):
        console.print(line, markup=False, highlight=False)
    console.print("Where things are:", *files, sep="\n  ", markup=False, highlight=False, soft_wrap=True)


def _check(options: InferenceOptions) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("the evaluation runs in one process: start it with plain python, without a launcher")
    require_ranges(options, RANGES)
    if options.max_new_tokens >= options.max_length:
        raise UserError(
            f"--max_new_tokens {options.max_new_tokens} leaves no room in --max_length {options.max_length}"
        )


def parse_models(text: str, root: str) -> dict[str, str]:
    """`"sft,ppo,mine=path"` → {name: folder or hub id}, in the order given.

    Raises: UserError for a name twice, a name without a path that is no stage, or a stage's model that is not there.
    """
    models: dict[str, str] = {}
    for entry in (part.strip() for part in text.split(",") if part.strip()):
        name, given, path = entry.partition("=")
        if not re.fullmatch(r"[\w.-]+", name) or (given and not path):
            raise UserError(f"--models: '{entry}' is not name or name=path")
        if name in models:
            raise UserError(f"--models: '{name}' is named twice")
        if not given and name not in ("sft", "ppo"):
            raise UserError(f"--models: '{name}' needs a path, as in {name}=FOLDER; only sft and ppo are known by name")
        models[name] = path if given else _stage_folder(name, root)
        require_model(name, models[name], _remedy(name) if not given else "check the path in --models")
    if not models:
        raise UserError("--models names no model; for example sft,ppo")
    return models


def _stage_folder(stage: str, root: str) -> str:
    return str(default_under(root, None, *STAGES[stage][0]))


def _remedy(stage: str) -> str:
    return f"the {stage} stage writes it, `{STAGES[stage][1]}` with the same --root; or judge others with --models"


def evaluate(options: InferenceOptions) -> tuple[Results, list[str]]:
    """Judge every model and write everything; returns the results and a line for each file written."""
    models = parse_models(options.models, options.root)
    reward_path = options.reward_model or _stage_folder("reward", options.root)
    require_model("reward", reward_path, f"`{STAGES['reward'][1]}` with the same --root makes it")
    require_writable(Path(options.root) / "metadata", "--root")
    for path in models.values():
        require_vocabulary(load_config(path, "--models"), load_tokenizer(path, "--models"), path)
    check_reward_model(reward_path)
    task = get_task(options.task)
    devices = choose_devices(options.reward_device, options.policy_device)
    print(devices, flush=True)

    settings = _settings(options)
    tokenizer = load_tokenizer(models.get(options.baseline) or next(iter(models.values())))
    posts = task.load_posts(
        options.data, options.split, limit=options.limit, columns=options.columns, bad_rows=options.bad_rows
    )
    posts = cut_prompts(posts, tokenizer, settings.max_prompt_tokens, bad_rows=options.bad_rows)
    print(f"{len(posts)} posts of {_shown(options.data, options.root)}, split {options.split}", flush=True)

    scorer = RewardScorer.load(
        reward_path,
        devices.reward,
        choose_dtype(options.reward_dtype, devices.reward),
        options.max_length,
        options.reward_batch_size,
        truncate_prompt,
    )
    references = score_references(posts, scorer, task)
    outcomes = judge_all(models, options, posts, tokenizer, scorer, task, settings, devices)
    results = summarise(
        references,
        outcomes,
        options.baseline,
        options.resamples,
        run=_run_facts(options, settings, devices),
        reward_model={"path": _shown(reward_path, options.root), **held_out(reward_path)},
    )
    return results, write_outputs(options.root, results, posts, references, outcomes)


def _settings(options: InferenceOptions) -> JudgeSettings:
    return JudgeSettings(
        max_prompt_tokens=options.max_length - options.max_new_tokens,
        max_new_tokens=options.max_new_tokens,
        batch_size=options.batch_size,
        kl_posts=options.kl_posts,
        resamples=options.resamples,
        seed=options.seed,
    )


def judge_all(
    models: dict[str, str],
    options: InferenceOptions,
    posts: list[Post],
    tokenizer: PreTrainedTokenizerBase,
    scorer: RewardScorer,
    task: Task,
    settings: JudgeSettings,
    devices: Devices,
) -> list[Outcome]:
    """Outcomes in the order of `models`; the baseline is judged last, when the others' KL samples wait for it."""
    dtype = choose_dtype(options.dtype, devices.policy)
    with_kl = options.baseline in models and options.kl_posts > 0
    outcomes: dict[str, Outcome] = {}
    waiting: dict[str, list[SampledResponse]] = {}
    for name in sorted(models, key=lambda name: name == options.baseline):
        own = load_tokenizer(models[name])
        model = load_policy(models[name], dtype, devices.policy)
        its_posts = cut_prompts(posts, own, settings.max_prompt_tokens)
        require_fit(name, model, own, [post.prompt for post in its_posts], settings.max_new_tokens)
        shown = _shown(models[name], options.root)
        outcomes[name] = judge(name, shown, model, own, its_posts, scorer, task, settings)
        if with_kl and name != options.baseline:
            if own.get_vocab() == tokenizer.get_vocab():
                waiting[name] = kl_samples(name, model, own, its_posts, settings)
            else:
                print(f"{name}: no KL, its vocabulary is not that of {options.baseline}", flush=True)
        if name == options.baseline:
            for other, samples in waiting.items():
                add_kl(outcomes[other], samples, model, settings)
        del model
        release_memory()
    return [outcomes[name] for name in models]


def held_out(reward_path: str) -> dict[str, Any]:
    """What the reward model's own stage measured on its test pairs; empty when it left no results.json."""
    path = Path(reward_path) / "results.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}): train the reward model anew or delete it") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no JSON object: train the reward model anew or delete it")
    return {"held_out": found}


def notes(results: Results) -> list[str]:
    """Lines beside the tables: the reward model's held-out accuracy and the missing baseline, where there is either."""
    lines = []
    test = results.reward_model.get("held_out", {}).get("test", {})
    if "accuracy" in test:
        noise_free = test.get("accuracy_noise_free")
        lines.append(
            f"Reward model: accuracy {test['accuracy']:.3f} on {test.get('pairs', 'its')} held-out pairs"
            + (f", {noise_free:.3f} against noise-free labels" if noise_free is not None else "")
        )
    if results.baseline not in {model.name for model in results.models}:
        lines.append(f"No differences and no KL: the baseline '{results.baseline}' is not among --models")
    return lines


def _run_facts(options: InferenceOptions, settings: JudgeSettings, devices: Devices) -> dict[str, Any]:
    return {
        "task": options.task,
        "data": _shown(options.data, options.root),
        "split": options.split,
        "limit": options.limit,
        "decoding": settings.gen_kwargs,
        "decoding_text": f"greedy, at most {settings.max_new_tokens} new tokens",
        "max_prompt_tokens": settings.max_prompt_tokens,
        "kl_sampling": {"temperature": 1.0, "posts": options.kl_posts, "seed": options.seed},
        "batch_size": options.batch_size,
        "dtype": str(choose_dtype(options.dtype, devices.policy)).removeprefix("torch."),
        "reward_dtype": str(choose_dtype(options.reward_dtype, devices.reward)).removeprefix("torch."),
        "devices": str(devices),
        "resamples": options.resamples,
        "seed": options.seed,
        "versions": {
            "python": sys.version.split()[0],
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }


def _shown(path: str, root: str) -> str:
    """A path under the root without the root, so that results can be moved and compared."""
    full, top = Path(path).resolve(), Path(root).resolve()
    return full.relative_to(top).as_posix() if full.exists() and full.is_relative_to(top) else path


def write_outputs(
    root: str, results: Results, posts: list[Post], references: References, outcomes: list[Outcome]
) -> list[str]:
    """results.json, results.md and the CSVs; returns a line for each."""
    folder = Path(root).resolve() / "metadata"
    lines = []
    for outcome in outcomes:
        path = folder / f"{outcome.name}_with_reward_scores_sample.csv"
        write_samples(path, sample_rows(posts, references, outcome))
        lines.append(f"{path}  (every summary of {outcome.name} with its scores)")
    markdown = folder / "results.md"
    write_text(markdown, to_markdown(results, notes(results)))
    summary = Path(root).resolve() / "results.json"
    write_json(summary, results.to_json())
    return [f"{summary}  (all numbers)", f"{markdown}  (the tables)", *lines]


if __name__ == "__main__":
    run_main(main)
