"""One HTML file of a `ReportData`: no network, no parts beside it, opened from disk.

Everything shown was written by strangers (posts, summaries, names), so: Jinja's autoescape is on, the samples travel
as JSON in a block that is never run, the script writes text nodes only, and a Content-Security-Policy forbids whatever
is not this file's own style and script by their hashes. Figures are images of data, which run nothing.
Left out: a page for more samples than fit in memory; other languages than English.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.report.data import Figure, Output, ReportData, Sample
from evaluation.report.highlight import Span, source_spans
from evaluation.table import Table, label

if TYPE_CHECKING:
    from jinja2 import Template

_HERE = Path(__file__).parent
INSPECTOR = ("data", "elements", "choice", "list", "detail", "export", "keys")  # keys.js begins, hence the last
_DIGITS = 6  # of scores in the page: more than anyone reads, and half of what JSON would write
_HALF_A_PAGE = 504  # points: seven inches
_VIEW_BOX = re.compile(r"<svg[^>]*\bviewBox=\"\S+ \S+ ([\d.]+) [\d.]+\"")
_VALUE = re.compile(r"[+\-−]?(?:\d[\d.,]*%?|nan|∞)")  # what a cell of numbers begins with
_NO_VALUE = ("", "–", "—", "-", "yes", "no")
# Scores in the order in which they are offered; others follow in the order met.
_MEASURES = {
    "reward": "Reward",
    "second_reward": "Second reward",
    "gold": "Gold score",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rouge_average": "ROUGE average",
}
_FAULTS = {
    "empty": "empty",
    "no_eos": "cut at the limit",
    "repeats": "repeats itself",
    "copied_lead": "copies the post's beginning",
    "copied_title": "copies the title",
}


def render(report: ReportData) -> str:
    """The whole page.

    Lone surrogates, which UTF-8 cannot hold, become U+FFFD, and so does NUL outside the samples.
    """
    from markupsafe import Markup

    style, script = _asset("style.css"), inspector_script()
    html = _template().render(
        report=report,
        policy=content_security_policy(style, script),
        style=Markup(style),  # our own files, not data
        script=Markup(script),
        data=Markup(as_script_data(inspector_data(report))),
        columns=columns,
        image=image,
        is_wide=is_wide,
    )
    return whole_text(html).replace("\x00", "\ufffd")


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("template.html.j2")


def _asset(name: str) -> str:
    """One of this folder's files, as it is put between its tags (line ends \\n, whatever the checkout made of them)."""
    return (_HERE / name).read_text(encoding="utf-8")


def inspector_script() -> str:
    """The inspector's parts in one function: they see each other, leave no names behind, and are one inline script."""
    parts = "\n".join(_asset(f"inspector/{name}.js") for name in INSPECTOR)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def content_security_policy(style: str, script: str) -> str:
    """Nothing but images of data, this style and this script (CSP level 2, hashes of their text)."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def image(figure: Figure) -> str:
    """The figure as the source of an <img>: its styles and fonts stay within, and no script in it would run."""
    return "data:image/svg+xml;base64," + base64.b64encode(whole_text(figure.svg).encode()).decode()


def is_wide(figure: Figure) -> bool:
    """Whether the figure was drawn broader than half the page, and so gets a row of its own (from its viewBox)."""
    box = _VIEW_BOX.search(figure.svg)
    return box is not None and float(box[1]) > _HALF_A_PAGE


def whole_text(text: str) -> str:
    """The text with pairs of surrogates joined and lone ones replaced by U+FFFD, so that UTF-8 can hold it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(frozen=True)
class Cell:
    """A table's cell in parts: `0.32 [0.31, 0.33]` has the interval apart, `-` has none."""

    main: str
    interval: str = ""


@dataclass(frozen=True)
class Column:
    """One column: numbers are set to the right."""

    name: str
    is_number: bool
    cells: list[Cell]


def columns(table: Table) -> list[Column]:
    """The table by columns; one holds numbers when all its cells do, dashes and yes/no aside, and any has one.

    A row shorter than the header is filled with empty cells.
    """
    found = []
    for place, name in enumerate(table.header):
        cells = [row[place] if place < len(row) else "" for row in table.rows]
        found.append(Column(name, _are_numbers(cells), [_cell(text) for text in cells]))
    return found


def _are_numbers(cells: Sequence[str]) -> bool:
    values = [cell for cell in cells if cell not in _NO_VALUE]
    return bool(values) and all(_VALUE.match(cell.lstrip("[(≤≥<>≈~ ")) for cell in values)


def _cell(text: str) -> Cell:
    main, bracket, rest = text.partition(" [")
    return Cell(main, bracket.strip() + rest) if bracket and rest.endswith("]") and _VALUE.match(main) else Cell(text)


def as_script_data(value: Any) -> str:
    """JSON that can stand in a <script> element: no `<` at all, hence neither `</script>` nor `<!--`; no U+2028/9."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def inspector_data(report: ReportData) -> dict[str, Any]:
    """What `inspector/data.js` reads: names, measures, faults, and every sample with its scores and sources.

    Scores are lists in the order of `measures`. `spans` has five numbers a run of words: start and end in
    title + line break + post, start and end in the summary (in characters, not UTF-16 units), words.
    """
    measures = _measures(report.samples)
    return {
        "models": [{"name": whole_text(name), "label": whole_text(label(name))} for name in report.models],
        "measures": [{"name": name, "label": whole_text(_MEASURES.get(name, name))} for name in measures],
        "faults": _FAULTS,
        "samples": [_sample(sample, report.models, measures) for sample in report.samples],
    }


def _measures(samples: Iterable[Sample]) -> list[str]:
    """Names of all scores that any sample has, the known ones first."""
    met = {
        name: None
        for sample in samples
        for scores in (sample.reference_scores, *(output.scores for output in sample.outputs.values()))
        for name, value in scores.items()
        if value is not None
    }
    return [name for name in _MEASURES if name in met] + [name for name in met if name not in _MEASURES]


def _sample(sample: Sample, models: Sequence[str], measures: Sequence[str]) -> dict[str, Any]:
    title, post, reference = (whole_text(text) for text in (sample.title, sample.post, sample.reference))
    source = f"{title}\n{post}"
    outputs = [sample.outputs.get(name) for name in models]
    return {
        "id": whole_text(sample.id),
        "subreddit": whole_text(sample.subreddit),
        "title": title,
        "post": post,
        "reference": {
            "text": reference,
            "scores": _scores(sample.reference_scores, measures),
            "spans": _flat(source_spans(source, reference)),
        },
        "outputs": [None if output is None else _output(output, source, measures) for output in outputs],
    }


def _output(output: Output, source: str, measures: Sequence[str]) -> dict[str, Any]:
    text = whole_text(output.text)
    return {
        "text": text,
        "scores": _scores(output.scores, measures),
        "spans": _flat(source_spans(source, text)),
        "tokens": output.tokens,
        "ended": output.ended,
        "faults": output.faults,
    }


def _scores(scores: dict[str, float | None], measures: Sequence[str]) -> list[float | None]:
    values = [scores.get(name) for name in measures]
    return [round(value, _DIGITS) if value is not None and math.isfinite(value) else None for value in values]


def _flat(spans: Sequence[Span]) -> list[int]:
    return [number for s in spans for number in (s.start, s.end, s.summary_start, s.summary_end, s.words)]
