"""Splits that turn out to be the same rows: a file that names no splits is every split that is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trlx.utils.errors import UserError


def require_apart(train: Mapping[str, Any], other: Mapping[str, Any], source: str, what: str, remedy: str) -> None:
    """Refuse to judge a model on the rows it is trained on.

    Args:
        train, other: `tasks.tldr.data_facts` of both. source: of the other rows, for the message.
        what: what the other rows are for, e.g. "validation". remedy: the options that name other rows.

    Raises: UserError when both have the same content.
    """
    if train["content"] == other["content"]:
        raise UserError(f"{source}: training and {what} would read the same rows: {remedy}")
