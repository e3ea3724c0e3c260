from __future__ import annotations

import datetime
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.aside import filling_folder, remove_leftovers, replacing_file
from tasks.reading.files import iter_file
from tasks.reading.rows import RawRow, Row
from tasks.writing import BLOCK, output_format, write_rows
from trlx.utils.errors import UserError

KINDS = [".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet", ".parquet.gz"]


def raw(*rows: Row) -> list[RawRow]:
    return [RawRow(row, f"x, row {number}") for number, row in enumerate(rows, start=1)]


def back(path: Path) -> list[Row]:
    return [row.values for row in iter_file(path)]


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(st.tuples(TEXT.filter(bool), TEXT), min_size=1, max_size=4))
def test_texts_come_back_from_every_format(tmp_path: Path, kind: str, texts: list[tuple[str, str]]) -> None:
    path = tmp_path / f"x{kind}"
    rows = [{"prompt": prompt, "a,b": other} for prompt, other in texts]
    assert write_rows(path, raw(*rows)) == len(rows)
    assert back(path) == rows
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
def test_nested_values_and_other_columns_in_other_rows(tmp_path: Path, kind: str) -> None:
    rows: list[Row] = [{"a": 1, "chat": [{"role": "user", "content": "x"}], "extra": {"confidence": None}}]
    rows += [{"a": 2, "extra": {"confidence": 3}, "b": "late"}] * BLOCK
    path = tmp_path / f"x{kind}"
    assert write_rows(path, raw(*rows)) == BLOCK + 1
    found = back(path)
    assert (found[0].get("b"), found[-1]["b"]) == (None, "late")
    assert (found[0]["extra"], found[-1]["extra"]) == ({"confidence": None}, {"confidence": 3})
    assert found[0]["chat"] == rows[0]["chat"] and found[-1].get("chat") is None


def test_cells_that_look_like_formulas_are_data(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_rows(path, raw({"a": "=1+1", "b": "@home"}, {"b": "+x", "c": 7}))
    assert path.read_bytes() == b"a,b,c\r\n=1+1,@home,\r\n,+x,7\r\n"


def test_the_same_rows_make_the_same_packed_file(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_rows(tmp_path / name, raw({"a": "ü"}))
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == '{"a": "ü"}\n'.encode()


def test_what_json_has_no_word_for(tmp_path: Path) -> None:
    write_rows(tmp_path / "x.jsonl", raw({"at": datetime.date(2024, 5, 1), "half": "\ud83d"}))
    assert (tmp_path / "x.jsonl").read_bytes() == b'{"at": "2024-05-01", "half": "\\ud83d"}\n'
    with pytest.raises(UserError, match=r"x, row 1: a value is a bytes, which cannot be written"):
        write_rows(tmp_path / "y.jsonl", raw({"a": b"x"}))


@pytest.mark.parametrize(
    "kind, rows, reason",
    [
        (
            ".csv",
            [{"a": 1}, {"a": ["x"]}],
            "x, row 2: column 'a' holds a list, which CSV cannot: write .jsonl or .parquet",
        ),
        (".csv", [{"a": "\ud83d"}], r"half a character .* in a column: write .jsonl"),
        (".parquet", [{"a": "\ud83d"}], r"half a character .* in a column: write .jsonl"),
        (".parquet", [{"a": 1}, {"a": "x"}], "the rows do not fit into one table"),
        (".parquet", [{"a": 1}] * BLOCK + [{"a": "x"}], "the rows do not fit into one table"),
        (".parquet", [{"a": {}}], "the rows do not fit into one table"),
        (".parquet", [{"a": 2**70}], "the rows do not fit into one table"),
    ],
)
def test_values_that_a_format_cannot_hold(tmp_path: Path, kind: str, rows: list[Row], reason: str) -> None:
    path = tmp_path / f"x{kind}"
    path.write_text("old")
    with pytest.raises(UserError, match=reason):
        write_rows(path, raw(*rows))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [UserError("bad"), KeyboardInterrupt(), RuntimeError("bug")])
def test_an_error_on_the_way_leaves_the_old_file(tmp_path: Path, kind: str, error: BaseException) -> None:
    def rows() -> Iterator[RawRow]:
        yield from raw(*[{"a": "x"}] * 10)
        raise error

    path = tmp_path / f"x{kind}"
    path.write_text("old")
    with pytest.raises(type(error)):
        write_rows(path, rows())
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.jsonl").mkdir()
    for path in (tmp_path / "file" / "x.jsonl", tmp_path / "folder.jsonl"):
        with pytest.raises(UserError, match=rf"{path}: cannot be written \(.*\): name another place"):
            write_rows(path, raw({"a": 1}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.jsonl"]


@pytest.mark.parametrize("name, kind", [("x.jsonl", ".jsonl"), ("X.CSV.GZ", ".csv"), ("a.b.parquet", ".parquet")])
def test_the_name_says_the_format(name: str, kind: str) -> None:
    assert output_format(Path(name)) == kind


@pytest.mark.parametrize("name", ["x", "x.json", "x.gz", "x.txt"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"must end in \.jsonl, \.csv, \.parquet"):
        output_format(Path(name))


def test_rows_are_not_gathered(tmp_path: Path) -> None:
    alive: list[Any] = []

    class Row_(dict):  # type: ignore[type-arg]
        def __init__(self, number: int) -> None:
            super().__init__(a=number)
            alive.append(None)

        def __del__(self) -> None:
            alive.pop()

    def rows() -> Iterator[RawRow]:
        for number in range(50):
            yield RawRow(Row_(number), "x")
            assert len(alive) <= 3

    for kind in KINDS:
        write_rows(tmp_path / f"x{kind}", rows())


def test_what_is_being_written_is_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    dead, other = tmp_path / ".x.jsonl.writing-1", tmp_path / ".y.jsonl.writing-1"
    dead.write_text("half")  # by the number of a process that lives: numbers come again
    other.write_text("half")
    (tmp_path / ".x.jsonl.writing-me").write_text("no number")
    with replacing_file(path) as file:
        assert not dead.exists() and other.exists()
        file.write(b"{}\n")
        remove_leftovers(path)
    with filling_folder(tmp_path / "out", []) as folder:
        (folder / "x").write_text("x")
        remove_leftovers(tmp_path / "out")
    found = sorted(item.relative_to(tmp_path).as_posix() for item in tmp_path.rglob("*"))
    assert found == [".x.jsonl.writing-me", ".y.jsonl.writing-1", "out", "out/x", "x.jsonl"]
