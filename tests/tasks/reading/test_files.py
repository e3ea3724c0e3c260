from __future__ import annotations

import csv
import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest

from tasks.reading import files
from tasks.reading.files import format_of, iter_file
from tasks.reading.rows import BadRow, Skipped
from trlx.utils.errors import UserError

ROWS = [
    {"prompt": 'a, "b"\nc\u2028d', "label": "x"},
    {"prompt": "é日", "label": "y"},
    {"prompt": "\ufeff\x85 ", "label": ""},
]


def values(path: Path, **arguments: Any) -> list[dict[str, Any]]:
    return [row.values for row in iter_file(path, **arguments)]


def places(path: Path) -> list[str]:
    """Where the rows are, without the file's name."""
    return [row.where.removeprefix(f"{path}, ") for row in iter_file(path)]


def made(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


# ---------------------------------------------------------------- formats


def write_csv(path: Path, rows: list[dict[str, Any]], **dialect: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], **dialect)
        writer.writeheader()
        writer.writerows(rows)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


WRITERS: dict[str, tuple[str, Callable[[Path, list[dict[str, Any]]], None]]] = {
    "JSONL": (".jsonl", write_lines),
    "a list": (".json", lambda path, rows: path.write_text(json.dumps(rows), encoding="utf-8")),
    "a list over lines": (".json", lambda path, rows: path.write_text(json.dumps(rows, indent=1), encoding="utf-8")),
    "JSONL called .json": (".json", write_lines),
    "objects over lines": (
        ".json",
        lambda path, rows: path.write_text("\n".join(json.dumps(row, indent=2) for row in rows), encoding="utf-8"),
    ),
    "CSV": (".csv", write_csv),
    "CSV of Unix": (".csv", lambda path, rows: write_csv(path, rows, lineterminator="\n")),
    "CSV all quoted": (".csv", lambda path, rows: write_csv(path, rows, quoting=csv.QUOTE_ALL)),
    "TSV": (".tsv", lambda path, rows: write_csv(path, rows, delimiter="\t")),
    "Parquet": (".parquet", lambda path, rows: pandas.DataFrame(rows).to_parquet(path)),
}


@pytest.mark.parametrize("how", WRITERS)
@pytest.mark.parametrize("packed", [False, True])
def test_every_format_gives_the_same_rows(tmp_path: Path, how: str, packed: bool) -> None:
    suffix, write = WRITERS[how]
    path = tmp_path / f"x{suffix}"
    write(path, ROWS)
    if packed:
        path = made(tmp_path, f"x{suffix}.gz", path.read_bytes())
    assert values(path) == ROWS


def test_the_format_is_told_by_the_name() -> None:
    assert [format_of(Path(name)) for name in ("a.JSONL.gz", "b.csv", "c.tsv.GZ")] == [".jsonl", ".csv", ".tsv"]
    assert [format_of(Path(name)) for name in ("a.txt", "jsonl", ".jsonl", "x.gz", "x.jsonl.zip")] == [None] * 5


def test_nested_values_and_other_types_are_kept(tmp_path: Path) -> None:
    row = {"info": {"title": "t"}, "summaries": [{"text": "a"}, {"text": "b"}], "choice": 1, "p": 0.5, "n": None}
    assert values(made(tmp_path, "x.jsonl", json.dumps(row).encode())) == [row]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "x.parquet")
    assert values(tmp_path / "x.parquet") == [row]


def test_rows_may_have_different_columns_and_types(tmp_path: Path) -> None:
    path = made(tmp_path, "x.jsonl", b'{"a": 1}\n\n  \r\n{"b": [{"c": "d"}]}\r\n{"a": "1", "a": "2"}')
    assert values(path) == [{"a": 1}, {"b": [{"c": "d"}]}, {"a": "2"}]


def test_a_byte_order_mark_at_the_start_is_dropped(tmp_path: Path) -> None:
    for name, content in {
        "x.jsonl": '{"a": "1"}',
        "x.json": '[{"a": "1"}]',
        "x.csv": "a\n1\n",
        "x.tsv": "a\n1",
    }.items():
        assert values(made(tmp_path, name, content.encode("utf-8-sig"))) == [{"a": "1"}]


def test_each_row_knows_its_place(tmp_path: Path) -> None:
    # Lines are counted with the empty ones and those within a quoted field.
    assert places(made(tmp_path, "x.jsonl", b'{}\n\n{"a": "\xe2\x80\xa8"}\n{}')) == ["line 1", "line 3", "line 4"]
    assert places(made(tmp_path, "x.csv", b'a,b\n\n"1\n2",3\r\n4,5\n')) == ["line 3", "line 5"]
    assert places(made(tmp_path, "x.json", b'[{},\n\n{"a":\n1}, {}\n]')) == [
        "element 1, line 1",
        "element 2, line 3",
        "element 3, line 4",
    ]
    assert places(made(tmp_path, "y.json", b'\n{\n"a": 1}\n{} {}')) == ["line 2", "line 4", "line 4"]
    pandas.DataFrame({"a": [1, 2, 3]}).to_parquet(tmp_path / "x.parquet", row_group_size=2)
    assert places(tmp_path / "x.parquet") == ["row 1", "row 2", "row 3"]


def test_a_list_of_one_lines_and_objects_of_one_key_are_rows(tmp_path: Path) -> None:
    assert values(made(tmp_path, "x.json", b'{"messages": [{"role": "user", "content": "x"}]}')) != []
    assert values(made(tmp_path, "y.json", b'{"d": [{"a": 1}]}\n{"d": [{"a": 2}]}')) == [
        {"d": [{"a": 1}]},
        {"d": [{"a": 2}]},
    ]
    assert values(made(tmp_path, "z.json", b"[]")) == values(made(tmp_path, "e.json", b" \n")) == []


# ---------------------------------------------------------------- bad rows

BAD_ROWS = [
    ("x.jsonl", b'{"a": 1}\n{"a": \n{"a": 2}', "line 2: not JSON (Expecting value, column 6): each line must be one"),
    ("x.jsonl", b'{"a": 1}\n{\n{"a": 2}', "line 2: an object over several lines begins here: write it on one line"),
    ("x.jsonl", b'{"a": 1}\n// ...\n{"a": 2}', "line 2: a comment, which JSON does not have: take the line out, or"),
    ("x.jsonl", b'{"a": 1}\n # b\n{"a": 2}', "line 2: a comment, which JSON does not have"),
    ("x.jsonl", b'{"a": 1}\n3\n{"a": 2}', "line 2: not an object with columns (a number): mend or drop"),
    ("x.jsonl", b'{"a": 1}\n[{}]\n{"a": 2}', "line 2: not an object with columns (a list): mend or drop"),
    ("x.jsonl", b'{"a": 1}\n{} {}\n{"a": 2}', "line 2: not JSON (more text after the value, column 3)"),
    (
        "x.jsonl",
        b'{"a": 1}\n{"a": "\xff"}\n{"a": 2}',
        "line 2: not UTF-8 text (byte 0xff at column 8): save the file as",
    ),
    ("x.jsonl", b'{"a": 1}\n{"a": "\0"}\n{"a": 2}', "line 2: a NUL byte: the file is damaged"),
    ("x.jsonl", b'{"a": 1}\n\xef\xbb\xbf{"a": 3}\n{"a": 2}', "line 2: a byte order mark inside the file: files were"),
    ("x.jsonl", b'{"a": 1}\n{}\xef\xbb\xbf{"a": 3}\n{"a": 2}', "line 2: a byte order mark inside the file"),
    ("x.jsonl", b'{"a": 1}\n{"a": -Infinity}\n{"a": 2}', "line 2: a number that is not finite (-Infinity): mend"),
    ("x.jsonl", b'{"a": 1}\n{"a": [1e999]}\n{"a": 2}', "line 2: a number that is not finite (1e999): mend"),
    ("x.jsonl", b'{"a": 1}\n{"a": ' + b"[" * 99999 + b'\n{"a": 2}', "line 2: nested too deeply: each line must"),
    ("x.jsonl", b'{"a": 1}\n{"a": ' + b"7" * 5000 + b'}\n{"a": 2}', "line 2: an integer of over 4300 digits (7777777"),
    ("x.json", b'[{"a": 1},\n3, {"a": 2}]', "element 2, line 2: not an object with columns (a number)"),
    ("x.json", b'[{"a": 1},\n\n{"a": NaN}, {"a": 2}]', "element 2, line 3: a number that is not finite (NaN)"),
    ("x.json", b'{"a": 1}\n{"a"\n{"a": 2}\n', "line 2: not JSON (Expecting ':' delimiter, column 5)"),
    ("x.json", b'{\n"a": 1}\n"b"\n{"a": 2}\n', "line 3: not an object with columns (text)"),
    (
        "x.csv",
        b"a\n1\n1,2\n2\n",
        "line 3: another number of fields than the header (2 fields, the header has 1): quote",
    ),
    ("x.csv", b'a\n1\n"x\n\xff"\n2\n', "line 4: not UTF-8 text (byte 0xff at column 1): save the file as UTF-8"),
    ("x.csv", b'a\n1\n"x\n\0"\n2\n', "line 4: a NUL byte"),
    ("x.csv", b'a\n1\n"x\n"y\n2\n', "line 3: malformed CSV (',' expected after '\"'): write"),
    (
        "x.csv",
        b"a\n1\nx\ry\n2\n",
        r"line 3: a carriage return alone: end lines with \n or \r\n, quote the field, or pass --bad_rows skip",
    ),
]


