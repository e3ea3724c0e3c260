"""Time turning posts into token ids on disk: the engine's cached store against `datasets.map` with the fast tokenizer.

    python -m benchmarks.tokenize_posts                                     # 100,000 invented posts, two settings
    python -m benchmarks.tokenize_posts --data posts.jsonl.gz --posts 20000  # real ones, repeated to the number
    python -m benchmarks.tokenize_posts --posts 2000 --repeats 1            # a quick look

Writes a JSON file below `out`; see benchmarks/README.md for what is measured and how.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.encoding_sides import Took, Work, run
from benchmarks.report import machine
from tasks.scratch_model import train_tokenizer
from tasks.text import format_post
from tasks.tldr import TASK
from trlx.pipeline.batch_tokenizer import cores
from trlx.utils.cli import parse_config
from trlx.utils.errors import fail
from trlx.utils.files import write_json

WARM_UP_POSTS = 1000
TOKENIZER_POSTS = 5000
CONSONANTS = ("b", "c", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "st", "tr", "ch")
VOWELS = ("a", "e", "i", "o", "u", "ai", "er", "on", "in")
DISTINCT_WORDS = 50_000


@dataclass
class Options:
    """Options of the benchmark.

    Args:
        posts: number of them.
        data: a file of real posts, in any format that is read; null for invented ones.
        max_length: one setting for each: prompt + summary in tokens; a small one makes both sides cut prompts.
        vocabulary: of the BPE tokenizer that is trained on the first posts.
        repeats: timed runs of each side and setting.
        seed: of the invented posts.
        folder: where files and caches are made, and removed at the end; null for the system's own.
        out: folder for the JSON file.
        name: of that file.
    """

    posts: int = 100_000
    data: str | None = None
    max_length: list[int] = field(default_factory=lambda: [4096, 400])
    vocabulary: int = 50_257
    repeats: int = 3
    seed: int = 0
    folder: str | None = None
    out: str = "benchmarks/results"
    name: str = "tokenize_posts"


@dataclass(frozen=True)
class Contender:
    """One row of the table. A run that is `again` finds the cache of the run before it."""

    name: str
    side: str
    processes: int = 1
    again: bool = False


def contenders() -> list[Contender]:
    """In the order they take turns."""
    return [
        Contender("engine", "engine"),
        Contender("engine, cached", "engine", again=True),
        Contender("datasets, 1 process", "datasets"),
        Contender("datasets, cached", "datasets", again=True),
        Contender(f"datasets, {cores()} processes", "datasets", processes=cores()),
    ]


def invented(number: int, seed: int) -> Iterator[dict[str, str]]:
    """Posts of words that are none, as frequent as words are (Zipf), some 240 to a post, in lines of a few sentences.

    Args:
        number: of posts.
    """
    rng = random.Random(seed)
    syllables = [a + b for a in CONSONANTS for b in VOWELS]
    words = ["".join(rng.choices(syllables, k=rng.choice((1, 1, 2, 2, 3, 4)))) for _ in range(DISTINCT_WORDS)]
    words.sort(key=len)  # the frequent ones are short
    weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(DISTINCT_WORDS)))

    def sentence(length: int) -> str:
        text = " ".join(rng.choices(words, cum_weights=weights, k=length)).capitalize()
        return text + rng.choice((".", ".", ".", "!", "?", ", " + rng.choice(words) + "."))

    for index in range(number):
        left = min(700, max(30, int(rng.lognormvariate(5.35, 0.5))))
        lines, line = [], []
        while left > 0:
            length = rng.randint(5, 25)
            line.append(sentence(length))
            left -= length
            if rng.random() < 0.3 or left <= 0:
                lines.append(" ".join(line))
                line = []
        prompt = format_post(rng.choice(words), sentence(rng.randint(4, 14)), "\n\n".join(lines))
        yield {"id": str(index), "prompt": prompt, "label": sentence(rng.randint(8, 35))}


def real(data: str, number: int) -> Iterator[dict[str, str]]:
    """Posts of a file over and over, under new ids."""
    once = [(post.prompt, post.summary) for post in TASK.iter_posts(data, None)]
    for index in range(number):
        prompt, summary = once[index % len(once)]
        yield {"id": str(index), "prompt": prompt, "label": summary}


def prepare(options: Options, folder: Path) -> None:
    """Write the posts, the first few of them for warming up, and a tokenizer."""
    rows = real(options.data, options.posts) if options.data else invented(options.posts, options.seed)
    first = list(itertools.islice(rows, TOKENIZER_POSTS))
    write_lines(folder / "warm-up.jsonl", first[:WARM_UP_POSTS])
    write_lines(folder / "posts.jsonl", itertools.chain(first, rows))
    texts = (row["prompt"] + " " + row["label"] for row in first)
    train_tokenizer(texts, options.vocabulary, max_length=10**6).save_pretrained(folder / "tokenizer")


def write_lines(path: Path, rows: Iterable[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def measure(options: Options, folder: Path, max_length: int, console: Console) -> dict[str, list[Took]]:
    """Every contender in turn, each run in a process and a cache of its own. Exits when the ids differ."""
    times: dict[str, list[Took]] = {each.name: [] for each in contenders()}
    for repeat in range(options.repeats + 1):
        file = folder / ("posts.jsonl" if repeat else "warm-up.jsonl")
        with tempfile.TemporaryDirectory(dir=folder) as caches:
            took = {each.name: once(each, file, folder, Path(caches), max_length) for each in contenders()}
        if len({each.digest for each in took.values()}) > 1:
            fail(f"the sides give different ids: {took}")
        shown = ", ".join(f"{name} {each.seconds:.1f} s" for name, each in took.items())
        console.print(f"{repeat or 'warm-up'}: {shown}")
        for name, each in took.items():
            times[name] += [each] if repeat else []
    return times


def once(contender: Contender, file: Path, folder: Path, caches: Path, max_length: int) -> Took:
    """One run in a new process."""
    cache = caches / f"{contender.side}-{contender.processes}"
    work = Work(
        contender.side, str(file), str(folder / "tokenizer"), str(cache), max_length, processes=contender.processes
    )
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, work).result()


def summary(max_length: int, times: dict[str, list[Took]]) -> dict[str, Any]:
    """One setting, JSON-able: medians, ranges, and how often as long as the engine's each took."""
    medians = {name: statistics.median(each.seconds for each in took) for name, took in times.items()}
    cpu = {name: statistics.median(each.cpu for each in took) for name, took in times.items()}
    any_run = times["engine"][0]
    return {
        "max_length": max_length,
        "samples": any_run.samples,
        "tokens": any_run.tokens,
        "median_seconds": medians,
        "range": {name: [min(s), max(s)] for name, took in times.items() for s in [[each.seconds for each in took]]},
        "median_processor_seconds": cpu,
        "ratio_to_engine": {name: seconds / medians["engine"] for name, seconds in medians.items()},
        "repeats": {name: [asdict(each) for each in took] for name, took in times.items()},
    }


