"""Whatever lies in a data file: rows come out, or one line that says what is wrong."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.reading import files, json_values
from tasks.reading.files import iter_file
from tasks.reading.rows import BadRow, RawRow, Skipped
from tasks.reading.sources import open_source, splits_of
from trlx.utils.errors import UserError

SUFFIXES = [".jsonl", ".json", ".csv", ".tsv", ".parquet"]
LIMIT = 3000  # small enough for some inputs to go over it
ROWS = [
    {"prompt": f'SUBREDDIT: r/pets\n\nPOST: "{number}", é日\u2028🙂\nTL;DR:', "label": "x, y", "split": "train"}
    for number in range(6)
]
fast = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", LIMIT)
    monkeypatch.setattr(json_values, "_CHUNK", 64)


# ---------------------------------------------------------------- whatever is written comes back

# What CSV and Parquet can hold of text: no NUL, no half characters.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
AWKWARD = st.sampled_from(
    ["", "\u2028", "\x85", "\ufeff", '"', '""', "'", ",", "\t", "\r", "\n", "\r\n", ";", "\x1c", " a "]
)
CELL = TEXT | AWKWARD | st.tuples(TEXT, AWKWARD, TEXT).map("".join)
NAME = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
TABLE = st.lists(NAME, min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.lists(st.fixed_dictionaries(dict.fromkeys(names, CELL)), min_size=1, max_size=5)
)


def in_csv(rows: list[dict[str, str]], delimiter: str, end: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0], delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def in_parquet(rows: list[dict[str, str]]) -> bytes:
    out = io.BytesIO()
    pandas.DataFrame(rows).to_parquet(out)
    return out.getvalue()


def contents(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    """The rows in every form in which people write them."""
    frame = pandas.DataFrame(rows)
    return {
        "lines.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "utf8.jsonl": "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode(),
        "pandas.jsonl": frame.to_json(orient="records", lines=True).encode(),
        "list.json": json.dumps(rows).encode(),
        "indented.json": json.dumps(rows, indent=2, ensure_ascii=False).encode("utf-8-sig"),
        "lines.json": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "one_by_one.json": "".join(json.dumps(row, indent=1) for row in rows).encode(),
        "library.csv": in_csv(rows, ",", "\r\n"),
        "unix.csv": in_csv(rows, ",", "\n"),
        "pandas.csv": frame.to_csv(index=False).encode(),
        "library.tsv": in_csv(rows, "\t", "\r\n"),
        "pandas.parquet": in_parquet(rows),
    }


@settings(fast, max_examples=50)
@given(TABLE, st.booleans())
def test_rows_come_back_as_they_were_written(tmp_path: Path, rows: list[dict[str, str]], packed: bool) -> None:
    # A carriage return alone is quoted by writers that end lines with one, and by no others.
    lone = any("\r" in cell for row in rows for cell in row.values())
    for name, content in contents(rows).items():
        if lone and name in ("unix.csv", "pandas.csv"):
            continue
        path = tmp_path / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content, 1) if packed else content)
        assert [row.values for row in iter_file(path)] == rows, name


# ---------------------------------------------------------------- nothing but rows and messages


def check_message(error: Exception, path: Path) -> None:
    message = str(error)
    assert str(path) in message and ": " in message.replace(str(path), "")  # names the file, and has a remedy
    assert "\n" not in message and len(message) < 700


def read(path: Path) -> None:
    """Rows, or a message; leniently the same rows and more, with a message for each that was left out."""
    strict: list[RawRow] = []
    try:
        strict.extend(iter_file(path))
    except UserError as error:
        check_message(error, path)

    lenient: list[RawRow] = []
    bad: list[BadRow] = []
    try:
        lenient.extend(iter_file(path, bad.append))
    except UserError as error:
        assert not isinstance(error, BadRow)
        check_message(error, path)
    for error in bad:
        check_message(error, path)
        assert error.where.startswith(str(path))
    for row in lenient:
        assert isinstance(row.values, dict) and all(isinstance(name, str) for name in row.values)
    assert repr(lenient[: len(strict)]) == repr(strict)
    assert len({row.where for row in lenient}) == len(lenient) or path.name.startswith("x.json")


def put(folder: Path, suffix: str, content: bytes, packed: bool) -> Path:
    path = folder / f"x{suffix}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    return path


PIECES = st.sampled_from(
    [
        *(b"[", b"]", b"{", b"}", b",", b'"', b"-", b" " * 99, b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xe6\x97"),
        *(b"\xef\xbb\xbf", b"\xff\xfe", b"{\0", b"PAR1", b"\x1f\x8b", b"NaN", b"1e999", b"null", b"\\u", b"\\ud800"),
        *(b"{}", b'{"a":', b'{"a": "b"}', b'{"data": [{"a": 1}]}', b"[" * 1500, b"9" * 4400, b"x" * LIMIT),
        *(b"a,b", b"a\tb", b"split"),
    ]
)
JUNK = st.binary(max_size=200) | st.lists(PIECES | st.binary(max_size=5), max_size=12).map(b"".join)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("packed", [False, True])
@fast
@given(content=JUNK)
def test_any_bytes(tmp_path: Path, suffix: str, packed: bool, content: bytes) -> None:
    read(put(tmp_path, suffix, content, packed))


@functools.cache
def valid(suffix: str) -> list[bytes]:
    return [content for name, content in contents(ROWS).items() if name.endswith(suffix)]


@st.composite
def damaged(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """A valid file with a few places overwritten, cut out, doubled, or with something put between."""
    content = draw(st.sampled_from(whole))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + draw(st.sampled_from([0, 1, 8, 10_000])))))
        between = draw(st.just(b"") | st.just(content[start:end] * 2) | PIECES | st.binary(min_size=1, max_size=4))
        content = content[:start] + between + content[end:]
    return content


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("packed", [False, True])
@fast
@given(data=st.data())
def test_damaged_files(tmp_path: Path, suffix: str, packed: bool, data: st.DataObject) -> None:
    read(put(tmp_path, suffix, data.draw(damaged(valid(suffix))), packed))


@pytest.mark.parametrize("suffix", SUFFIXES)
@fast
@given(data=st.data())
def test_damaged_gzip_files(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    packed = [gzip.compress(content, mtime=0) for content in valid(suffix)]
    (path := tmp_path / f"x{suffix}.gz").write_bytes(data.draw(damaged(packed)))
    read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@fast
@given(data=st.data())
def test_damaged_sources(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = put(tmp_path, suffix, data.draw(damaged(valid(suffix)) | JUNK), False)
    for source, split in ((str(path), "train"), (str(path), "valid"), (f"{tmp_path}/*{suffix}", None)):
        for on_bad in ({}, {"on_bad": Skipped()}):
            try:
                list(open_source(source, split).rows(**on_bad))
            except UserError as error:
                assert "\n" not in str(error)
    try:
        assert all(isinstance(name, str) for name in splits_of(str(path)))
    except UserError as error:
        assert "\n" not in str(error)


@fast
@given(
    st.text(st.characters(), max_size=20) | st.text("./*?[]~:,ax\0é ", max_size=12),
    st.sampled_from([None, "train", ""]),
)
def test_any_name_of_a_source(source: str, split: str | None) -> None:
    try:
        open_source(source, split)
        splits_of(source)
    except UserError as error:
        assert str(error)