@pytest.mark.parametrize("name, content, message", BAD_ROWS)
def test_a_bad_row_is_named_and_can_be_left_out(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = made(tmp_path, name, content)
    with pytest.raises(BadRow) as caught:
        values(path)
    assert str(caught.value).startswith(f"{path}, {message}")
    assert "\n" not in str(caught.value)
    skipped = Skipped()
    assert [int(row["a"]) for row in values(path, on_bad=skipped)] == [1, 2]
    assert skipped.counts.total() == 1


def test_parquet_text_that_is_not_utf8_is_one_bad_row(tmp_path: Path) -> None:
    broken = pyarrow.array([b"x", b"\xff", b"y"]).cast(pyarrow.binary())
    text = pyarrow.StringArray.from_buffers(3, *broken.buffers()[1:])
    pyarrow.parquet.write_table(pyarrow.table({"a": text}), tmp_path / "x.parquet")
    with pytest.raises(BadRow, match=r"x.parquet, row 2: not readable"):
        values(tmp_path / "x.parquet")
    assert values(tmp_path / "x.parquet", on_bad=Skipped()) == [{"a": "x"}, {"a": "y"}]


def test_a_header_may_ask_questions(tmp_path: Path) -> None:
    path = made(tmp_path, "x.csv", b"0,How good is it from 1 to 7?,TL;DR:\n1,2,3\n")
    assert values(path) == [{"0": "1", "How good is it from 1 to 7?": "2", "TL;DR:": "3"}]


def test_commas_and_semicolons(tmp_path: Path) -> None:
    path = made(tmp_path, "x.csv", b"prompt;label, short\na cat;a dog\n")
    with pytest.raises(
        BadRow, match=r"1 fields, the header has 2\): the fields seem to be separated by semicolons: wri"
    ):
        values(path)
    path = made(tmp_path, "y.csv", b"prompt,label; short\na, b, c; d\n")
    with pytest.raises(BadRow, match=r"3 fields, the header has 2\): quote fields that hold the delimiter, or pass"):
        values(path)


def test_a_comma_after_a_later_object(tmp_path: Path) -> None:
    path = made(tmp_path, "x.jsonl", b'{"a": 1}\n{"a": 2}, \n')
    with pytest.raises(BadRow, match="line 2: a comma after the object: take it off the end of the line, or pass"):
        values(path)


# ---------------------------------------------------------------- bad files

BAD_FILES = [
    (
        "x.jsonl",
        b'[\n{"a": 1}]',
        "x.jsonl, line 1: a JSON list begins here, and a .jsonl has one object a line: name the",
    ),
    ("x.jsonl", b'\n[{"a": 1}]', "x.jsonl, line 2: a JSON list begins here.*name the file .json"),
    ("x.jsonl", b'{\n"a": 1}', "x.jsonl, line 1: an object over several lines begins here.*tasks convert"),
    ("x.jsonl", b'{"a": 1,\n"b": 2}', "x.jsonl, line 1: an object over several lines begins here"),
    (
        "x.jsonl",
        b'{"a": 1},\n{"a": 2}\n',
        "x.jsonl, line 1: a comma after the object.*take the comma off the end of the l",
    ),
    ("x.json", b'{"a": 1},\n{"a": 2}\n', "x.json, line 1: a comma after an object that is in no list: take the commas"),
    (
        "x.csv",
        b"My cat ran off and I cried.,cat left\n",
        "x.csv, line 1: column 1 has no name but text.* as in prompt,",
    ),
    ("x.csv", b'id,"POST: a cat TL;DR:"\n', "x.csv, line 1: column 2 has no name but text: the first line must hold"),
    ("x.jsonl", "{}".encode("utf-16"), r"x.jsonl: UTF-16 text, UTF-8 is needed.*iconv -f UTF-16 -t UTF-8"),
    ("x.json", "[]".encode("utf-16-be"), r"x.json: UTF-16-BE text, UTF-8 is needed.*iconv"),
    ("x.csv", "ab,c".encode("utf-32"), r"x.csv: UTF-32 text, UTF-8 is needed.*iconv"),
    ("x.csv", "ab,c".encode("utf-16-le"), r"x.csv: UTF-16-LE text"),
    (
        "x.json",
        b'{"a":\n1}\n// x',
        "x.json, line 3: not JSON .a comment, which JSON does not have",
    ),
    ("x.json", b'[{"a": 1},\n', "x.json, element 2, line 2: not JSON .Expecting value.: a list of objects is needed"),
    ("x.json", b'[{"a": 1}\n{"a": 2}]', "x.json, element 1, line 2: not JSON .a comma or the closing ] is missing"),
    ("x.json", b'[{"a": 1},\n]', "x.json, element 2, line 2: not JSON"),
    ("x.json", b'[{"a": 1}]\n\n{}', "x.json, element 1, line 3: not JSON .text after the end of the list"),
    ("x.json", b'[{"a":\n"\xff"}]', "x.json, line 2: not UTF-8 text .byte 0xff.: save the file as UTF-8"),
    ("x.json", b'[{"a": 1},\n{"a":\n"\0"}]', "x.json, element 2, line 3: not JSON .a NUL byte"),
    (
        "x.json",
        b"{\n}\n\xef\xbb\xbf{}",
        "x.json, line 3: not JSON .a byte order mark inside the file: were files joined",
    ),
    ("x.json", b"[" * 99999, "x.json, element 1, line 1: nested too deeply"),
    ("x.json", b'{"data": [{"a": 1}]}', "x.json, line 1: one object, whose key 'data' holds the rows: write the list"),
    ("x.json", b'{\n"rows":\n[{"a": 1}]}\n', "x.json, line 1: one object, whose key 'rows' holds the rows"),
    ("x.csv", b'a,b\n1,"2\n3,4\n', "x.csv, line 2: a quote .*is not closed before the file ends: close it"),
    ("x.csv", b"a;b\n1;2\n", "x.csv, line 1: one column only, with semicolons in its name: write it with commas"),
    ("x.csv", b"a\tb\n1\t2\n", "x.csv, line 1: .*tabs in its name: name the file .tsv"),
    ("x.tsv", b"a,b\n1,2\n", "x.tsv, line 1: .*commas in its name: name the file .csv"),
    ("x.csv", b",a\n0,1\n", "x.csv, line 1: column 1 has no name in the header: name it .pandas: .*index=False"),
    ("x.csv", b"\na,b,a\n", "x.csv, line 2: 2 columns are called 'a': rename them"),
    (
        "x.csv",
        b'"a\nb",c\n',
        "x.csv, line 1: column 1 has no name but text: the first line must hold the columns' names",
    ),
    ("x.csv", b"a\xff,c\n", "x.csv, line 1: not UTF-8 text.*must be the header"),
    ("x.csv", b"a,b\r1,2\r", "x.csv, line 1: a carriage return alone.*must be the header"),
    ("x.parquet", b"nonsense", "x.parquet: not a whole Parquet file .*: write or fetch it anew"),
    ("x.parquet", b"", "x.parquet: not a whole Parquet file"),
    ("x.parquet.gz", b"nonsense", "x.parquet.gz: not a whole Parquet file"),
    (
        "x.jsonl",
        gzip.compress(b"{}", mtime=0),
        "x.jsonl: gzip-compressed, though its name does not say so: name it x.jsonl.gz",
    ),
    ("x.csv", b"PAR1" + b"x" * 40, "x.csv: a Parquet file: name it .parquet"),
    ("x.csv", b"PK\x03\x04 xlsx", "x.csv: a zip archive or a spreadsheet: unpack it, or save it as CSV"),
    ("x.jsonl", b"version https://git-lfs.github.com/spec/v1\noid", "x.jsonl: a Git LFS pointer.*git lfs pull"),
    ("x.jsonl", b"<!DOCTYPE html>", "x.jsonl: a web page in place of the data: fetch it again"),
    ("x.txt", b"hello", "x.txt: unknown kind of data file; known: .jsonl, .json, .csv, .tsv, .parquet, each also .gz"),
]


@pytest.mark.parametrize("name, content, message", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = made(tmp_path, name, content)
    skipped = Skipped()
    for arguments in ({}, {"on_bad": skipped}):  # what is wrong with a file cannot be skipped
        with pytest.raises(UserError, match=message) as caught:
            values(path, **arguments)
        assert not isinstance(caught.value, BadRow)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not skipped.counts


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.json.gz", "x.csv.gz", "x.parquet.gz"])
def test_a_torn_or_false_gzip_file(tmp_path: Path, name: str) -> None:
    row = b"a,b\n" if "csv" in name else b'{"a": 1}\n'
    whole = gzip.compress(row * 99)
    wrong_checksum = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    for content in (whole[:-9], whole[: len(whole) // 2], b"{}", wrong_checksum):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"not a whole gzip file .*: fetch it again or drop the \.gz"):
            values(tmp_path / name, on_bad=Skipped())


def test_duplicate_columns_of_parquet(tmp_path: Path) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["x"]), pyarrow.array(["y"])], names=["a", "a"])
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x.parquet: 2 columns are called 'a': rename them"):
        values(tmp_path / "x.parquet")


def test_missing_forbidden_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"x\.jsonl: no such file: check the path"):
        values(tmp_path / "x.jsonl")
    (tmp_path / "folder.csv.gz").mkdir()
    with pytest.raises(UserError, match=r"folder\.csv\.gz: cannot be read \(Is a directory\)"):
        values(tmp_path / "folder.csv.gz")

    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, os.strerror(13), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"x\.jsonl: cannot be read \(Permission denied\): mend that first"):
        values(tmp_path / "x.jsonl")


