"""Rows from wherever they lie: a hub id, a local directory, or one JSONL, JSON, CSV or Parquet file (each
also .gz).

Local files are parsed here rather than by `datasets.load_dataset`, so that a malformed line is named by its
number and nothing is written to a cache. Left out: streaming; a split is held in memory (a hundred thousand
posts are 0.2 GB).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets

from trlx.utils.errors import UserError

Row = dict[str, Any]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def read_rows(source: str, split: str | None) -> datasets.Dataset:
    """All rows of one split, every column kept; a column absent from a row is None there.

    Args:
        source: in this order: a file (it is the split, whatever `split` says); a directory, in which split
            `x` is the file called `x.*` or `*_x.*` (or its shards `x-00000-of-00002.*`); a prefix
            `DIR/name`, for the files `name_x.*` where a directory holds several sets; else a hub id.
        split: "train", "valid", ...; None when there is only one.

    Raises: UserError naming the file, line or split, and the remedy.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return _dataset(_read_file(path), source)
    if path.is_dir():
        saved = _saved_dataset(path, split)
        return saved if saved is not None else _read_files(_files_of_split(path, "", split), source)
    if _data_files(path.parent, path.name + "_"):
        return _read_files(_files_of_split(path.parent, path.name + "_", split), source)
    if _format_of(path) or not _HUB_ID.fullmatch(source):
        raise UserError(f"no such file or directory: {source} (data paths are relative to the current folder)")
    return _from_hub(source, split)


def _dataset(rows: list[Row], source: str) -> datasets.Dataset:
    if not rows:
        raise UserError(f"{source} holds no rows: give a file or split that is not empty")
    columns = dict.fromkeys(name for row in rows for name in row)
    try:
        return datasets.Dataset.from_dict({name: [row.get(name) for row in rows] for name in columns})
    except Exception as error:  # pyarrow has many classes for "these values do not share a type"
        raise UserError(f"{source}: a column mixes types ({str(error).splitlines()[0]}): give it one type") from error


# ---------------------------------------------------------------- one file


def _read_files(paths: list[Path], source: str) -> datasets.Dataset:
    return _dataset([row for path in paths for row in _read_file(path)], source)


def _format_of(path: Path) -> str | None:
    """The reader's name for a file name, ignoring a final `.gz`; None when it is no data file."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return suffix if suffix in _READERS else None


def _read_file(path: Path) -> list[Row]:
    kind = _format_of(path)
    if kind is None:
        raise UserError(f"{path}: unknown kind of data file; known: {', '.join(_READERS)}, each also .gz")
    data = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: not a whole gzip file ({error}): fetch it again or drop the .gz") from error
    return _READERS[kind](data, path)


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text: save the file as UTF-8") from error


def _read_jsonl(data: bytes, path: Path) -> list[Row]:
    # Split at "\n" alone: str.splitlines would also break at characters that JSON strings may hold unescaped.
    lines = _text(data, path).split("\n")
    return [_json_object(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()]


def _json_object(line: str, path: Path, number: int) -> Row:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number}: not JSON ({error.msg}): each line must be one object") from error
    return _checked(value, path, f"line {number}")


def _checked(value: Any, path: Path, where: str) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"{path}, {where}: a {type(value).__name__} where an object with the columns is needed")
    return value


def _read_json(data: bytes, path: Path) -> list[Row]:
    """A list of objects; a file with this name that is JSONL inside is read as such."""
    text = _text(data, path)
    if not text.lstrip().startswith("["):
        return _read_jsonl(data, path)
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not JSON ({error.msg}): a list of objects is needed") from error
    return [_checked(value, path, f"element {number}") for number, value in enumerate(values, start=1)]


def _read_csv(data: bytes, path: Path) -> list[Row]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.DictReader(io.StringIO(_text(data, path), newline=""), strict=True)
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                expected = len(reader.fieldnames or [])
                raise UserError(f"{path}, line {reader.line_num}: not {expected} fields as in the header: quote commas")
            rows.append(dict(row))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: malformed CSV ({error})") from error
    return rows


def _read_parquet(data: bytes, path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error


_READERS: dict[str, Callable[[bytes, Path], list[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


# ---------------------------------------------------------------- directories and the hub


def _data_files(folder: Path, prefix: str) -> list[Path]:
    """Data files of a folder, or of its `data/` when itself has none, whose names begin with `prefix`."""
    for place in (folder, folder / "data"):
        entries: Iterable[Path] = sorted(place.iterdir()) if place.is_dir() else []
        found = [item for item in entries if item.is_file() and _format_of(item) and item.name.startswith(prefix)]
        if found:
            return found
    return []


def _stem(path: Path) -> str:
    """`a/tldr_train-00000-of-00002.jsonl.gz` → `tldr_train`."""
    stem = Path(path.name.lower().removesuffix(".gz")).stem
    return re.sub(r"-\d+-of-\d+$", "", path.name[: len(stem)])


def _files_of_split(folder: Path, prefix: str, split: str | None) -> list[Path]:
    files = _data_files(folder, prefix)
    names = ", ".join(sorted({path.name for path in files})) or "none"
    stems = {
        _stem(path)
        for path in files
        if split is None or _stem(path) == prefix + split or (not prefix and _stem(path).endswith("_" + split))
    }
    # The plain name wins, so that a stray `old_train` beside `train` does no harm.
    stems = {split} if split in stems else stems
    if not stems:
        raise UserError(f"{folder}: no data file for split '{split}' (data files there: {names})")
    if len(stems) > 1:
        wanted = f"split '{split}'" if split else "no split named"
        raise UserError(
            f"{folder}: {wanted} and several files fit ({', '.join(sorted(stems))}): "
            f"name the split and a prefix, as in {folder / 'PREFIX'}, or one file"
        )
    return [path for path in files if _stem(path) in stems]


def _saved_dataset(folder: Path, split: str | None) -> datasets.Dataset | None:
    """What `save_to_disk` of the datasets library wrote into a folder; None when it wrote nothing there."""
    if not any((folder / name).exists() for name in ("dataset_dict.json", "state.json")):
        return None
    loaded = datasets.load_from_disk(str(folder))
    return _choose(loaded, split, str(folder))


def _from_hub(source: str, split: str | None) -> datasets.Dataset:
    try:
        loaded = datasets.load_dataset(source)
    except Exception as error:  # the hub's client raises dozens of classes, of several libraries
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"'{source}' is neither a local path nor a data set that the hub gives us ({reason}): "
            "check the name, or give a local file or directory"
        ) from error
    return _choose(loaded, split, source)


def _choose(loaded: Any, split: str | None, source: str) -> datasets.Dataset:
    if isinstance(loaded, datasets.DatasetDict):
        if split is None and len(loaded) == 1:
            split = next(iter(loaded))
        if split not in loaded:
            raise UserError(f"{source}: no split '{split}'; known: {', '.join(map(str, loaded))}")
        loaded = loaded[split]
    if len(loaded) == 0:
        raise UserError(f"{source} holds no rows: give a file or split that is not empty")
    return loaded
