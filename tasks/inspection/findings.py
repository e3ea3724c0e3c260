"""What a careful person would worry about in the numbers of a report, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.inspection.duplicates import Overlap
from tasks.inspection.report import Finding, Report, SplitReport

MANY_CUT = 0.05
MANY_EMPTY = 0.05
MANY_REPEATED = 0.01
MANY_DROPPED = 0.10
CHOSEN_LONGER = 0.60
FEW_ROWS = 100
MAY_BE_EMPTY = ("context",)  # most instructions are about nothing else


def findings(report: Report) -> tuple[Finding, ...]:
    """Leakage first, then each split from what makes rows unusable to what makes results doubtful."""
    found = [*_leakage(report), *_repetition(report)]
    for split in report.splits:
        found += [*_rows(split), *_columns(split), *_lengths(split), *_preferences(split)]
    return tuple(found)


def _leakage(report: Report) -> Iterator[Finding]:
    for overlap in report.overlaps:
        if overlap.what != "post":
            continue
        for shared in overlap.shared:
            if shared.count:
                yield Finding(
                    f"leakage: {_counted(shared.count, 'post')} of '{shared.second}' also in '{shared.first}', "
                    f"e.g. {shared.places[0][1]} and {shared.places[0][0]}",
                    "drop them from one of the two; results on the later split are flattered",
                )
    for near in report.near:
        if near.count:
            yield Finding(
                f"leakage: {_counted(near.count, 'post')} of '{near.second}' nearly the same as one of '{near.first}'",
                "look at the closest above; drop them if they are the same post edited",
            )


def _repetition(report: Report) -> Iterator[Finding]:
    for overlap in report.overlaps:
        if overlap.what == "post" and report.kind == "pairs":
            continue  # several pairs of a post are as it should be
        yield from _repeated(overlap)
    for split, count in report.contradictions.items():
        if count:
            yield Finding(
                f"{split}: {_counted(count, 'pair')} preferred both ways round",
                "labels that contradict each other bound the accuracy; drop them, or keep the surer of the two",
            )


def _repeated(overlap: Overlap) -> Iterator[Finding]:
    for split, count in overlap.repeated.items():
        if overlap.rows[split] and count / overlap.rows[split] > MANY_REPEATED:
            yield Finding(
                f"{split}: {_share(count, overlap.rows[split])} of the rows repeat an earlier row's {overlap.what}",
                "drop the repetitions, or know that they weigh more than others",
            )


def _rows(split: SplitReport) -> Iterator[Finding]:
    bad = sum(reason.count for reason in split.bad)
    if bad:
        yield Finding(
            f"{split.name}: {_counted(bad, 'row')} of {split.rows:,} cannot be used",
            "mend them at the places above, or train with --bad_rows skip",
        )
    dropped = sum(split.dropped.values())
    if dropped > MANY_DROPPED * split.rows:
        yield Finding(
            f"{split.name}: {_share(dropped, split.rows)} of the pairs are dropped",
            "see whether the columns are the right ones, and whether summaries may be so short or so alike",
        )
    if split.usable < FEW_ROWS:
        yield Finding(
            f"{split.name}: only {_counted(split.usable, 'usable row')}",
            "differences measured on so few mean little; add rows, or use them for trying things out only",
        )


def _columns(split: SplitReport) -> Iterator[Finding]:
    for name, column in split.columns.items():
        lacking = split.read - column.present + column.empty
        if column.used and name not in MAY_BE_EMPTY and lacking > MANY_EMPTY * split.read:
            yield Finding(
                f"{split.name}: '{name}' is empty or absent in {_share(lacking, split.read)} of the rows",
                "fill it in, or map another column with --columns",
            )
    if split.foreign_prompts:
        yield Finding(
            f"{split.name}: {_share(split.foreign_prompts, split.read)} of the prompts have neither the TL;DR headings "
            "nor the closing 'TL;DR:'",
            "'TL;DR:' is put after each, which suits only text to be summarised: see the examples",
        )


def _lengths(split: SplitReport) -> Iterator[Finding]:
    fit, rollouts = split.fit, split.rollouts
    if fit and fit.too_long:
        yield Finding(
            f"{split.name}: {_counted(fit.too_long, 'row')} cannot fit into {fit.max_length} tokens, "
            f"first {fit.first_too_long}",
            "drop them, or raise --max_length as far as the model's positions go",
        )
    if fit and fit.cut > MANY_CUT * fit.rows:
        yield Finding(
            f"{split.name}: {_share(fit.cut, fit.rows)} of the prompts are cut at {fit.max_length} tokens",
            "raise --max_length, or drop long posts: a summary of text that was cut away teaches invention",
        )
    if rollouts and fit and rollouts.prompts_cut > MANY_CUT * fit.rows:
        yield Finding(
            f"{split.name}: PPO cuts {_share(rollouts.prompts_cut, fit.rows)} of the prompts, which get "
            f"{rollouts.room} tokens beside {rollouts.max_new_tokens} new ones",
            "raise the sequence length, or drop long posts",
        )
    if rollouts and fit and rollouts.references_longer > MANY_CUT * fit.rows:
        yield Finding(
            f"{split.name}: {_share(rollouts.references_longer, fit.rows)} of the references are longer than "
            f"{rollouts.max_new_tokens} tokens",
            "raise --max_new_tokens, or the policy cannot answer at their length",
        )


def _preferences(split: SplitReport) -> Iterator[Finding]:
    longer = split.chosen_longer
    if longer is not None and longer > CHOSEN_LONGER:
        yield Finding(
            f"{split.name}: the chosen side is the longer one in {100 * longer:.0f}% of the pairs",
            "watch the length of the policy's summaries: a reward model learns length from such labels",
        )
    if longer is not None and longer < 1 - CHOSEN_LONGER:
        yield Finding(
            f"{split.name}: the chosen side is the shorter one in {100 * (1 - longer):.0f}% of the pairs",
            "watch the length of the policy's summaries: a reward model learns shortness from such labels",
        )
    if list(split.facets.get("confidence", {}).values()) == [split.usable]:
        yield Finding(
            f"{split.name}: every pair has the same confidence",
            "the column tells nothing: leave it out of tables, or see whether it was filled in by a script",
        )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _share(count: int, rows: int) -> str:
    return f"{100 * count / max(rows, 1):.1f}%"