# ---------------------------------------------------------------- limits and memory


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("x.jsonl", b'{"a": 1}\n\n{"a": "%s"}\n', "x.jsonl, line 3 is over 100 bytes: .*one object or row a line"),
        ("x.jsonl.gz", b'{"a": 1}\n{"a": "%s"}', "x.jsonl.gz, line 2 is over 100 bytes"),
        ("x.json", b'[{"a": 1},\n{"a": "%s"}]', "x.json, element 2, line 2: a value of over 100 bytes: a list of obj"),
        ("x.json", b'{"a": 1}\n{"a": "%s"}\n', "x.json, line 2 is over 100 bytes"),
        ("x.json", b'{\n"a": "%s"}\n', "x.json, line 1: a value of over 100 bytes"),
        ("x.csv", b"a,b\n1,2\n1,%s\n", "x.csv, line 3 is over 100 bytes"),
        (
            "x.csv",
            b'a,b\n1,2\n1,"\n' + b"x\n" * 99,
            r"x.csv, line 3: the row that begins here is over 100 bytes: is a quo",
        ),
    ],
)
def test_what_is_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 100)
    path = made(tmp_path, name, content.replace(b"%s", b"x" * 100))
    with pytest.raises(UserError, match=message):
        values(path)


def test_a_row_of_parquet_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 1000)
    pandas.DataFrame({"a": ["x" * 900] * 5 + ["x" * 1001]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x.parquet, row 6 is over 1000 bytes: drop rows of that size"):
        values(tmp_path / "x.parquet")


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_may_be_as_long_as_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 100)
    line = b'{"a": "' + b"x" * 91 + b'"}'
    assert len(line) == 100
    assert len(values(made(tmp_path, "x.jsonl", line + end))) == 1
    with pytest.raises(UserError, match="line 1 is over 100 bytes"):
        values(made(tmp_path, "y.jsonl", line + b" " + end))


def peak_bytes(path: Path) -> int:
    """The most memory that Python held while a file was read."""
    tracemalloc.start()
    try:
        assert sum(1 for _ in iter_file(path, Skipped())) > 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


ROW = {"prompt": "word " * 5000, "label": "x"}  # 25 kB


@pytest.mark.parametrize(
    "name, head, row, between, tail",
    [
        ("x.jsonl", "", json.dumps(ROW), "\n", ""),
        ("x.json", "[", json.dumps(ROW), ", ", "]"),
        ("y.json", "", json.dumps(ROW, indent=1), "\n", ""),
        ("x.csv", "prompt,label\n", '"word\n' + ROW["prompt"] + '",x', "\n", ""),
    ],
)
def test_a_large_file_is_read_in_little_memory(
    tmp_path: Path, name: str, head: str, row: str, between: str, tail: str
) -> None:
    with (tmp_path / name).open("w") as file:
        file.write(head)
        for _ in range(2000):
            file.write(row + between)
        file.write(row + tail)
    assert (tmp_path / name).stat().st_size > 50e6
    assert peak_bytes(tmp_path / name) < 2e6


def test_a_large_parquet_file_is_read_in_little_memory(tmp_path: Path) -> None:
    # One row group, as most writers make, whose texts differ lest they are kept once in a dictionary.
    rows = {"prompt": [f"{number} " * 4000 for number in range(10_000, 12_000)]}
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table(rows), path, compression="none", use_dictionary=False)
    assert path.stat().st_size > 45e6
    assert peak_bytes(path) < 25e6  # a batch of 8 MiB as Python's text, and a buffer
    before = pyarrow.total_allocated_bytes()
    assert max(pyarrow.total_allocated_bytes() - before for _ in iter_file(path)) < 35e6


def test_a_100_mb_line_is_refused_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)  # a hole: NUL bytes, none of them a newline
    tracemalloc.start()
    with pytest.raises(UserError, match=r"x.jsonl, line 1 is over 16 MiB"):
        values(path)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
