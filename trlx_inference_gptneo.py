"""Judging the summarizers: SFT, PPO, any other model and plain baselines on the test split, greedy.

    python trlx_inference_gptneo.py
    python trlx_inference_gptneo.py --config configs/tiny/inference.yaml --root runs/demo
    python trlx_inference_gptneo.py --models sft,ppo,base=EleutherAI/gpt-neo-1.3B --limit 500 --batch_size 32
    python trlx_inference_gptneo.py --resume auto                           after an interruption

By ROUGE, by the reward model, by a second one that nothing was trained against (`<root>/ckpts/second_reward_model`,
where there is one), and by gold where the task knows it. Prints the tables and writes `<root>/report.html`,
`results.json`, `metadata/results.md` and a CSV of summaries for each; all are written anew on each run. With two GPUs
the reward models sit on the first and the policy on the second; with fewer they share, which is said. One policy is in
memory at a time. Left out: several processes; policies at temperature 1 (`python -m evaluation frontier`).
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal

from rich.console import Console
from torch import Tensor
from transformers.utils import logging

from evaluation.baselines import baseline_summaries, why_left_out
from evaluation.contestants import parse_baselines, parse_models
from evaluation.devices import Devices, choose_devices, choose_dtype
from evaluation.judge import Bench, JudgeSettings
from evaluation.judges import about, about_second, reward_model_path, second_reward_model_path
from evaluation.kl import SampledResponse, sequence_kl
from evaluation.outputs import notes, write_outputs
from evaluation.policies import describe, load_policy, release_memory, require_fit
from evaluation.progress import Progress, model_facts
from evaluation.report.write import write_report
from evaluation.results import Outcome, Results, summarise
from evaluation.statistics import RESAMPLES
from evaluation.summaries import Writer, of_baseline
from evaluation.tables import print_tables
from reward_model.labels import require_use_of_label
from reward_model.model import check_reward_model
from reward_model.scorer import RewardScorer
from tasks.encoding import cut_prompts, require_responses
from tasks.reading.rows import OnBadRows
from tasks.records import Post
from tasks.registry import get_task
from tasks.run_folder import DEFAULT_ROOT, RunFolder, fill_places
from trlx.utils.cli import parse_config
from trlx.utils.disk import require_writable
from trlx.utils.errors import UserError, run_main
from trlx.utils.lock import let_go_of_all, take
from trlx.utils.pretrained import load_config, load_tokenizer, require_vocabulary
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, require_ranges

RANGES = {
    **dict.fromkeys(("limit", "batch_size", "reward_batch_size", "max_length", "max_new_tokens"), AT_LEAST_1),
    **dict.fromkeys(("kl_posts", "seed"), AT_LEAST_0),
    "resamples": AT_LEAST_1,
}
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
PACKAGES = ("torch", "transformers", "evaluate", "rouge-score", "scipy", "statsmodels", "datasets", "tokenizers")


@dataclass
class InferenceOptions:
    """Options of the evaluation.

    Args:
        root: the run's root folder; models are looked for and outputs written under it, `{root}` in a path means it.
        models: what to judge, separated by commas: sft, ppo, ppo_heldout and rft are found under the root, others are
            name=path; null for sft, ppo, and those of the other two that are there.
        baselines: plain summaries judged like models, separated by commas: title, first_sentence, first_30_words.
        baseline: the model that the others are compared with (paired differences, KL); skipped when not judged.
        reward_model: its folder; null for root/ckpts/reward_model.
        reward_label: of a text classifier, the label whose log-odds are the reward; null for what its config.json says.
        second_reward_model: one trained on other pairs; null for root/ckpts/second_reward_model where it is there.
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
        resamples: bootstrap resamples behind each 95% interval, and permutations behind each p.
        seed: of the sampling for the KL.
        resume: true or auto: go on where an interrupted evaluation stopped, or begin where there is none; nothing is
            done twice that still holds.
    """

    root: str = DEFAULT_ROOT
    models: str | None = None
    baselines: str = "title,first_sentence,first_30_words"
    baseline: str = "sft"
    reward_model: str | None = None
    reward_label: str | None = None
    second_reward_model: str | None = None
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
    resume: bool | Literal["auto"] = False

    @property
    def settings(self) -> JudgeSettings:
        """What the judging needs of these."""
        return JudgeSettings(
            max_prompt_tokens=self.max_length - self.max_new_tokens,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            kl_posts=self.kl_posts,
            resamples=self.resamples,
            seed=self.seed,
        )


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, judge, print and write."""
    options = parse_config(InferenceOptions, "Judge summarizers by ROUGE and by the reward model.", argv)
    options = fill_places(options, options.root)
    _check(options)
    # Loading takes seconds; the bars to watch are those of generating and scoring.
    logging.disable_progress_bar()
    try:
        results, files = evaluate(options)
    finally:
        let_go_of_all()
    console = Console()
    console.print()
    print_tables(results, console)
    for line in notes(results):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print("Where things are:", *files, sep="\n  ", markup=False, highlight=False, soft_wrap=True)


def _check(options: InferenceOptions) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("the evaluation runs in one process: start it with plain python, without a launcher")
    require_ranges(options, RANGES)
    if options.max_new_tokens >= options.max_length:
        raise UserError(
            f"--max_new_tokens {options.max_new_tokens} leaves no room in --max_length {options.max_length}"
        )


