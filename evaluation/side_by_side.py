"""Summaries of one post beside each other in the terminal with their scores; one under the other where it is narrow.

Posts and summaries are text of strangers: they are never read as markup, and control characters in them are shown
instead of obeyed. Words that a summary has from the post are underlined, or in [brackets] where nothing can be
underlined. Left out: what is said of a score (docs/reading-the-results.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from evaluation.report.data import Sample
from evaluation.report.highlight import source_spans
from evaluation.table import label
from tasks.text import title_of
from trlx.utils.errors import one_line
from trlx.utils.terminal import inert

NARROWEST = 18  # characters of a column of text; below that columns go one under the other
FROM_POST = "underline green"
NOTHING = "(nothing)"


@dataclass(frozen=True)
class Column:
    """One summary: who wrote it, its text, and what is known of it, name → as shown."""

    title: str
    text: str
    facts: Mapping[str, str]


def columns_of(sample: Sample) -> list[Column]:
    """Every model's summary in the sample's order, then the reference."""
    columns = []
    for name, output in sample.outputs.items():
        facts = scores_shown(output.scores)
        facts["tokens"] = str(output.tokens) + ("" if output.ended else ", cut")
        facts["faults"] = " ".join(output.faults) or "–"
        columns.append(Column(label(name), output.text, facts))
    return [*columns, Column("reference", sample.reference, scores_shown(sample.reference_scores))]


def scores_shown(scores: Mapping[str, float | None]) -> dict[str, str]:
    """Three decimals; a dash for what was not a number."""
    return {name: "–" if value is None else f"{value:.3f}" for name, value in scores.items()}


def shortened(prompt: str, width: int = 60) -> str:
    """What a prompt is about on one line: its title where it has one, else how it begins."""
    text = one_line(title_of(prompt) or prompt)
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def legend(console: Console) -> Text:
    """How words from the post are marked here."""
    text = Text("words from the post", style=FROM_POST) if _has_styles(console) else Text("[words from the post]")
    return text.append(" are marked", style="not underline default")


def print_post(console: Console, heading: str, subreddit: str, title: str, body: str) -> None:
    """The post under a line that names it."""
    console.print(Rule(Text(inert(heading), style="bold"), align="left", characters="─"))
    if subreddit:
        console.print(Text(f"r/{inert(subreddit)}", style="dim"))
    if title:
        console.print(Text(inert(title), style="bold"))
    console.print(Text(inert(body)))


def print_columns(console: Console, source: str, columns: Sequence[Column]) -> None:
    """The summaries, marked where their words are in `source`, and their facts; ends with an empty line."""
    names = list(dict.fromkeys(name for column in columns for name in column.facts))
    marked = [_marked(column.text, source, _has_styles(console)) for column in columns]
    room = console.width - max(map(len, names), default=0) - 2 * len(columns)
    if room // len(columns) >= NARROWEST:
        console.print(_table(columns, names, marked))
    else:
        _print_stacked(console, columns, marked)


def _table(columns: Sequence[Column], names: Sequence[str], marked: Sequence[Text]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", style="dim", no_wrap=True)
    for column in columns:
        table.add_column(Text(inert(column.title)), ratio=1, overflow="fold")
    table.add_row("", *marked, end_section=True)
    for name in names:
        table.add_row(Text(name), *(Text(column.facts.get(name, "")) for column in columns))
    return table


def _print_stacked(console: Console, columns: Sequence[Column], marked: Sequence[Text]) -> None:
    for column, text in zip(columns, marked, strict=True):
        console.print(Text(f"\n{inert(column.title)}", style="bold"))
        console.print(Padding(text, (0, 0, 0, 2)))
        # No line break between a name and its value.
        facts = [f"{name} {value}".replace(" ", "\u00a0") for name, value in column.facts.items()]
        console.print(Padding(Text(" · ".join(facts), style="dim"), (0, 0, 0, 2)))
    console.print()


def _marked(text: str, source: str, styles: bool) -> Text:
    if not text:
        return Text(NOTHING, style="dim italic")
    marked, position = Text(), 0
    for span in source_spans(source, text):
        marked.append(inert(text[position : span.summary_start]))
        words = inert(text[span.summary_start : span.summary_end])
        marked.append(words if styles else f"[{words}]", style=FROM_POST if styles else None)
        position = span.summary_end
    return marked.append(inert(text[position:]))


def _has_styles(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal
