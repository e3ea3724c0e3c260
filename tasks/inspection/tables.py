"""The report on a console: tables that read well on a terminal and in a file alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tasks.inspection.duplicates import Overlap
from tasks.inspection.lengths import Spread, bar, labels
from tasks.inspection.near import Near
from tasks.inspection.report import Report, SplitReport
from tasks.inspection.view import Example, visible

_NUMBER = re.compile(r"-?[\d,.]*")
BAR = 12
BESIDE = 3  # histograms in a row, or 2 where the console is narrow
TOP = 12  # files, or values of a facet, that are listed
NAMES = {
    "sum": "prompt + response",
    "difference": "chosen - rejected",
    "identical": "both sides the same",
    "short": "a side that is too short",
}


def show(report: Report, console: Console) -> None:
    """Print everything."""
    console.print(Text(f"{report.source}: {report.kind}\n", style="bold"))
    for split in report.splits:
        _section(console, split.name, _split(split, report, console))
    _section(console, "the same again", _duplicates(report))
    if report.examples:
        _section(console, "as the model sees them", _examples(report))
    _section(console, "what to look at", _findings(report))


def _section(console: Console, title: str, parts: Iterable[RenderableType]) -> None:
    console.print(Rule(Text(title), align="left"))
    for part in parts:
        console.print(Padding(part, (0, 0, 1, 0)))


# ---------------------------------------------------------------- one split


def _split(split: SplitReport, report: Report, console: Console) -> Iterable[RenderableType]:
    yield _counts(split)
    if split.bad:
        rows = [(f"{bad.count:,}", bad.reason, bad.first, bad.remedy) for bad in split.bad]
        yield _table("rows that cannot be used", ("rows", "reason", "first", "remedy"), rows)
    yield _columns(split)
    for name, counts in split.facets.items():
        yield _facet(name, counts)
    if split.lengths:
        yield _lengths(split, report.unit)
        yield _histograms(split.lengths, console)
        yield Text("\n".join(_limits(split, report)))


def _counts(split: SplitReport) -> Text:
    bad = sum(reason.count for reason in split.bad)
    dropped = ", ".join(f"{count:,} with {NAMES[reason]}" for reason, count in split.dropped.items())
    lines = [f"{split.rows:,} rows: {split.usable:,} usable, {bad:,} bad{dropped and '; dropped: '}{dropped}"]
    lines.append(f"format: {split.format}")
    files = [f"{path} ({rows:,})" for path, rows in split.files.items()]
    more = f" and {len(files) - TOP} more" if len(files) > TOP else ""
    lines.append("read from: " + ", ".join(files[:TOP]) + more)
    if split.workers is not None:
        lines.append(f"labelled by {split.workers:,} people")
    return Text("\n".join(lines))


def _columns(split: SplitReport) -> RenderableType:
    """One line when every row has every column, a table of the others when not."""
    used = ", ".join(name for name, column in split.columns.items() if column.used)
    others = ", ".join(name for name, column in split.columns.items() if not column.used)
    names = f"columns used: {visible(used)}; others: {visible(others) or 'none'}"
    gaps = {name: column for name, column in split.columns.items() if column.present < split.read or column.empty}
    if not gaps:
        return Text(f"{names}\nno column is empty in any row")
    rows = [(name, f"{split.read - column.present:,}", f"{column.empty:,}") for name, column in gaps.items()]
    columns = ("column", "rows without it", "rows in which it is empty")
    return Group(Text(names), _table("columns with gaps", columns, rows))


def _facet(name: str, counts: dict[str, int]) -> RenderableType:
    shown = dict(sorted(counts.items(), key=lambda item: -item[1])[:TOP])
    kept = [(value, f"{rows:,}") for value, rows in counts.items() if value in shown]
    rest = sum(counts.values()) - sum(shown.values())
    return _table(f"usable pairs by {name}", (name, "rows"), [*kept, *([("others", f"{rest:,}")] if rest else [])])


def _lengths(split: SplitReport, unit: str) -> RenderableType:
    columns = (unit, "min", "median", "mean", "p95", "p99", "max")
    rows = [(NAMES.get(name, name), *_numbers(spread)) for name, spread in split.lengths.items()]
    return _table(f"lengths in {unit}", columns, rows)


def _numbers(spread: Spread) -> tuple[str, ...]:
    whole = [f"{value:,}" for value in (spread.min, spread.p95, spread.p99, spread.max)]
    return (whole[0], f"{spread.median:,.1f}", f"{spread.mean:,.1f}", *whole[1:])


def _histograms(lengths: dict[str, Spread], console: Console) -> Table:
    """Histograms side by side."""
    block = "█" if console.encoding.startswith("utf") else "#"
    beside = BESIDE if console.width >= 100 else BESIDE - 1
    drawn = [_histogram(NAMES.get(name, name), spread, block) for name, spread in lengths.items()]
    grid = Table.grid(padding=(0, 3, 0, 0))
    for start in range(0, len(drawn), beside):
        grid.add_row(*drawn[start : start + beside])
        if start + beside < len(drawn):
            grid.add_row("")
    return grid


def _histogram(title: str, spread: Spread, block: str) -> Group:
    most = max(item.count for item in spread.bins)
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    for item, label in zip(spread.bins, labels(spread.bins), strict=True):
        grid.add_row(label, f"{item.count:,}", bar(item.count, most, BAR, block))
    return Group(Text(title, style="italic"), grid)


def _limits(split: SplitReport, report: Report) -> Iterable[str]:
    if split.chosen_longer is not None:
        yield f"the chosen side is the longer one in {split.chosen_longer:.1%} of the pairs (equal ones count half)"
    if split.fit is None:
        yield "lengths are in words: give --tokenizer FOLDER for tokens, and for what the limits cut away"
        return
    fit, rollouts = split.fit, split.rollouts
    lost = f", {fit.mean_lost:.1f} tokens each on average" if fit.cut else ""
    yield f"at --max_length {fit.max_length}: {_share(fit.cut, fit.rows)} of the prompts lose text{lost}"
    first = f", first {fit.first_too_long}" if fit.too_long else ""
    yield f"rows that cannot fit at all: {fit.too_long:,}{first}"
    if rollouts:
        yield (
            f"in PPO a prompt gets {rollouts.room} tokens: {_share(rollouts.prompts_cut, fit.rows)} are cut; "
            f"{_share(rollouts.references_longer, fit.rows)} of the references are longer than "
            f"--max_new_tokens {rollouts.max_new_tokens}"
        )


# ---------------------------------------------------------------- all splits


def _duplicates(report: Report) -> Iterable[RenderableType]:
    for overlap in report.overlaps:
        yield _overlap(overlap)
    for split, count in report.contradictions.items():
        if count:
            yield Text(f"{split}: {count:,} pairs are there both ways round, each side preferred once")
    if report.near:
        yield from _near(report.near, report.near_threshold)


def _overlap(overlap: Overlap) -> RenderableType:
    names = list(overlap.rows)
    if len(names) == 1:
        rows, repeated = overlap.rows[names[0]], overlap.repeated[names[0]]
        return Text(f"{overlap.what}: {rows - repeated:,} distinct in {rows:,} rows")
    shared = {(item.first, item.second): item.count for item in overlap.shared}
    shared |= {(b, a): count for (a, b), count in shared.items()}
    lines = []
    for name in names:
        distinct = overlap.rows[name] - overlap.repeated[name]
        others = ("-" if name == other else f"{shared[name, other]:,}" for other in names)
        lines.append((name, f"{overlap.rows[name]:,}", f"{distinct:,}", *others))
    columns = (overlap.what, "rows", "distinct", *(f"also in {name}" for name in names))
    places = [f"{b} = {a}" for item in overlap.shared for a, b in item.places]
    return _table(f"{overlap.what}: the same but for case and white space", columns, lines, places)


def _near(found: Sequence[Near], threshold: float | None) -> Iterable[Text]:
    about = f"five-word runs in common at least {threshold}"
    if not any(near.count for near in found):
        yield Text(f"no post of one split is nearly the same as one of another ({about})")
    for near in found:
        if near.count:
            posts = "post" if near.count == 1 else "posts"
            lines = [f"{near.count:,} {posts} of {near.second} nearly the same as one of {near.first} ({about})"]
            for pair in near.closest:
                lines.append(f"  {pair.similarity:.3f}  {pair.places[1]} ~ {pair.places[0]}")
                lines += [f"         {visible(text)}" for text in reversed(pair.texts)]
            yield Text("\n".join(lines))


def _examples(report: Report) -> Iterable[RenderableType]:
    yield Text("⏎ marks a line break; ▶ is where a response begins, right after the last token of the prompt")
    for number, item in enumerate(report.examples, start=1):
        yield _example(item, number, len(report.examples))


def _example(item: Example, number: int, count: int) -> Text:
    names = ("",) if len(item.responses) == 1 else ("chosen ", "rejected ")
    head = f"example {number} of {count}: {item.split}, {item.where}"
    if item.tokens:
        head += f"; tokens: {item.tokens[0]} prompt, " + " and ".join(
            f"{tokens} {name or 'response '}".strip() for name, tokens in zip(names, item.tokens[1:], strict=True)
        )
    if item.cut:
        head += f"; {item.cut} cut from the prompt"
    text = Text(head + "\n", style="bold")
    text.append(visible(item.prompt), style="not bold")
    for name, response in zip(names, item.responses, strict=True):
        text.append(f"{chr(10) if name else ''}{name}▶{visible(response)}", style="not bold cyan")
    if item.note:
        text.append(f"\n({item.note})", style="not bold")
    return text


def _findings(report: Report) -> Iterable[RenderableType]:
    """Those with the same remedy together, so that three splits with one trouble do not read like three."""
    if not report.findings:
        yield Text("nothing to worry about")
    by_remedy: dict[str, list[str]] = {}
    for finding in report.findings:
        by_remedy.setdefault(finding.remedy, []).append(finding.what)
    for remedy, troubles in by_remedy.items():
        grid = Table.grid(padding=(0, 1, 0, 0))
        for trouble in troubles:
            grid.add_row("-", Text(trouble, style="bold"))
        grid.add_row("", Text(f"→ {remedy}"))
        yield grid


def _table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], below: Sequence[str] = ()
) -> RenderableType:
    """A table under its title; columns of numbers to the right, `below` as lines under it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    rows = [[visible(cell) for cell in row] for row in rows]
    for number, name in enumerate(columns):
        numeric = all(_NUMBER.fullmatch(row[number]) for row in rows)
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return Group(Text(title, style="italic"), table, *(Text(f"  {line}") for line in below))


def _share(count: int, rows: int) -> str:
    return f"{count:,} ({count / max(rows, 1):.1%})"