def make_table(result: dict[str, Any]) -> Table:
    """Seconds and posts a second of every contender."""
    table = Table(title=f"max_length {result['max_length']}: {result['samples']:,} posts, {result['tokens']:,} tokens")
    table.add_column("")
    for column in ("median s", "min..max", "processor s", "posts/s", "times the engine's"):
        table.add_column(column, justify="right")
    for name, seconds in result["median_seconds"].items():
        low, high = result["range"][name]
        rate, ratio = result["samples"] / seconds, result["ratio_to_engine"][name]
        processor = result["median_processor_seconds"][name]
        table.add_row(
            name, f"{seconds:.2f}", f"{low:.2f}..{high:.2f}", f"{processor:.1f}", f"{rate:,.0f}", f"{ratio:.2f}"
        )
    return table


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, show and write every setting."""
    options = parse_config(Options, "Time turning posts into token ids on disk.", argv)
    # On both sides alike, and what a process without any setting does.
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["RANK"] = "1"  # no progress bars
    console, results = Console(), []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        prepare(options, Path(name))
        for max_length in options.max_length:
            results.append(summary(max_length, measure(options, Path(name), max_length, console)))
            console.print(make_table(results[-1]))
    path = Path(options.out) / f"{options.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    versions = {package: version(package) for package in ("datasets", "tokenizers", "pyarrow")}
    said = {
        "posts": options.posts,
        "data": "real" if options.data else "invented",
        "vocabulary": options.vocabulary,
        "seed": options.seed,
    }
    write_json(path, {"machine": machine("cpu", cores()) | versions, "workload": said, "results": results})
    console.print(f"wrote {path}")
    return results


if __name__ == "__main__":
    main()
