"""Dataclasses from plain dicts, refusing unknown keys at any depth and values of the wrong type."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from trlx.utils.errors import UserError, nearest

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """`cls(**values)` with checks that name the key, dotted from `where`.

    Raises: UserError for an unknown key (naming the nearest), a missing one, or a value of the wrong type.
    """
    prefix = f"{where}." if where else ""
    if not isinstance(values, Mapping):
        raise UserError(f"'{where}' must be a section of keys, not {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise UserError(f"unknown key '{prefix}{key}'{nearest(str(key), fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise UserError(f"missing key '{prefix}{name}' ({_spell(hints[name])})")
    return cls(**{key: coerce(value, hints[key], f"{prefix}{key}") for key, value in values.items()})


def coerce(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type: whole floats and numeric strings such as "1e-5" (YAML reads them as text) become
    numbers, lists become tuples.

    Raises: UserError naming `where` when the value does not fit.
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, typing.get_args(hint), where)
    if hint is Any or hint is object or isinstance(hint, TypeVar):
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else build(hint, value, where)
    expected = origin or hint
    if expected is float and not isinstance(value, bool):
        return _number(value, where)
    if expected is int and isinstance(_as_number(value), float) and float(value).is_integer():
        return int(float(value))
    if expected is tuple and isinstance(value, (list, tuple)):
        return tuple(value)
    if expected is int and isinstance(value, bool):
        raise UserError(f"'{where}' must be a whole number, not {value!r}")
    if isinstance(expected, type) and not isinstance(value, expected):
        raise UserError(f"'{where}' must be {_spell(hint)}, not {value!r}")
    return value


def _coerce_union(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in options:
        return None
    errors = []
    for option in options:
        if option is not type(None):
            try:
                return coerce(value, option, where)
            except UserError as error:
                errors.append(str(error))
    raise UserError(errors[-1])


def _number(value: Any, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UserError(f"'{where}' must be a number, not {value!r}") from None


def read_numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which text that spells a number is one: YAML reads `1e-5` as text."""
    return {key: _as_number(value) for key, value in values.items()}


def _as_number(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_as_number(item) for item in value)
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _spell(hint: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        list: "a list",
        dict: "a section",
    }
    return names.get(typing.get_origin(hint) or hint, str(hint))
