"""Splits that turn out to be the same rows: a file that names no splits is every split that is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def same_rows(train: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether what is judged on is what is trained on.

    Args:
        train, other: `tasks.tldr.data_facts` of both; limits do not count.
    """
    return train["content"] == other["content"]


def warning(source: str, what: str, option: str) -> str:
    """What to say of it.

    Args:
        source: of the rows. what: they are for besides training, e.g. "validation". option: names other rows.
    """
    return (
        f"WARNING: training and {what} read the same rows, {source}: what is measured on them says nothing about "
        f"others; name some with {option}, or give a folder with a file for each split"
    )
