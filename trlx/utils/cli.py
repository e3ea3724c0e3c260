"""Command lines made from dataclasses: `--config file.yaml`, dotted overrides, `--help` with every default.

jsonargparse does the work; here are only the one-line errors, which name the option, or the file and line, and the
nearest key there is.
"""

from __future__ import annotations

import re
import sys
import typing
from collections.abc import Container, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser

from trlx.utils.errors import UserError, fail, nearest
from trlx.utils.strict import check, is_section, keys_of, settle_values, show, spell
from trlx.utils.yaml_file import read_yaml

T = TypeVar("T")


class OneLineParser(ArgumentParser):
    """jsonargparse's parser with errors on one line that name the nearest known option.

    Set before parsing: `hints`, dotted name → annotation of every option, and `given`, the command line.
    """

    hints: dict[str, Any]
    given: Sequence[str]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        fail(_with_remedy(" ".join(message.split()), self.hints, self.given))

    def dump(self, cfg: Any, *arguments: Any, **keywords: Any) -> str:
        """What --print_config prints: a file that --config takes, so without the launcher's own option."""
        shown = cfg.clone()
        shown.pop("local_rank", None)
        return super().dump(shown, *arguments, **keywords)


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
    parser.hints = {**dict(keys_of(cls)), "config": Path}
    parser.add_argument("--config", action="config", help="YAML file with any of the options below.")
    # The DeepSpeed launcher hands every process this option.
    parser.add_argument("--local_rank", type=int, default=-1, help="Set by the DeepSpeed launcher; not for people.")
    # The parser reads names in annotations as the class's own module has them; those of its bases may lie elsewhere.
    cls.__init__.__annotations__ = typing.get_type_hints(cls)
    parser.add_class_arguments(cls)
    switches = {f"--{name}" for name, hint in parser.hints.items() if bool in (hint, *typing.get_args(hint))}
    given = [_underscored(argument, parser.hints) for argument in (sys.argv[1:] if argv is None else argv)]
    arguments = _spell_out(given, switches)
    parser.given = arguments
    try:
        for path in _values_of("config", arguments):
            _check_file(cls, path)
        namespace: Any = parser.instantiate(parser.parse_args(arguments))
        fields = {name: value for name, value in vars(namespace).items() if name in cls.__dataclass_fields__}  # type: ignore[attr-defined]
        options = cls(**fields)
        settle_values(options)
    except UserError as error:
        fail(str(error))
    return options


def _underscored(argument: str, known: Container[str]) -> str:
    """`--bad-rows=skip` as `--bad_rows=skip`: an option may be written with dashes, as elsewhere."""
    name, equals, value = argument.removeprefix("--").partition("=")
    ours = name.replace("-", "_")
    return f"--{ours}{equals}{value}" if argument.startswith("--") and ours in known else argument


def _spell_out(argv: Sequence[str], switches: set[str]) -> list[str]:
    """A switch given alone means true, as people write it: `--overwrite`."""
    following = [*argv[1:], "--"]
    return [f"{a}=true" if a in switches and b.startswith("--") else a for a, b in zip(argv, following, strict=False)]


def _values_of(name: str, argv: Sequence[str]) -> Iterator[str]:
    """What a command line gives an option, in order: `--name VALUE` or `--name=VALUE`."""
    for index, argument in enumerate(argv):
        if argument.startswith(f"--{name}="):
            yield argument.removeprefix(f"--{name}=")
        elif argument == f"--{name}":
            yield from argv[index + 1 : index + 2]


def _check_file(cls: type, path: str) -> None:
    """Raises: UserError with file and line for settings in a YAML file that are not of `cls`."""
    file = read_yaml(path)
    try:
        check(cls, file.values)
    except UserError as error:
        raise file.refusal(error) from error


def _with_remedy(message: str, hints: dict[str, Any], argv: Sequence[str]) -> str:
    """jsonargparse's message in our words, or as it is where it is of an unknown kind."""
    found = re.search(r"unrecognized arguments: (\S+)", message)
    if found:
        return _unrecognised(found.group(1), hints)
    found = re.search(r"argument -*([\w.]+).*: expected (?:one|at least one) argument", message)
    if found:
        return f"--{found.group(1)} needs a value: {spell(hints.get(found.group(1), str))}"
    found = re.search(r"Parser key \"([\w.]+)\":? .*NestedArg\(key='([\w.]+)'", message)
    if found:
        return f"unknown option --{found.group(1)}.{found.group(2)}; did you mean '{found.group(1)}'?"
    found = re.search(r"Parser key \"([\w.]+)\"", message)
    if found and found.group(1) in hints and not is_section(hints[found.group(1)]):
        given = "".join(f", not {show(value)}" for value in list(_values_of(found.group(1), argv))[-1:])
        return f"--{found.group(1)} must be {spell(hints[found.group(1)])}{given}"
    if found and is_section(hints.get(found.group(1))):
        return f"--{found.group(1)} is a section: give its keys, as in --{found.group(1)}.NAME VALUE"
    found = re.search(r"Group '([\w.]+)' does not accept (?:option|nested key) '([\w.]+)'", message)
    if found:
        name = f"{found.group(1)}.{found.group(2)}"
        return f"unknown key '{name}'{nearest(name, hints)}"
    found = re.search(r"arguments are required: ([\w.]+)", message)
    if found:
        return f"--{found.group(1)} is needed: {spell(hints.get(found.group(1), str))}"
    return message


def _unrecognised(argument: str, hints: dict[str, Any]) -> str:
    name = argument.removeprefix("--").partition("=")[0]
    if argument.startswith("--") and name:
        return f"unknown option --{name}{nearest(name, hints)}"
    return f"'{argument}' belongs to no option: options are written --name value; --help lists them"
