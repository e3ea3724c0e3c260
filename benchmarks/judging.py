"""Time judging a split: the intervals and p-values of all tables, and one greedy pass sorted by length.

    python -m benchmarks.judging                                       # 1,000 invented posts, 5 models
    python -m benchmarks.judging --posts 100 --resamples 999 --repeats 1   # a quick look

Writes a JSON file below `out`; see benchmarks/README.md for what is measured and how.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import bootstrap, permutation_test

from benchmarks.report import machine
from benchmarks.tokenize_posts import invented
from evaluation.baselines import BASELINES
from evaluation.degeneration import Faults
from evaluation.results import Outcome, References, Results, summarise
from evaluation.rouge_scores import ROUGE_TYPES
from evaluation.statistics import compare, mean_interval
from tasks.scratch_model import ModelSize, random_gpt_neo, train_tokenizer
from tasks.text import TLDR
from trlx.generation.sampling import generate_texts
from trlx.utils.cli import parse_config
from trlx.utils.errors import fail
from trlx.utils.files import write_json

WORDS = ("cat", "dog", "lost", "sold", "my", "boss", "keys", "then", "the", "left")


@dataclass
class Options:
    """Options of the benchmark.

    Args:
        posts: number of them. models: in the tables, beside the three baselines.
        resamples: of every interval and p-value.
        layers: of the model that generates. hidden: its width. vocabulary: of the tokenizer trained on the posts.
        max_prompt: tokens a prompt is cut to. new_tokens: of each summary; a random model does not end by itself.
        batch_size: prompts generated at once.
        repeats: timed runs of the statistics. passes: of either order of the posts; 0 leaves them out.
        seed: of posts, scores and weights.
        out: folder for the JSON file. name: of that file.
    """

    posts: int = 1000
    models: int = 5
    resamples: int = 10_000
    layers: int = 2
    hidden: int = 128
    vocabulary: int = 8000
    max_prompt: int = 512
    new_tokens: int = 48
    batch_size: int = 16
    repeats: int = 3
    passes: int = 3
    seed: int = 0
    out: str = "benchmarks/results"
    name: str = "judging"


@dataclass(frozen=True)
class Took:
    """Wall and processor seconds of one run, and what it gave."""

    seconds: float
    cpu: float
    result: Any


def timed(work: Callable[[], Any]) -> Took:
    began, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Took(time.perf_counter() - began, time.process_time() - cpu, result)


def in_turn(contenders: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[Took]]:
    """Every contender `repeats` times; they take turns."""
    times: dict[str, list[Took]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, work in contenders.items():
            times[name].append(timed(work))
    return times


def invented_outcomes(options: Options) -> tuple[References, list[Outcome]]:
    """Scores out of nothing for every model and baseline, in the form that the evaluation gives them."""
    rng, words = np.random.default_rng(options.seed), random.Random(options.seed)
    count = options.posts

    def scores(mean: float = 0.0) -> list[float]:
        return rng.normal(mean, 1.0, count).tolist()

    def texts() -> list[str]:
        return [" ".join(words.choices(WORDS, k=words.randint(8, 35))) for _ in range(count)]

    def outcome(name: str, kind: str, mean: float) -> Outcome:
        return Outcome(
            name=name,
            path="",
            kind=kind,
            predictions=texts(),
            ended=[True] * count,
            tokens=rng.integers(10, 48, count).tolist(),
            rewards=scores(mean),
            rouge={rouge: rng.random(count).tolist() for rouge in ROUGE_TYPES},
            rouge_stemmed={rouge: rng.random(count).tolist() for rouge in ROUGE_TYPES},
            faults=[Faults(*(rng.random(5) < 0.05).tolist()) for _ in range(count)],
            second=scores(mean),
            gold=scores(mean),
        )

    references = References(texts(), scores(), scores(), scores())
    outcomes = [outcome(f"model {i}", "model", i / 10) for i in range(options.models)]
    return references, outcomes + [outcome(name, "baseline", -1.0) for name in BASELINES]


def all_tables(options: Options, references: References, outcomes: Sequence[Outcome]) -> Results:
    """What `results.json` holds of everything measured post by post."""
    return summarise(references, outcomes, outcomes[0].name, options.resamples, {}, {}, {})


def measure_statistics(options: Options) -> dict[str, list[Took]]:
    """One mean and one comparison, ours and through scipy as it comes, and all tables. Exits when they disagree."""
    references, outcomes = invented_outcomes(options)
    a, b = np.asarray(outcomes[-1].rewards), np.asarray(references.rewards)
    count = options.resamples

    def mean_of(x: Any, axis: int) -> Any:
        return np.mean(x, axis=axis)

    def scipy_mean() -> Any:
        rng = np.random.default_rng(0)
        found = bootstrap((a,), np.mean, n_resamples=count, vectorized=True, method="percentile", rng=rng)
        return found.confidence_interval

    def scipy_p() -> float:
        rng = np.random.default_rng(0)
        how = {"permutation_type": "samples", "vectorized": True, "rng": rng}
        return float(permutation_test((a - b,), mean_of, n_resamples=count, **how).pvalue)

    contenders = {
        "one mean": lambda: mean_interval(a.tolist(), resamples=count),
        "one mean, scipy as it comes": scipy_mean,
        "one comparison (interval and p)": lambda: compare(a.tolist(), b.tolist(), resamples=count),
        "p alone, scipy as it comes": scipy_p,
        f"all tables, {options.models} models": lambda: all_tables(options, references, outcomes),
    }
    in_turn(contenders, 1)  # warms up; imports statsmodels
    times = in_turn(contenders, options.repeats)
    ours, scipys = times["one mean"][0].result, times["one mean, scipy as it comes"][0].result
    require_equal([ours.low, ours.high], list(scipys), "the bounds")
    return times


def require_equal(ours: Sequence[float], theirs: Sequence[float], what: str) -> None:
    """Exits unless both are the same but for rounding."""
    if not np.allclose(ours, theirs, rtol=0, atol=1e-9):
        fail(f"{what} differ: {list(ours)} and {list(theirs)}")


def measure_generation(options: Options) -> dict[str, list[Took]]:
    """The same posts summarised greedily by one random model, by length and as they come. Exits when texts differ."""
    torch.set_num_threads(1)
    rows = list(invented(options.posts, options.seed))
    tokenizer = train_tokenizer((row["prompt"] for row in rows), options.vocabulary, max_length=10**6)
    size = ModelSize(
        options.vocabulary, options.layers, options.hidden, 4, 256, options.max_prompt + options.new_tokens
    )
    model = random_gpt_neo(tokenizer, size, options.seed).eval()
    prompts = [TLDR.cut(row["prompt"], tokenizer, options.max_prompt) for row in rows]
    how = {"max_new_tokens": options.new_tokens, "do_sample": False}

    def summaries(some: Sequence[str]) -> list[str]:
        return [one.text for one in generate_texts(model, tokenizer, some, how, options.batch_size)]

    def as_they_come() -> list[str]:
        # generate_texts sorts what it is given, and a batch at a time leaves it nothing to sort.
        starts = range(0, len(prompts), options.batch_size)
        return [text for start in starts for text in summaries(prompts[start : start + options.batch_size])]

    summaries(prompts[: options.batch_size])  # warms up
    times = in_turn({"sorted by length": lambda: summaries(prompts), "as they come": as_they_come}, options.passes)
    require_same_texts(*(took[0].result for took in times.values()))
    return times


def require_same_texts(ours: Sequence[str], theirs: Sequence[str]) -> None:
    """Exits when more than one text in a hundred differs: next to no two logits are within rounding of each other."""
    different = sum(one != other for one, other in zip(ours, theirs, strict=True))
    if different > len(ours) / 100:
        fail(f"{different} of {len(ours)} summaries differ between the orders")


def summary(times: dict[str, list[Took]]) -> dict[str, Any]:
    """Medians and ranges in seconds, JSON-able."""
    return {
        name: {
            "median_seconds": statistics.median(each.seconds for each in took),
            "range": [min(each.seconds for each in took), max(each.seconds for each in took)],
            "median_processor_seconds": statistics.median(each.cpu for each in took),
        }
        for name, took in times.items()
    }


def make_table(results: dict[str, dict[str, Any]]) -> Table:
    table = Table("", "median s", "min..max", "processor s")
    for name, found in results.items():
        low, high = found["range"]
        table.add_row(
            name,
            f"{found['median_seconds']:.3f}",
            f"{low:.3f}..{high:.3f}",
            f"{found['median_processor_seconds']:.3f}",
        )
    return table


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Measure, show and write."""
    options = parse_config(Options, "Time judging a split of posts.", argv)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    results = summary(measure_statistics(options))
    if options.passes:
        results |= summary(measure_generation(options))
    console = Console()
    console.print(make_table(results))
    path = Path(options.out) / f"{options.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    workload = {name: value for name, value in asdict(options).items() if name not in ("out", "name")}
    versions = {package: version(package) for package in ("numpy", "scipy", "statsmodels")}
    write_json(path, {"machine": machine("cpu", 1) | versions, "workload": workload, "results": results})
    console.print(f"wrote {path}")
    return results


if __name__ == "__main__":
    main()
