"""Writing the report: one HTML file that needs no network and no file beside it.

    python -m evaluation report --root runs/demo

The evaluation writes it at its end; this command makes it anew when curves, gate or frontier have changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.report.data import ReportData
from evaluation.report.gather import gather
from evaluation.report.page import render
from tasks.run_folder import DEFAULT_ROOT, RunFolder
from trlx.utils.cli import parse_config
from trlx.utils.files import write_text
from trlx.utils.terminal import inert


@dataclass
class ReportOptions:
    """Options of the report.

    Args:
        root: the run's root folder, below which results, samples and curves are looked for.
        out: the file; null for root/report.html.
    """

    root: str = DEFAULT_ROOT
    out: str | None = None


def write_report(root: str | Path, out: str | Path | None = None) -> Path:
    """Gather, make the page and write it; returns its path.

    Raises: UserError when the root is no folder, or nothing below it can be shown.
    """
    return _write(gather(root), root, out)


def _write(report: ReportData, root: str | Path, out: str | Path | None) -> Path:
    path = Path(out) if out is not None else RunFolder.of(root).report
    write_text(path, render(report))
    return path


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, write, and say what is missing and where the page is."""
    options = parse_config(ReportOptions, "Write the report of a run.", None if argv is None else list(argv))
    report = gather(options.root)
    path = _write(report, options.root, options.out)
    for sentence in report.missing:
        print(f"missing: {inert(sentence)}")
    print(f"{inert(str(path))}  ({len(report.samples):,} posts, {len(report.figures)} figures)")
