"""What the report shows: gathered once from a run's files, then only read.

`evaluation.report.gather` fills these records, `evaluation.report.page` makes one HTML file of them. Text in them is as
it was found: whoever writes HTML escapes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from evaluation.table import Table

# Stages of a run, by the key under which the report holds what they left.
STAGE_NAMES = {
    "sft": "SFT",
    "reward_model": "Reward model",
    "second_reward_model": "Second reward model",
    "rft": "RFT",
    "ppo": "PPO",
}


@dataclass(frozen=True)
class Figure:
    """A picture; `svg` is one <svg> element without scripts or links, `alt` says in words what it shows."""

    id: str  # unique on the page: letters, digits and hyphens
    title: str
    caption: str
    svg: str
    alt: str


@dataclass(frozen=True)
class Section:
    """Tables and figures under one heading; `about` is a paragraph before them, "" for none."""

    id: str
    title: str
    about: str = ""
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


@dataclass(frozen=True)
class Output:
    """One model's summary of one post. A score that was not a number is None; one never measured is absent."""

    text: str
    scores: dict[str, float | None]  # of: reward, second_reward, gold, rouge1, rouge2, rougeL
    ended: bool  # False: cut at the limit, no end-of-sequence token
    tokens: int  # of the response, EOS included
    faults: list[str]  # names of `evaluation.degeneration`


@dataclass(frozen=True)
class Sample:
    """One post with its reference and every model's summary."""

    id: str
    subreddit: str  # without "r/"; "" where the prompt names none
    title: str
    post: str  # the body
    reference: str
    reference_scores: dict[str, float | None]  # of: reward, second_reward, gold
    outputs: dict[str, Output]  # by model, in the order of `ReportData.models`


@dataclass(frozen=True)
class ReportData:
    """The whole report."""

    title: str
    made: str  # UTC, e.g. "2026-01-31 12:00 UTC"
    facts: list[tuple[str, str]]  # name, value: task, data, split, posts, decoding, models, seeds, versions
    missing: list[str]  # sentences: what is missing or unusable, and the remedy
    sections: list[Section]
    models: list[str]  # the baseline of the comparisons first
    samples: list[Sample]

    @property
    def tables(self) -> list[Table]:
        """The tables of every section, in order."""
        return [table for section in self.sections for table in section.tables]

    @property
    def figures(self) -> list[Figure]:
        """The figures of every section, in order."""
        return [figure for section in self.sections for figure in section.figures]