def evaluate(options: InferenceOptions) -> tuple[Results, list[str]]:
    """Judge every model and baseline and write everything; returns the results and a line for each file written."""
    run = RunFolder.of(options.root)
    models, baselines = parse_models(options.models, run), parse_baselines(options.baselines)
    reward_path = reward_model_path(options.reward_model, run)
    second_path = second_reward_model_path(options.second_reward_model, run)
    require_writable(run.metadata, "--root")
    for path in models.values():
        require_vocabulary(load_config(path, "--models"), load_tokenizer(path, "--models"), path)
    judges = [path for path in (reward_path, second_path) if path is not None]
    for path in judges:
        check_reward_model(path, options.reward_label)
    require_use_of_label(options.reward_label, judges)
    judged_by = {
        "reward_model": about(reward_path, run),
        "second_reward_model": about_second(second_path, reward_path, run),
    }
    task = get_task(options.task)
    devices = choose_devices(options.reward_device, options.policy_device)
    print(devices, flush=True)

    tokenizer = load_tokenizer(models.get(options.baseline) or next(iter(models.values())))
    posts = task.load_posts(
        options.data, options.split, limit=options.limit, columns=options.columns, bad_rows=options.bad_rows
    )
    room, longest = options.settings.max_prompt_tokens, options.max_new_tokens
    posts = cut_prompts(posts, task.form, tokenizer, room, response_tokens=longest, bad_rows=options.bad_rows)
    require_responses(posts)
    print(f"{len(posts)} posts of {run.shown(options.data)}, split {options.split}", flush=True)

    take(run.metadata)
    progress = Progress(run.metadata / ".evaluation", bool(options.resume))
    precision = str(choose_dtype(options.reward_dtype, devices.reward))
    states = [options.reward_label, *(model_facts(path) for path in (reward_path, second_path or ""))]
    bench = Bench(
        task=task,
        scorer=load_scorer(reward_path, options, devices),
        second=None if second_path is None else load_scorer(second_path, options, devices),
        scorer_facts=[states, precision, options.max_length, options.reward_batch_size],
        progress=progress,
    )
    references = bench.references(posts)
    outcomes = judge_models(models, options, posts, tokenizer, bench, devices)
    plain, left_out = judge_baselines(baselines, posts, tokenizer, bench)
    facts = _run_facts(options, run, devices) | {"left_out": left_out, "reused_posts": progress.reused}
    results = summarise(references, outcomes + plain, options.baseline, options.resamples, facts, **judged_by)
    files = write_outputs(run, results, posts, references, outcomes + plain)
    progress.clear()
    return results, [f"{write_report(run.root)}  (everything on one page, for a browser)", *files]


def load_scorer(path: str, options: InferenceOptions, devices: Devices) -> RewardScorer:
    """A reward model as the options want it."""
    dtype = choose_dtype(options.reward_dtype, devices.reward)
    form, size = get_task(options.task).form, options.reward_batch_size
    return RewardScorer.load(path, devices.reward, dtype, options.max_length, size, form.cut, options.reward_label)


def judge_models(
    models: dict[str, str],
    options: InferenceOptions,
    posts: list[Post],
    tokenizer: Any,
    bench: Bench,
    devices: Devices,
) -> list[Outcome]:
    """Outcomes in the order of `models`; the baseline is judged last, when the others' KL samples wait for it."""
    settings, run = options.settings, RunFolder.of(options.root)
    dtype = choose_dtype(options.dtype, devices.policy)
    with_kl = options.baseline in models and options.kl_posts > 0
    outcomes: dict[str, Outcome] = {}
    waiting: dict[str, list[SampledResponse]] = {}
    for name in sorted(models, key=lambda name: name == options.baseline):
        own = load_tokenizer(models[name])
        model = load_policy(models[name], dtype, devices.policy)
        its_posts = cut_prompts(posts, bench.task.form, own, settings.max_prompt_tokens)
        prompts = [post.prompt for post in its_posts]
        require_fit(name, model, own, prompts, settings.max_new_tokens)
        state = [model_facts(models[name]), str(dtype)]
        writer = Writer(name, model, own, state, settings.max_new_tokens, settings.batch_size, bench.progress)
        began, reused = time.perf_counter(), bench.progress.reused
        written = writer.greedy(prompts)
        spent = round(time.perf_counter() - began, 2) if bench.progress.reused == reused else None
        facts = {**describe(model), "generation_seconds": spent}
        outcomes[name] = bench.measure(name, run.shown(models[name]), "model", its_posts, written, facts)
        if with_kl and name != options.baseline:
            if own.get_vocab() == tokenizer.get_vocab():
                waiting[name] = writer.samples(prompts[: settings.kl_posts], settings.seed)
            else:
                print(f"{name}: no KL, its vocabulary is not that of {options.baseline}", flush=True)
        if name == options.baseline:
            for other, samples in waiting.items():
                theirs: list[Tensor] = writer.logprobs_of(other, samples)
                outcomes[other].kl = sequence_kl(samples, theirs, settings.resamples)
        del model, writer
        release_memory()
    return [outcomes[name] for name in models]


def judge_baselines(
    names: list[str], posts: list[Post], tokenizer: Any, bench: Bench
) -> tuple[list[Outcome], list[str]]:
    """Outcomes of the baselines, and a line for each that does not exist for every post."""
    outcomes, left_out = [], []
    for name in names:
        texts = baseline_summaries(name, [post.prompt for post in posts])
        if reason := why_left_out(name, texts):
            left_out.append(reason)
            continue
        written = of_baseline([text or "" for text in texts], tokenizer)
        outcomes.append(bench.measure(name, "", "baseline", posts, written, {}))
    return outcomes, left_out


def _run_facts(options: InferenceOptions, run: RunFolder, devices: Devices) -> dict[str, Any]:
    settings = options.settings
    return {
        "task": options.task,
        "data": run.shown(options.data),
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


if __name__ == "__main__":
    run_main(main)
