"""How the data are named on the command lines of `python -m tasks`."""

from __future__ import annotations

from collections.abc import Sequence


def with_data_named(argv: Sequence[str]) -> list[str]:
    """`DATA --near 0.9` → `--data DATA --near 0.9`."""
    return ["--data", *argv] if argv and not argv[0].startswith("-") else list(argv)
