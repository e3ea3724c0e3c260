"""A plan for people: of each stage the settings side by side, and the proposed one's phases part by part."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from launch.plan.fleet import GB, Fleet
from launch.plan.memory import PARTS, Setting, StageMemory
from launch.plan.settings import Choice

MOST_SHOWN = 10


def name_of(setting: Setting) -> str:
    """A setting in words, e.g. "ZeRO-2, offload, checkpointing"."""
    plain = "DDP" if setting.ranks > 1 else "plain"
    words = [f"ZeRO-{setting.zero}" if setting.zero else plain]
    words += ["offload"] * setting.offload + ["checkpointing"] * setting.checkpointing
    words += ["reward model apart"] * setting.reward_apart
    return ", ".join(words)


def show_choices(console: Console, stage: str, choices: list[Choice], chosen: Choice | None) -> None:
    """The settings of a stage, fastest first."""
    table = Table(title=f"{stage}: settings, fastest first")
    for heading in ("", "setting", "ranks", "rows × passes"):
        table.add_column(heading)
    for heading in ("GB a device", "worst phase", "GB host", "min / 1000"):
        table.add_column(heading, justify="left" if heading == "worst phase" else "right")
    shown = choices[:MOST_SHOWN]
    for choice in shown if chosen is None or chosen in shown else [*shown[:-1], chosen]:
        setting, memory = choice.setting, choice.memory
        mark = "→" if choice is chosen else ("fits" if choice.fits else "no")
        table.add_row(
            *(mark, name_of(setting), str(setting.ranks), f"{setting.microbatch} × {setting.accumulation}"),
            *(_gb(memory.worst.bytes), memory.worst.name, _gb(memory.host), _minutes(choice.seconds)),
        )
    console.print(table)


def show_phases(console: Console, memory: StageMemory, fleet: Fleet) -> None:
    """A stage's phases in columns, its parts in rows, GB."""
    title = f"{memory.stage}, {name_of(memory.setting)}: GB on the first device, of {fleet.usable / GB:.1f} usable"
    table = Table(title=title)
    table.add_column("part")
    for phase in memory.phases:
        table.add_column(phase.name, justify="right")
    for part in PARTS:
        sizes = [phase.parts.get(part, 0) for phase in memory.phases]
        if any(sizes):
            table.add_row(part, *(_gb(size) if size else "" for size in sizes))
    table.add_section()
    table.add_row("all", *(_gb(phase.bytes) for phase in memory.phases))
    console.print(table)


def _gb(size: int) -> str:
    """More digits for a miniature, whose parts would all be 0.00."""
    return f"{size / GB:.2f}" if size >= GB / 10 or not size else f"{size / GB:.4f}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}" if seconds >= 60 else f"{seconds / 60:.2g}"
