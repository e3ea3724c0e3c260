"""`python -m evaluation seeds RUN RUN ...`: headline numbers of several runs, one by one.

    python -m evaluation seeds runs/a runs/b runs/c
    python -m evaluation seeds runs/a runs/b --model rft

An interval in these tables is over the posts of one run; it says nothing of other seeds. Three or four runs are
therefore only listed: their spread is for the eye, and no interval of three is made up. From five runs on, the median
and the range of their means are given, named so. Left out: tests of one recipe against another over seeds.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from evaluation.run_results import RunResults, interval, read_results, shared_posts, unlike
from evaluation.statistics import Interval
from evaluation.table import Table, label, number, p_value
from tasks.run_folder import RunFolder
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError, nearest
from trlx.utils.terminal import inert, open_console

ABOUT = "List the headline numbers of several runs one by one. The runs' root folders are given first."
ENOUGH = 5  # runs, for a median and a range
NOT_KNOWN = "–"
Get = Callable[[RunResults], Interval | None]


@dataclass
class SeedsOptions:
    """Options of `seeds`.

    Args:
        roots: the runs' root folders; as a rule given first, without `--roots`.
        model: which model is compared with each run's baseline.
    """

    roots: list[str] = field(default_factory=list)
    model: str = "ppo"


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    options = parse_config(SeedsOptions, ABOUT, with_roots_named(sys.argv[1:] if argv is None else argv))
    runs = readable(options.roots)
    require_model_judged(runs, options.model)
    reasons = strangers(runs)
    console = open_console()
    for line in reasons + other_posts(runs):
        console.print(Text(inert(line), style="yellow"))
    for table in tables(runs, options.model, comparable=not reasons):
        console.print()
        table.print(console)


def with_roots_named(argv: Sequence[str]) -> list[str]:
    """`a b --model rft` → `--roots ["a", "b"] --model rft`."""
    count = next((index for index, one in enumerate(argv) if one.startswith("-")), len(argv))
    return ["--roots", json.dumps(argv[:count]), *argv[count:]] if count else list(argv)


def readable(roots: Sequence[str]) -> list[RunResults]:
    """The runs that can be read; of the others it is said on standard error why not.

    Raises: UserError for no root, the same one twice, and where none can be read.
    """
    if not roots:
        raise UserError("no run to list: give root folders, as in `python -m evaluation seeds runs/a runs/b`")
    runs: list[RunResults] = []
    for root in roots:
        if any(RunFolder.of(root) == run.folder for run in runs):
            raise UserError(f"{root} is given twice: a run is listed once")
        try:
            runs.append(read_results(root))
        except UserError as error:
            if len(roots) == 1:
                raise
            print(f"left out: {inert(str(error))}", file=sys.stderr)
    if not runs:
        raise UserError(f"none of {len(roots)} runs can be read: see the lines above")
    return runs


def require_model_judged(runs: Sequence[RunResults], model: str) -> None:
    """Raises: UserError where no run has judged the model."""
    known = {name for run in runs for name in run.results["models"]}
    if model not in known:
        raise UserError(f"--model: no run has judged '{model}'{nearest(model, known)}")


def strangers(runs: Sequence[RunResults]) -> list[str]:
    """A sentence for each run whose numbers cannot be compared with the first one's."""
    first, *others = runs
    lines = [(run.root, unlike(first, run)) for run in others]
    return [
        f"{root} cannot be compared with {first.root}: {'; '.join(reasons)}. It is listed, not compared."
        for root, reasons in lines
        if reasons
    ]


def other_posts(runs: Sequence[RunResults]) -> list[str]:
    """A sentence for each run judged on other posts than the first one, as where a seed also draws the data."""
    first, *others = runs
    counts = [(run.root, shared_posts(first, run)) for run in others]
    return [
        f"{root} was judged on other posts than {first.root} ({count[0]} of {count[1]} are the same): what lies "
        "between the two is a matter of posts too."
        for root, count in counts
        if count is not None and count[0] < count[1]
    ]


def tables(runs: Sequence[RunResults], model: str, comparable: bool) -> list[Table]:
    """All tables; those of measures that no run has are left out.

    Args:
        comparable: False takes the median and range away.
    """
    summed = len(runs) >= ENOUGH and comparable
    found = [reward_model_table(runs)]
    for measure, title in (("reward", "Reward"), ("second_reward", "Second reward"), ("gold", "Gold score")):
        if any((run.model(model) or {}).get(measure) for run in runs):
            found.append(measure_table(runs, model, measure, title, summed))
    found += [win_table(runs, model, against, summed) for against in ("reference", runs[0].results["baseline"])]
    return [*(table for table in found if table.rows), distance_table(runs, model, summed)]


def reward_model_table(runs: Sequence[RunResults]) -> Table:
    """| Run | Accuracy | Gate |"""

    def row(run: RunResults) -> list[str]:
        facts = run.results.get("reward_model", {})
        test = facts.get("held_out", {}).get("test", {})
        low, high = test.get("accuracy_interval_95") or (None, None)
        accuracy = Interval(test["accuracy"], low, high, test.get("pairs", 0)) if "accuracy" in test else None
        return [inert(run.root), number(accuracy), _gate(facts.get("gate"))]

    return Table(
        title="Reward models",
        header=["Run", "Accuracy", "Gate"],
        rows=[row(run) for run in runs],
        caption="Accuracy on each reward model's own held-out pairs. Brackets: Wilson's 95% interval.",
    )


