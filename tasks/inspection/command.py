"""`python -m tasks inspect DATA`: what is in posts or pairs, and what a training run would make of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from tasks.arguments import with_data_named
from tasks.inspection.duplicates import contradictions, overlap
from tasks.inspection.findings import findings
from tasks.inspection.measure import Ruler, WordRuler
from tasks.inspection.near import Near, near_duplicates
from tasks.inspection.report import Report
from tasks.inspection.scan import Measures, Reservoir, Scanned, scan_split
from tasks.inspection.scanner import Scanner
from tasks.inspection.tables import show
from tasks.inspection.view import example
from tasks.reading.columns import check_columns
from tasks.reading.content import Content, Files
from tasks.reading.formats import Kind
from tasks.reading.sources import open_source, splits_of
from tasks.registry import get_task
from trlx.utils.cli import parse_config
from trlx.utils.disk import require_writable
from trlx.utils.errors import UserError
from trlx.utils.files import write_text

ABOUT = "Show what is in posts or pairs: counts, bad rows, lengths, duplicates, and samples as the model sees them."
WIDTHS = (80, 120)


@dataclass
class InspectOptions:
    """Options of `inspect`.

    Args:
        data: what to inspect: hub id, local folder (or folder/prefix), or a data file; may also be given first, without
            `--data`.
        splits: their names, separated by commas; null for all that there are.
        kind: what the rows are; auto tells it from their columns.
        task: how rows of data are read; see `tasks/`.
        columns: our name of a column → its name in the data, e.g. `--columns.summary reference`.
        tokenizer: a folder (or hub id) whose tokenizer counts tokens; null counts words.
        max_length: tokens of prompt and response together, as in training.
        max_new_tokens: tokens of a response in PPO.
        near: smallest similarity of posts in two splits that are called nearly the same; null does not look for them.
        examples: how many samples to show.
        seed: decides which.
        limit: the first so many rows of each split; null for all.
        json: file for all the numbers.
    """

    data: str | None = None
    splits: str | None = None
    kind: Literal["auto", "posts", "pairs"] = "auto"
    task: str = "tldr"
    columns: dict[str, str] = field(default_factory=dict)
    tokenizer: str | None = None
    max_length: int = 550
    max_new_tokens: int = 50
    near: float | None = 0.8
    examples: int = 5
    seed: int = 1
    limit: int | None = None
    json: str | None = None


def inspect(options: InspectOptions) -> Report:
    """Go through the data.

    Raises: UserError for options that make no sense, and data that cannot be read at all.
    """
    source = _checked(options)
    column = options.columns.get("split", "split")
    tokenizer, ruler = _tokenizer(options)
    scanner = Scanner(get_task(options.task), source, options.columns, options.limit)
    names = _splits(options.splits, source, column)
    if options.json:
        _check_json(Path(options.json), [open_source(source, split, column).content for split in names.values()])
    reservoir = Reservoir(options.examples, options.seed)
    measures = Measures(
        ruler, tokenizer is not None, options.max_length, options.max_new_tokens, options.near is not None, reservoir
    )
    scanned: dict[str, Scanned] = {}
    kind: Kind | None = None if options.kind == "auto" else options.kind
    for name, split in names.items():
        scanned[name] = scan_split(scanner, measures, split, name, kind)
        kind = scanned[name].kind  # a source holds one kind
    shown = [
        example(scanner.task.form, tokenizer, split, record, options.max_length) for split, record in reservoir.items
    ]
    near = _near(options, scanner, names, scanned)
    report = _report(source, ruler.unit, scanned)
    report = replace(report, near_threshold=options.near, near=tuple(near), examples=tuple(shown))
    return replace(report, findings=findings(report))


def _report(source: str, unit: str, scanned: dict[str, Scanned]) -> Report:
    kind = next(iter(scanned.values())).kind
    keys = {name: split.keys for name, split in scanned.items()}
    return Report(
        source=source,
        kind=kind,
        unit=unit,
        splits=tuple(split.report for split in scanned.values()),
        overlaps=tuple(overlap(keys, what) for what in ("post", "summary" if kind == "posts" else "pair")),
        contradictions=contradictions(keys) if kind == "pairs" else {},
    )


def _near(
    options: InspectOptions, scanner: Scanner, names: dict[str, str | None], scanned: dict[str, Scanned]
) -> list[Near]:
    if options.near is None:
        return []
    signatures = {name: split.signatures for name, split in scanned.items()}
    places = {name: split.keys.places for name, split in scanned.items()}
    return near_duplicates(
        signatures, places, lambda name, rows: scanner.bodies(names[name], scanned[name].kind, rows), options.near
    )


def _checked(options: InspectOptions) -> str:
    """The data to inspect. Raises: UserError for options that make no sense."""
    if not options.data:
        raise UserError("what to inspect is missing: give a file, folder or hub id, as in `inspect data/tldr`")
    check_columns(options.columns)
    if options.near is not None and not 0.3 <= options.near <= 1:
        raise UserError(f"--near is a similarity between 0.3 and 1, not {options.near}: 0.8 is usual, null is off")
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit must be at least 1, not {options.limit}: leave it out for all rows")
    if options.examples < 0:
        raise UserError(f"--examples must not be negative: 0 shows none, not {options.examples}")
    if not 0 < options.max_new_tokens < options.max_length:
        raise UserError(
            f"--max_new_tokens {options.max_new_tokens} must be at least 1 and under --max_length {options.max_length}"
        )
    return options.data


def _tokenizer(options: InspectOptions) -> tuple[Any | None, Ruler]:
    """The tokenizer, if one is given, and what measures lengths."""
    if options.tokenizer is None:
        return None, WordRuler()
    # These bring torch along.
    from tasks.inspection.tokens import TokenRuler
    from trlx.utils.pretrained import load_tokenizer

    tokenizer = load_tokenizer(options.tokenizer)
    return tokenizer, TokenRuler(get_task(options.task).form, tokenizer, options.max_length)


def _splits(wanted: str | None, source: str, column: str) -> dict[str, str | None]:
    """Names for the report → splits of the source."""
    if wanted is not None:
        names = [name.strip() for name in wanted.split(",") if name.strip()]
        if not names:
            raise UserError("--splits names none: leave it out for all, or give them as in train,valid")
        return {name: name for name in names}
    found = splits_of(source, column)
    return {name: name for name in found} if found else {"all rows": None}


def _check_json(path: Path, contents: Sequence[Content]) -> None:
    """Whether the file can be written and is none of the data. Raises: UserError."""
    if path.is_dir():
        raise UserError(f"--json {path} is a folder: name a file")
    read = {item.resolve() for content in contents if isinstance(content, Files) for item in content.paths}
    if path.resolve() in read:
        raise UserError(f"--json {path} is one of the files to inspect: name another file")
    require_writable(path.parent, "--json")


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    options = parse_config(InspectOptions, ABOUT, with_data_named(sys.argv[1:] if argv is None else argv))
    report = inspect(options)
    if options.json:
        write_text(options.json, report.as_json())
    _print(report)


def _print(report: Report) -> None:
    """Tables with colours on a terminal; plain lines without trailing spaces elsewhere."""
    plain = Console(highlight=False, markup=False, emoji=False)
    width = min(max(plain.width, WIDTHS[0]), WIDTHS[1]) if plain.is_terminal else WIDTHS[0] + 20
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        show(report, console)
    lines = captured.get().splitlines()
    text = "\n".join(lines if console.is_terminal else [line.rstrip() for line in lines])
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))
