"""Dataclasses from plain dicts: what is converted, and what is refused under which name."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from trlx.utils.errors import BadKey, UserError
from trlx.utils.strict import build, check, settle_values, spell


@dataclass
class Inner:
    rate: float
    names: list[str] = field(default_factory=list)


@dataclass
class Outer:
    inner: Inner
    steps: int = 1
    flag: bool = False
    target: float | None = None
    pair: tuple[float, float] = (0.0, 0.0)
    options: dict[str, Any] = field(default_factory=dict)
    name: str | None = None


def made(**values: Any) -> Outer:
    return build(Outer, {"inner": {"rate": 1}, **values})


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("steps", 3.0, 3),
        ("target", "1e-5", 1e-5),  # what YAML makes of 1e-5
        ("target", 2, 2.0),
        ("target", None, None),
        ("pair", [1, 2], (1, 2)),
        ("options", {"anything": {"goes": 1}}, {"anything": {"goes": 1}}),
        ("name", None, None),
    ],
)
def test_conversions(key: str, given: Any, expected: Any) -> None:
    got = getattr(made(**{key: given}), key)
    assert got == expected and type(got) is type(expected)


def test_nested_sections_are_built() -> None:
    assert build(Outer, {"inner": {"rate": "1e-3"}}) == Outer(Inner(0.001))
    assert build(Outer, {"inner": Inner(0.5)}).inner == Inner(0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"rate": 1}, "stepz": 2}, r"unknown key 'run.stepz'; did you mean 'steps'\?"),
        ({"inner": {"rate": 1, "rat": 2}}, r"unknown key 'run.inner.rat'; did you mean 'rate'\?"),
        ({"inner": {"rate": 1, "qqq": 2}}, r"unknown key 'run.inner.qqq'; known: names, rate"),
        ({}, r"missing key 'run.inner'"),
        ({"inner": {}}, r"missing key 'run.inner.rate' \(a number\)"),
        ({"inner": 5}, r"'run.inner' must be a section of keys, not 5"),
        ({"inner": {"rate": "fast"}}, r"'run.inner.rate' must be a number, not 'fast'"),
        ({"inner": {"rate": None}}, r"'run.inner.rate' must be a number, not None"),
        ({"inner": {"rate": True}}, r"'run.inner.rate' must be a number, not True"),
        ({"inner": {"rate": 1, "names": "abc"}}, r"'run.inner.names' must be a list, not 'abc'"),
        ({"inner": {"rate": 1}, "steps": 1.5}, r"'run.steps' must be a whole number, not 1.5"),
        ({"inner": {"rate": 1}, "steps": True}, r"'run.steps' must be a whole number, not True"),
        ({"inner": {"rate": 1}, "flag": "no"}, r"'run.flag' must be true or false, not 'no'"),
        ({"inner": {"rate": 1}, "flag": 1}, r"'run.flag' must be true or false, not 1"),
        ({"inner": {"rate": 1}, "target": "x"}, r"'run.target' must be a number, not 'x'"),
        ({"inner": {"rate": 1}, "options": [1]}, r"'run.options' must be a section, not \[1\]"),
        ({"inner": {"rate": 1}, "name": 3}, r"'run.name' must be text, not 3"),
        ({"inner": {"rate": 1}, "name": "a\udcff"}, r"'run.name' must be text in UTF-8, not 'a\\udcff'"),
        ({"inner": {"rate": 1}, "options": {1: 2}}, r"the keys in 'run.options' must be text, not 1"),
        ({"inner": {"rate": 10**400}}, r"'run.inner.rate' must be a number, not 1000"),
        ({"inner": {"rate": "nan"}}, r"'run.inner.rate' must be a number, not 'nan'"),
    ],
)
def test_refusals_name_the_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(Outer, values, "run")
    assert "\n" not in str(caught.value)


@dataclass
class Chosen:
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=lambda: Inner(1.0))


def test_one_of_a_few() -> None:
    assert build(Chosen, {"kind": "b"}).kind == "b"
    with pytest.raises(UserError, match="'kind' must be one of a, b, not 'c'"):
        build(Chosen, {"kind": "c"})


def test_check_looks_at_what_is_there() -> None:
    check(Outer, {"inner": {}, "steps": 3})  # rate is missing, which others may give
    with pytest.raises(BadKey, match=r"'inner\.rate' must be a number") as caught:
        check(Outer, {"inner": {"rate": "x"}})
    assert caught.value.key == "inner.rate"
    with pytest.raises(BadKey, match=r"unknown key 'rate'; did you mean 'inner.rate'\?"):
        check(Outer, {"rate": 1})


def test_values_that_others_made() -> None:
    made = Outer(Inner(1), target=2)
    settle_values(made)
    assert type(made.inner.rate) is type(made.target) is float
    with pytest.raises(BadKey, match=r"'inner\.rate' must be a number, not None"):
        settle_values(Outer(Inner(None)))  # type: ignore[arg-type]


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(BadKey) as caught:
        build(Outer, {"inner": "x" * 10**6})
    assert len(str(caught.value)) < 150
    assert spell(int | None) == "a whole number or null" and spell(Literal["a", "b"]) == "one of a, b"
