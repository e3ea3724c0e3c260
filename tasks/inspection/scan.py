"""One split gone through: counted, measured, hashed. No row is kept but the examples."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tasks.inspection.duplicates import SplitKeys, body_of
from tasks.inspection.measure import Measured, Ruler
from tasks.inspection.near import SplitSignatures
from tasks.inspection.report import BadReason, SplitReport
from tasks.inspection.scanner import Scanner, Survey, progress
from tasks.inspection.tally import FacetTally, FitTally, LengthTally
from tasks.inspection.view import Record
from tasks.reading.formats import Kind
from tasks.reading.rows import Skipped
from tasks.records import PairCounts


class Reservoir:
    """A fair sample of rows of which nobody knows how many will come (Vitter's algorithm R)."""

    def __init__(self, size: int, seed: int):
        self.size, self.seen = size, 0
        self.items: list[tuple[str, Record]] = []
        self._random = random.Random(seed)

    def add(self, split: str, record: Record) -> None:
        self.seen += 1
        if len(self.items) < self.size:
            self.items.append((split, record))
        elif (place := self._random.randrange(self.seen)) < self.size:
            self.items[place] = (split, record)


@dataclass(frozen=True)
class Measures:
    """What is measured of every split.

    Args:
        ruler: counts tokens or words. fit: whether it knows what the limits `max_length`, `max_new_tokens` cut.
        near: whether near duplicates are looked for. reservoir: collects the examples.
    """

    ruler: Ruler
    fit: bool
    max_length: int
    max_new_tokens: int
    near: bool
    reservoir: Reservoir


@dataclass
class SplitTally:
    """All tallies of the usable rows of one split."""

    measures: Measures
    name: str
    lengths: LengthTally
    fit: FitTally
    facets: FacetTally = field(default_factory=FacetTally)
    keys: SplitKeys = field(default_factory=SplitKeys)
    signatures: SplitSignatures = field(default_factory=SplitSignatures)

    def add(self, block: Measured) -> None:
        """Count a block of rows."""
        self.lengths.add(block)
        self.fit.add(block)
        for record in block.records:
            post = self.keys.add(record)
            if self.measures.near:
                self.signatures.add(self.usable - 1, post, body_of(record))
            self.facets.add(record)
            self.measures.reservoir.add(self.name, record)

    @property
    def usable(self) -> int:
        return len(self.keys.places)


@dataclass(frozen=True)
class Scanned:
    """What is kept of one split: its numbers, and hashes to compare it with the others."""

    report: SplitReport
    kind: Kind
    keys: SplitKeys
    signatures: SplitSignatures


def scan_split(scanner: Scanner, measures: Measures, split: str | None, name: str, kind: Kind | None) -> Scanned:
    """Go through one split.

    Args:
        split: as the source calls it; None when there is only one. name: of it in the report.
        kind: posts or pairs; None takes what the rows can be read as.

    Raises: UserError when it cannot be read, or no row is of a known format.
    """
    survey = scanner.survey(split, name, kind)
    skipped, counts = Skipped(), PairCounts()
    limits = FitTally(measures.max_length, measures.max_new_tokens)
    tally = SplitTally(measures, name, LengthTally(survey.kind), limits)
    records = progress(scanner.records(split, survey.kind, skipped, counts), f"{name}: usable rows measured")
    for block in measures.ruler.measured(records):
        tally.add(block)
    return Scanned(_report(tally, survey, skipped, counts), survey.kind, tally.keys, tally.signatures)


def _report(tally: SplitTally, survey: Survey, skipped: Skipped, counts: PairCounts) -> SplitReport:
    posts, raw = survey.kind == "posts", survey.counts
    fit = tally.fit if tally.usable and tally.measures.fit else None
    return SplitReport(
        name=tally.name,
        rows=tally.usable + skipped.counts.total() + counts.identical + counts.short,
        usable=tally.usable,
        format=survey.format,
        files=dict(raw.files),
        columns=raw.columns(survey.used),
        bad=_bad(skipped),
        dropped={} if posts else {"identical": counts.identical, "short": counts.short},
        foreign_prompts=raw.foreign_prompts,
        facets=tally.facets.facets(),
        workers=tally.facets.workers(),
        lengths=tally.lengths.spreads(),
        chosen_longer=tally.lengths.chosen_longer(),
        fit=fit.fit() if fit else None,
        rollouts=fit.rollouts() if fit and posts else None,
    )


def _bad(skipped: Skipped) -> tuple[BadReason, ...]:
    """Bad rows by reason, the commonest first."""
    return tuple(
        BadReason(reason, count, skipped.first[reason].where, skipped.first[reason].remedy)
        for reason, count in skipped.counts.most_common()
    )