def _gate(gate: dict[str, object] | None) -> str:
    if not gate:
        return "not run"
    return "of another model" if gate["stale"] else "PASS" if gate["passed"] else "FAIL"


def measure_table(runs: Sequence[RunResults], model: str, measure: str, title: str, summed: bool) -> Table:
    """| Run | SFT | PPO | PPO − SFT | p |"""
    baseline = runs[0].results["baseline"]

    def mean(name: str) -> Get:
        return lambda run: interval((run.model(name) or {}).get(measure))

    def moved(run: RunResults) -> Interval | None:
        return run.difference(model, measure)[0]

    def row(run: RunResults) -> list[str]:
        difference, p = run.difference(model, measure)
        cells = [number(mean(baseline)(run)), number(mean(model)(run)), number(difference, signed=True)]
        return [inert(run.root), *cells, NOT_KNOWN if p is None else p_value(p)]

    rows = [row(run) for run in runs]
    if summed:
        rows += _summary(runs, [mean(baseline), mean(model), moved], blank=1)
    own = " Each run has its own reward model: compare the differences, not the levels." if "reward" in measure else ""
    return Table(
        title=title,
        header=["Run", label(baseline), label(model), f"{label(model)} − {label(baseline)}", "p"],
        rows=rows,
        caption=f"{decoding(runs)} {_INTERVALS} The difference is paired by post, p by permutation.{own}",
    )


def win_table(runs: Sequence[RunResults], model: str, against: str, summed: bool) -> Table:
    """| Run | Judge's win rate | ... |, a column for each judge that a run has; no rows where there is none."""
    judges = list(
        dict.fromkeys(
            one["judge"]
            for run in runs
            for one in run.results["preferences"]
            if (one["model"], one["against"]) == (model, against)
        )
    )

    def rate(judge: str, key: str) -> Get:
        return lambda run: interval((run.win_rate(model, judge, against) or {}).get(key))

    columns: dict[str, Get] = {judge.capitalize(): rate(judge, "rate") for judge in judges}
    if judges:  # the reward model of the run comes first
        columns[f"{judges[0].capitalize()}, equal length"] = rate(judges[0], "length_controlled")
    rows = [[inert(run.root), *(number(column(run)) for column in columns.values())] for run in runs]
    if summed:
        rows += _summary(runs, list(columns.values()))
    other = f"the {against}" if against == "reference" else label(against)
    return Table(
        title=f"Win rates of {label(model)} against {other}",
        header=["Run", *columns],
        rows=rows if judges else [],
        caption=f"{decoding(runs)} By judge; a tie counts half. {_INTERVALS}",
    )


def distance_table(runs: Sequence[RunResults], model: str, summed: bool) -> Table:
    """| Run | KL | Rouge-L SFT | Rouge-L PPO | Tokens SFT | Tokens PPO |"""
    baseline = runs[0].results["baseline"]

    def of(name: str, measure: str) -> Get:
        return lambda run: interval((run.model(name) or {}).get(measure))

    def kl(run: RunResults) -> Interval | None:
        found = (run.model(model) or {}).get("kl")
        return interval(found["k1"]) if found else None

    both = (baseline, model)
    columns: dict[str, tuple[Get, int]] = {f"KL to {label(baseline)}": (kl, 2)}
    columns |= {f"Rouge-L {label(name)}": (of(name, "rougeL"), 3) for name in both}
    columns |= {f"Tokens {label(name)}": (of(name, "response_tokens"), 1) for name in both}
    rows = [[inert(run.root), *(number(get(run), digits) for get, digits in columns.values())] for run in runs]
    if summed:
        rows += _summary(runs, [get for get, _ in columns.values()])
    return Table(
        title=f"How far {label(model)} went, ROUGE, and lengths",
        header=["Run", *columns],
        rows=rows,
        caption=f"{decoding(runs)} KL: nats a response{_kl_sampling(runs)}. {_INTERVALS}",
    )


def decoding(runs: Sequence[RunResults]) -> str:
    """A sentence: how the summaries were made; of each run where runs differ."""
    texts = list(dict.fromkeys(str(run.results["run"].get("decoding_text", "decoding not known")) for run in runs))
    return f"Summaries: {' or '.join(map(inert, texts))}."


def _kl_sampling(runs: Sequence[RunResults]) -> str:
    """` of samples at temperature 1`, which is not how the summaries are made; empty where not known."""
    facts = [run.results["run"].get("kl_sampling") for run in runs]
    known = [one.get("temperature") for one in facts if isinstance(one, dict)]
    texts = [f"{one:g}" for one in dict.fromkeys(known) if isinstance(one, int | float)]
    return f", of samples at temperature {' or '.join(texts)}" if texts else ""


def _summary(runs: Sequence[RunResults], columns: Sequence[Get], blank: int = 0) -> list[list[str]]:
    """Two rows, the median and the range of the runs' means; a column that some run lacks has a dash."""
    medians, ranges = [f"median of {len(runs)} runs"], [f"range of {len(runs)} runs"]
    for column in columns:
        known = [value.mean for value in map(column, runs) if value is not None]
        whole = len(known) == len(runs)
        medians.append(f"{statistics.median(known):.3f}" if whole else NOT_KNOWN)
        ranges.append(f"{min(known):.3f} to {max(known):.3f}" if whole else NOT_KNOWN)
    return [[*medians, *[""] * blank], [*ranges, *[""] * blank]]


_INTERVALS = "Brackets: 95% interval over the posts of that run; it says nothing of other seeds."
