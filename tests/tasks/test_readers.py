from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import datasets
import pandas
import pytest

from tasks.readers import read_rows
from trlx.utils.errors import UserError

ROWS = [
    {"prompt": 'a, "b"\nc\u2028d', "label": "x"},
    {"prompt": "é日", "label": "y"},
]


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write rows in the format that the name says."""
    name = path.name.removesuffix(".gz")
    plain = path.with_name(name)
    if name.endswith(".jsonl"):
        plain.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif name.endswith(".json"):
        plain.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    elif name.endswith(".csv"):
        with plain.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        pandas.DataFrame(rows).to_parquet(plain)
    if path != plain:
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str, packed: str) -> None:
    path = write(tmp_path / f"train{suffix}{packed}", ROWS)
    assert read_rows(str(path), "anything").to_list() == ROWS
    assert read_rows(str(tmp_path), "train").to_list() == ROWS
    assert read_rows(str(tmp_path), None).to_list() == ROWS


def test_a_directory_of_two_sets_is_told_apart_by_prefix(tmp_path: Path) -> None:
    write(tmp_path / "tldr_train.jsonl", ROWS)
    write(tmp_path / "comparisons_train.jsonl.gz", ROWS[:1])
    assert len(read_rows(str(tmp_path / "tldr"), "train")) == 2
    assert len(read_rows(str(tmp_path / "comparisons"), "train")) == 1
    with pytest.raises(UserError, match=r"several files fit .comparisons_train, tldr_train.*prefix"):
        read_rows(str(tmp_path), "train")
    with pytest.raises(UserError, match=r"no data file for split 'valid' .*comparisons_train.jsonl.gz"):
        read_rows(str(tmp_path / "comparisons"), "valid")


def test_the_plain_name_wins_and_shards_are_joined(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "train-00000-of-00002.parquet", ROWS[:1])
    write(folder / "train-00001-of-00002.parquet", ROWS[1:])
    write(folder / "old_train.parquet", ROWS * 2)
    assert read_rows(str(tmp_path), "train").to_list() == ROWS


def test_a_folder_saved_by_datasets(tmp_path: Path) -> None:
    datasets.DatasetDict({"valid": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "saved"))
    assert read_rows(str(tmp_path / "saved"), "valid").to_list() == ROWS
    with pytest.raises(UserError, match="no split 'train'; known: valid"):
        read_rows(str(tmp_path / "saved"), "train")


def test_columns_that_some_rows_lack_are_none(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n{"b": [{"c": "d"}]}\n')
    assert read_rows(str(path), None).to_list() == [{"a": 1, "b": None}, {"a": None, "b": [{"c": "d"}]}]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("x.jsonl", b'{"a": 1}\n{"a": \n', "x.jsonl, line 2: not JSON"),
        ("x.jsonl", b'{"a": 1}\n3\n', "x.jsonl, line 2: a int where an object"),
        ("x.jsonl", b'{"a": "b"}\n{"a": "\xff"}\n', "x.jsonl, line 2: not UTF-8"),
        ("x.jsonl", b"\n\n", "holds no rows"),
        ("x.jsonl", b'{"a": 1}\n{"a": "b"}\n', "a column mixes types"),
        ("x.json", b'[{"a": 1},\n', "x.json, line 2: not JSON"),
        ("x.csv", b"a,b\n1,2,3\n", "x.csv, line 2: not 2 fields"),
        ("x.csv", b"a,b\n1\n", "x.csv, line 2: not 2 fields"),
        ("x.csv", b'a,b\n1,"2\n', "malformed CSV"),
        ("x.csv", b"a,b\n", "holds no rows"),
        ("x.parquet", b"nonsense", "not a Parquet file"),
        ("x.jsonl.gz", b"nonsense", "not a whole gzip file"),
        ("x.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 99)[:-9], "not a whole gzip file"),
        ("x.txt", b"hello", "unknown kind of data file; known: .jsonl, .json, .csv, .parquet"),
    ],
)
def test_bad_files_are_named_on_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_rows(str(tmp_path / name), None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["missing.jsonl", "./missing", "a/b/c", "missing.csv.gz"])
def test_a_missing_path_is_not_taken_for_a_hub_id(source: str) -> None:
    with pytest.raises(UserError, match=f"no such file or directory: {source}"):
        read_rows(source, "train")


def test_an_unreachable_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ConnectionError(f"cannot reach the hub for {name}\nsecond line")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=r"'some/set' is neither a local path nor .*cannot reach the hub") as caught:
        read_rows("some/set", "train")
    assert "\n" not in str(caught.value)
