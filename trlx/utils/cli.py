"""Command lines made from dataclasses: `--config file.yaml`, dotted overrides, `--help` with every default.

jsonargparse does the work; here are only the one-line errors that name the nearest key.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import typing
from collections.abc import Sequence
from os import PathLike
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser

from trlx.utils.errors import fail, nearest

T = TypeVar("T")


class OneLineParser(ArgumentParser):
    """jsonargparse's parser with errors on one line that name the nearest known option."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        fail(_with_remedy(message, [action.dest for action in self._actions]))


def _with_remedy(message: str, known: list[str]) -> str:
    message = " ".join(message.split())
    unknown = re.search(r"unrecognized arguments: --([\w.]+)", message)
    if unknown:
        return f"unknown option --{unknown.group(1)}{nearest(unknown.group(1), known)}"
    unaccepted = re.search(r"Option '([\w.]+)' is not accepted", message)
    if unaccepted:
        return f"unknown key '{unaccepted.group(1)}'{nearest(unaccepted.group(1), known)}"
    in_group = re.search(r"Group '([\w.]+)' does not accept (?:option|nested key) '([\w.]+)'", message)
    if in_group:
        key = f"{in_group.group(1)}.{in_group.group(2)}"
        return f"unknown key '{key}'{nearest(key, known)}"
    top = re.search(
        r"(?:Key|option|key) '([\w.]+)' is not expected|does not accept (?:option|nested key) '([\w.]+)'",
        message,
    )
    if top:
        key = top.group(1) or top.group(2)
        return f"unknown key '{key}'{nearest(key, known)}"
    return message


def _switches(cls: type, prefix: str = "") -> set[str]:
    """Dotted names of the options that are true or false, nested dataclasses included."""
    names: set[str] = set()
    for name, hint in typing.get_type_hints(cls).items():
        if hint is bool:
            names.add(f"--{prefix}{name}")
        elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
            names |= _switches(hint, f"{prefix}{name}.")
    return names


def _spell_out(argv: Sequence[str], switches: set[str]) -> list[str]:
    """A switch given alone means true, as people write it: `--overwrite`."""
    following = [*argv[1:], "--"]
    return [f"{a}=true" if a in switches and b.startswith("--") else a for a, b in zip(argv, following, strict=False)]


def parse_config(
    cls: type[T], description: str, argv: Sequence[str] | None = None, default_config: str | None = None
) -> T:
    """Build a dataclass from `--config FILE.yaml` and dotted options; later options win.

    Args:
        cls: a dataclass whose fields (nested dataclasses too) become options; its docstrings become the help.
        description: shown at the top of `--help`.
        argv: the command line; None for `sys.argv[1:]`.
        default_config: a YAML file read first when it exists, so that its values are the defaults shown.

    Returns: an instance of `cls`. Exits with code 2 and one line on stderr when the input is wrong.
    """
    files: list[str | PathLike[Any]] = [default_config] if default_config else []
    parser = OneLineParser(description=description, default_config_files=files, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the options below.")
    # The DeepSpeed launcher hands every process this option.
    parser.add_argument("--local_rank", type=int, default=-1, help="Set by the DeepSpeed launcher; not for people.")
    parser.add_class_arguments(cls)
    arguments = _spell_out(sys.argv[1:] if argv is None else argv, _switches(cls))
    namespace: Any = parser.instantiate(parser.parse_args(arguments))
    fields = {name: value for name, value in vars(namespace).items() if name in cls.__dataclass_fields__}  # type: ignore[attr-defined]
    return cls(**fields)
