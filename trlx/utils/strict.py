"""Dataclasses from plain dicts, refusing unknown keys at any depth and values of the wrong type.

`build` makes the dataclass; `check` only looks, at settings that others will complete; `settle_values` looks at one
that others have made.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trlx.utils.errors import BadKey, nearest, one_line

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """`cls(**values)` with checks that name the key, dotted from `where`.

    Raises: BadKey for an unknown key (naming the nearest), a missing one, or a value of the wrong type.
    """
    known = check(cls, values, where)
    hints, prefix = typing.get_type_hints(cls), _prefix(where)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            key = f"{prefix}{field.name}"
            raise BadKey(key, f"missing key '{key}' ({spell(hints[field.name])})")
    return cls(**{key: coerce(value, hints[key], f"{prefix}{key}") for key, value in known.items()})


def check(cls: type, values: Any, where: str = "") -> Mapping[str, Any]:
    """`values`, once every key in it is one of `cls`'s and every value of its type; keys may be missing.

    Raises: BadKey for an unknown key (naming the nearest) or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise BadKey(where, f"'{where}' must be a section of keys, not {show(values)}")
    hints, prefix = typing.get_type_hints(cls), _prefix(where)
    names = {field.name for field in dataclasses.fields(cls)}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in names:
            raise BadKey(name, f"unknown key '{name}'{_nearest_key(cls, str(key))}")
        if is_section(hints[key]) and not isinstance(value, hints[key]):
            check(hints[key], value, name)
        elif not is_section(hints[key]):
            coerce(value, hints[key], name)
    return values


def keys_of(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, annotation) of every field of a dataclass, with those of the dataclasses in it."""
    for name, hint in typing.get_type_hints(cls).items():
        yield f"{prefix}{name}", hint
        if is_section(hint):
            yield from keys_of(hint, f"{prefix}{name}.")


def _nearest_key(cls: type, key: str) -> str:
    """As `nearest`, among the keys of this section and of those in it; the list, where none is close, has its own."""
    near = nearest(key, [name for name, _ in keys_of(cls)])
    return near if "did you mean" in near else nearest(key, [field.name for field in dataclasses.fields(cls)])


def settle_values(made: Any, where: str = "") -> None:
    """Give every field of a dataclass, and of those in it, a value of its type, as `coerce` does; in place.

    Raises: BadKey for a value that does not fit.
    """
    for name, hint in typing.get_type_hints(type(made)).items():
        value, key = getattr(made, name), f"{_prefix(where)}{name}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            settle_values(value, key)
        else:
            setattr(made, name, coerce(value, hint, key))


def is_section(hint: Any) -> bool:
    """Whether an annotation is a dataclass, and so a section of keys."""
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def coerce(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type: whole floats and numeric strings such as "1e-5" (YAML reads them as text) become
    numbers, lists become tuples.

    Raises: BadKey naming `where` when the value does not fit.
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, typing.get_args(hint), where)
    if hint is Any or hint is object or isinstance(hint, TypeVar):
        return value
    if is_section(hint):
        return value if isinstance(value, hint) else build(hint, value, where)
    if origin is typing.Literal:
        return _one_of(value, typing.get_args(hint), where)
    expected = origin or hint
    if expected is float and not isinstance(value, bool):
        return _number(value, where)
    if expected is int and isinstance(_as_number(value), float) and float(value).is_integer():
        return int(float(value))
    if expected is tuple and isinstance(value, (list, tuple)):
        return tuple(value)
    wrong = expected is int and isinstance(value, bool)
    if wrong or (isinstance(expected, type) and not isinstance(value, expected)):
        raise BadKey(where, f"'{where}' must be {spell(hint)}, not {show(value)}")
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= one <= "\udfff" for one in value):
        raise BadKey(where, f"'{where}' must be text in UTF-8, not {show(value)}")
    for key in value if isinstance(value, dict) else ():
        if not isinstance(key, str):
            raise BadKey(where, f"the keys in '{where}' must be text, not {show(key)}")
    return value


def _coerce_union(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in options:
        return None
    errors = []
    for option in options:
        if option is not type(None):
            try:
                return coerce(value, option, where)
            except BadKey as error:
                errors.append(error)
    raise errors[-1]


def _one_of(value: Any, accepted: tuple[Any, ...], where: str) -> Any:
    if not any(value == one and type(value) is type(one) for one in accepted):
        raise BadKey(where, f"'{where}' must be one of {', '.join(map(str, accepted))}, not {show(value)}")
    return value


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadKey(where, f"'{where}' must be a number, not {show(value)}") from None
    if math.isnan(number):
        raise BadKey(where, f"'{where}' must be a number, not {show(value)}")
    return number


def show(value: Any) -> str:
    """A value as it is shown in a message: on one line, and not too long."""
    text = one_line(repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _prefix(where: str) -> str:
    return f"{where}." if where else ""


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


def spell(hint: Any) -> str:
    """What an annotation asks for, in words."""
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(spell, options)) + (" or null" if len(options) < len(typing.get_args(hint)) else "")
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, options))}"
    names = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        Path: "a file's name",
        Any: "a value",
        list: "a list",
        dict: "a section",
    }
    return names.get(typing.get_origin(hint) or hint, str(hint))
