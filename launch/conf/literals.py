"""A `.conf` file: one Python dict of literals, with comments, read with the line of each key and never run.

Allowed are dicts with text keys, lists, tuples, texts, numbers with a sign, True, False and None. Left out, and refused
with its line: everything else that Python can compute.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trlx.utils.errors import UserError, one_line
from trlx.utils.settings_file import SettingsFile, read_settings

HINT = "a .conf file holds literals only: texts, numbers, True, False, None, lists and dicts"


def read_conf(path: str | Path) -> SettingsFile:
    """Values and lines of a `.conf` file.

    Raises: UserError naming the file, the line, and what to do.
    """
    text = read_settings(Path(path), ".conf file")
    try:
        body = ast.parse(text, str(path), mode="eval").body
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno or 1}: {_problem(text, error)}: {HINT}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{path}: not a .conf file ({one_line(error) or 'nested too deeply'}): {HINT}") from error
    if not isinstance(body, ast.Dict):
        raise UserError(f"{path}, line {body.lineno}: a dict is needed, {{...}}, with General, Dataset and Training")
    try:
        return SettingsFile(str(path), _value(body, str(path)), dict(_lines(body, "")))
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply to be a configuration") from error


def _problem(text: str, error: SyntaxError) -> str:
    if not text.strip():
        return "the file is empty"
    lines = text.splitlines()
    line = lines[error.lineno - 1].strip() if error.lineno and error.lineno <= len(lines) else ""
    if line.startswith(("import ", "from ", "def ", "class ")) or ("=" in line and "==" not in line):
        return f"code, not a literal ({line[:40]!r})"
    return f"{one_line(error.msg)} ({line[:40]!r})"


def _value(node: ast.expr, path: str) -> Any:
    """What the literal stands for. Raises: UserError for anything else, with its line."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, bool, type(None))):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item, path) for item in node.elts]
    if isinstance(node, ast.Dict):
        return _dict(node, path)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = _value(node.operand, path)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return -number if isinstance(node.op, ast.USub) else number
    raise UserError(f"{path}, line {node.lineno}: code, not a literal ({one_line(ast.unparse(node))[:40]!r}): {HINT}")


def _dict(node: ast.Dict, path: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            raise UserError(f"{path}, line {value.lineno}: code, not a literal ('**...'): {HINT}")
        name = _value(key, path)
        if not isinstance(name, str):
            raise UserError(f"{path}, line {key.lineno}: the key {name!r} is no text: put it in quotes")
        if name in values:
            raise UserError(f"{path}, line {key.lineno}: the key '{name}' is there already: remove one of them")
        values[name] = _value(value, path)
    return values


def _lines(node: ast.Dict, prefix: str) -> Iterator[tuple[str, int]]:
    """(dotted key, its line) of every key of a dict that `_dict` has taken."""
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant):
            name = f"{prefix}{key.value!s}"
            yield name, key.lineno
            if isinstance(value, ast.Dict):
                yield from _lines(value, f"{name}.")
