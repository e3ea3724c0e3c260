"""YAML files of settings, read so that every mistake has a line number.

Stricter than PyYAML: a key given twice is an error (PyYAML takes the last and says nothing), keys are text, and the
file must be a section of keys. Left out: several documents in one file.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from trlx.utils.errors import UserError, one_line
from trlx.utils.settings_file import SettingsFile, read_settings

MAX_DEPTH = 8  # of the keys whose lines are kept; no setting is deeper


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses keys given twice, keys that are no text, and a value that holds itself."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self.unfinished: list[str | None] = []  # anchors whose values are being read

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent) and anchor in self.unfinished:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=f"*{anchor} holds itself", problem_mark=mark)
        self.unfinished.append(anchor)
        node = super().compose_node(parent, index)
        self.unfinished.pop()
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                shown = key.value if isinstance(key, yaml.ScalarNode) else f"a {key.id}"
                raise yaml.MarkedYAMLError(
                    problem=f"the key {shown} is no text: put it in quotes", problem_mark=key.start_mark
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key.value}' is already on line {seen[key.value]}: remove one of them",
                    problem_mark=key.start_mark,
                )
            seen[key.value] = line
        return super().construct_mapping(node, deep)


# A date is text like any other here.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: str | Path) -> SettingsFile:
    """Read a file of settings.

    Raises: UserError naming the file, the line where there is one, and what to do.
    """
    text = read_settings(Path(path), "YAML file")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        values = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise UserError(f"{path}{_explain(error, text)}") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply to be a configuration") from error
    except (ValueError, OverflowError) as error:  # what a tag such as !!int makes of its text
        raise UserError(f"{path}: not valid YAML ({one_line(error)}): mend or quote the value") from error
    if values is None:
        raise UserError(f"{path}: is empty: write settings as `key: value` lines, or leave the file out")
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds {_kind(values)} where `key: value` lines are needed")
    return SettingsFile(str(path), values, _lines(node, "", MAX_DEPTH))


def _explain(error: yaml.YAMLError, text: str) -> str:
    """`", line 3: what is wrong"`."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        problem = one_line(getattr(error, "problem", None) or "not valid YAML")
        if problem.startswith("but "):
            problem = f"{one_line(getattr(error, 'context', None) or '')} {problem}".strip()
        remedies = {"'\\t'": ": indent with spaces", "constructor for the tag": ": leave the tag out"}
        remedy = next((remedy for words, remedy in remedies.items() if words in problem), "")
        return f", line {mark.line + 1}: {problem}{remedy}"
    if isinstance(error, yaml.reader.ReaderError):
        line = text[: error.position].count("\n") + 1
        return f", line {line}: the character U+{error.character:04X} is not allowed: remove it"
    return f": not valid YAML ({one_line(error)})"


def _lines(node: Any, prefix: str, depth: int) -> dict[str, int]:
    lines: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode) and depth:
        for key, value in node.value:
            if isinstance(key.value, str):
                name = f"{prefix}{key.value}"
                lines[name] = key.start_mark.line + 1
                lines |= _lines(value, f"{name}.", depth - 1)
    return lines


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"just {one_line(repr(value))[:40]}"
