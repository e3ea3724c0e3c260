"""The tables of an evaluation, for the console (rich) and as Markdown; the JSON is `Results.to_json`.

ROUGE and reward tables have the columns of the summarization-RLHF example this project reproduces, with 95% intervals
in the cells; further columns (gold score, KL) follow on the right where they are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from evaluation.results import ModelSummary, Results
from evaluation.statistics import Interval

_NAMES = {
    "reward": "Reward",
    "gold": "Gold score",
    "rouge1": "Rouge-1",
    "rouge2": "Rouge-2",
    "rougeL": "Rouge-L",
    "rouge_average": "Rouge average",
    "response_tokens": "Response tokens",
}


@dataclass(frozen=True)
class Table:
    """A table ready to be shown: `above` is a sentence before it, `caption` says how the numbers came about."""

    title: str
    header: list[str]
    rows: list[list[str]]
    caption: str
    above: str = ""

    def to_markdown(self) -> str:
        """GitHub's table syntax; bars inside cells are escaped."""
        lines = [f"### {self.title}", ""]
        if self.above:
            lines += [self.above, ""]
        lines += [_bars(self.header), _bars(["---"] * len(self.header))]
        lines += [_bars([cell.replace("|", "\\|") for cell in row]) for row in self.rows]
        return "\n".join([*lines, "", self.caption, ""])

    def print(self, console: Console) -> None:
        """To the terminal; an interval goes on a line of its own, so that five columns fit in 80 characters."""
        if self.above:
            console.print(Text(self.above))
        rich = RichTable(title=Text(self.title), caption=Text(self.caption), caption_justify="left")
        for number, name in enumerate(self.header):
            rich.add_column(Text(name), justify="left" if number == 0 else "right")
        for row in self.rows:
            rich.add_row(*(Text(cell.replace(" [", "\n[")) for cell in row))
        console.print(rich)


def _bars(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def label(name: str) -> str:
    """SFT and PPO in capitals, any other model's name as it was given."""
    return name.upper() if name in ("sft", "ppo") else name


def number(value: Interval | None, digits: int = 3, signed: bool = False) -> str:
    """`0.320 [0.311, 0.329]`; without brackets where there is no interval, a dash where there is no value."""
    if value is None:
        return "–"
    sign = "+" if signed else ""
    text = f"{value.mean:{sign}.{digits}f}"
    if value.low is None or value.high is None:
        return text
    return f"{text} [{value.low:{sign}.{digits}f}, {value.high:{sign}.{digits}f}]"


def all_tables(results: Results) -> list[Table]:
    """ROUGE, reward, the differences from the baseline (when there are two models), and lengths."""
    tables = [rouge_table(results), reward_table(results)]
    tables += [difference_table(results, name) for name in results.differences]
    return [*tables, length_table(results)]


def rouge_table(results: Results) -> Table:
    """| Model | Rouge-1 | Rouge-2 | Rouge-L | Average |"""

    def row(model: ModelSummary) -> list[str]:
        values = (model.rouge1, model.rouge2, model.rougeL, model.rouge_average)
        return [label(model.name), *(number(value) for value in values)]

    return Table(
        title="ROUGE scores",
        header=["Model", "Rouge-1", "Rouge-2", "Rouge-L", "Average"],
        rows=[row(model) for model in results.models],
        caption=f"F1; mean over {_conditions(results)}; stemmer off, aggregator off. {_INTERVALS}",
    )


def reward_table(results: Results) -> Table:
    """| Model | Average Reward | Reward Δ | (Gold |) (KL to SFT |)"""
    has_gold = any(model.gold for model in results.models)
    has_kl = any(model.kl for model in results.models)
    header = ["Model", "Average Reward", "Reward Δ"]
    header += ["Gold"] * has_gold + [f"KL to {label(results.baseline)}"] * has_kl

    def row(model: ModelSummary) -> list[str]:
        cells = [label(model.name), number(model.reward), number(model.reward_delta, signed=True)]
        cells += [number(model.gold)] * has_gold
        return cells + [_kl(model, results.baseline)] * has_kl

    truth = f"Ground truth mean reward: {number(results.ground_truth_reward)}"
    if results.ground_truth_gold:
        truth += f"; gold: {number(results.ground_truth_gold)}"
    caption = f"Mean over {_conditions(results)}. Δ: against the ground truth. {_INTERVALS}"
    return Table(
        title="Reward scores",
        header=header,
        rows=[row(model) for model in results.models],
        caption=caption + (_kl_caption(results) if has_kl else ""),
        above=truth + ".",
    )


def _kl(model: ModelSummary, baseline: str) -> str:
    if model.name == baseline:
        return "0"
    return number(model.kl.k1, digits=2) if model.kl else "–"


def _kl_caption(results: Results) -> str:
    posts = next(model.kl.k1.n for model in results.models if model.kl)
    k3 = ", ".join(f"{label(model.name)} {number(model.kl.k3, digits=2)}" for model in results.models if model.kl)
    return (
        f" KL: nats a response, Σ k1 over response tokens of one sample a post at temperature 1, {posts} posts"
        f" (Σ k3: {k3})."
    )


def difference_table(results: Results, name: str) -> Table:
    """| Measure | Difference | 95% interval | Above zero |, model − baseline."""

    def row(measure: str, value: Interval) -> list[str]:
        digits = 1 if measure == "response_tokens" else 3
        mean, _, interval = number(value, digits, signed=True).partition(" ")
        return [_NAMES[measure], mean, interval or "–", "yes" if value.above_zero else "no"]

    return Table(
        title=f"{label(name)} − {label(results.baseline)}",
        header=["Measure", "Difference", "95% interval", "Above zero"],
        rows=[row(measure, value) for measure, value in results.differences[name].items()],
        caption=f"Paired by post; mean over {_conditions(results)}. {_INTERVALS}",
    )


def length_table(results: Results) -> Table:
    """| Model | Response tokens | Without EOS |"""
    return Table(
        title="Lengths",
        header=["Model", "Response tokens", "Without EOS"],
        rows=[
            [label(model.name), number(model.response_tokens, digits=1), f"{model.share_without_eos:.1%}"]
            for model in results.models
        ],
        caption=f"Tokens with EOS, mean over {_conditions(results)}; without EOS: cut at the limit.",
    )


def _conditions(results: Results) -> str:
    return f"{results.posts} posts of split '{results.run['split']}', {results.run['decoding_text']}"


_INTERVALS = "Brackets: 95% bootstrap interval over posts (percentile)."


def to_markdown(results: Results, extra: Sequence[str] = ()) -> str:
    """One page with every table; `extra` lines come first, as a list."""
    bullets = "".join(f"- {line}\n" for line in extra)
    head = f"# Evaluation on {results.run['data']}, split {results.run['split']}\n\n{bullets}"
    return "\n".join([head, *(table.to_markdown() for table in all_tables(results))])


def print_tables(results: Results, console: Console) -> None:
    """Every table to the terminal."""
    for table in all_tables(results):
        table.print(console)
        console.print()
