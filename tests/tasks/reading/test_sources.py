from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.rows import BadRow, Skipped
from tasks.reading.sources import Source, open_source, splits_of
from trlx.utils.errors import UserError

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources are relative to the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, *rows: Any) -> None:
    """JSONL, or Parquet by the name, packed if the name says so; a row that is a number n is {"n": n}."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = [{"n": row} if isinstance(row, int) else row for row in rows]
    if ".parquet" in name:
        pandas.DataFrame(values).to_parquet(path)
        return
    data = "".join(json.dumps(row) + "\n" for row in values).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)


def numbers(source: str, split: str | None, **arguments: Any) -> list[int]:
    return [row.values["n"] for row in open_source(source, split, **arguments).rows()]


def named(n: int, split: Any) -> dict[str, Any]:
    return {"n": n, "split": split}


# ---------------------------------------------------------------- files by name


def test_a_file_is_the_split_whatever_it_is_called() -> None:
    write("train.jsonl", 1, 2)
    for split in ("train", "valid", None):
        assert numbers("train.jsonl", split) == [1, 2]
        assert open_source("train.jsonl", split).name == "train.jsonl"
    assert splits_of("train.jsonl") == []


def test_a_folder_has_a_file_a_split() -> None:
    write("d/tldr_train.jsonl", 1)
    write("d/valid.jsonl.gz", 2)
    write("d/notes.txt", 9)
    write("d/._train.jsonl", 9)
    assert [numbers("d", split) for split in ("train", "valid")] == [[1], [2]]
    assert open_source("d", "train").name == "d, split 'train'"
    assert [row.where for row in open_source("d", "train").rows()] == ["d/tldr_train.jsonl, line 1"]
    assert splits_of("d") == ["train", "valid"]
    with pytest.raises(
        UserError, match=r"d: no data file for split 'test' \(data files there: tldr_train.jsonl, valid"
    ):
        open_source("d", "test")
    with pytest.raises(UserError, match="d: no split named and several files fit"):
        open_source("d", None)


def test_the_only_file_of_a_folder_needs_no_split() -> None:
    write("d/posts.jsonl", 1)
    assert numbers("d", None) == [1]
    assert splits_of("d") == []
    with pytest.raises(UserError, match="no data file for split 'train'"):
        open_source("d", "train")
    os.mkdir("empty")
    with pytest.raises(UserError, match=r"empty: no data file \(data files there: none\)"):
        open_source("empty", None)


def test_a_folder_of_two_sets_is_told_apart_by_prefix() -> None:
    write("d/tldr_train.jsonl", 1, 2)
    write("d/comparisons_train.jsonl.gz", 3)
    write("d/comparisons_valid1.jsonl", 4)
    assert numbers("d/tldr", "train") == [1, 2]
    assert numbers("d/comparisons", "train") == [3]
    assert splits_of("d/comparisons") == ["train", "valid1"]
    with pytest.raises(UserError, match=r"several files fit .comparisons_train, tldr_train.*as in d/PREFIX"):
        open_source("d", "train")
    with pytest.raises(UserError, match=r"no data file for split 'valid' .*comparisons_train.jsonl.gz"):
        open_source("d/comparisons", "valid")


def test_the_plain_name_wins_and_shards_are_joined() -> None:
    write("d/data/train-00000-of-00002.parquet", 1)
    write("d/data/train-00001-of-00002.parquet", 2)
    write("d/data/old_train.parquet", 8, 9)
    assert numbers("d", "train") == [1, 2]
    assert splits_of("d") == ["train"]


def test_splits_are_listed_in_their_order() -> None:
    for name in ("zoo_test", "valid2", "dev", "train", "extra", "valid1", "validation"):
        write(f"d/{name}.jsonl", 1)
    assert splits_of("d") == ["train", "valid1", "valid2", "validation", "dev", "test"]


TWICE = ["train.json", "train.jsonl", "train.jsonl.gz"]


@pytest.mark.parametrize(
    "names",
    [
        TWICE,
        TWICE[1:],
        ["train-0-of-2.jsonl", "train-0-of-2.jsonl.gz"],
        ["train-0-of-2.jsonl", "train.jsonl"],
        ["train-0-of-2.jsonl", "train-1-of-3.jsonl"],
    ],
)
@pytest.mark.parametrize("source", ["d", "d/*"])
def test_the_same_file_twice_is_not_read_twice(names: list[str], source: str) -> None:
    for name in names:
        write(f"d/{name}", 1, 2)
    write("d/valid.jsonl", 3)
    with pytest.raises(UserError) as caught:
        open_source(source, "train")
    assert str(caught.value) == (
        f"{source}: 'train' is there more than once ({', '.join(names)}), and only shards such as "
        "train-00000-of-00002.jsonl are read together: move all but one elsewhere, or name one file"
    )
    assert numbers(f"d/{names[-1]}", "train") == [1, 2]
    if source == "d":
        assert numbers(source, "valid") == [3]


def test_files_of_rows_with_splits_are_not_read_twice() -> None:
    for name in ("batch3.json", "batch3.json.gz"):
        write(f"d/{name}", named(1, "train"))
    for split in ("train", None):
        with pytest.raises(UserError, match=r"'batch3' is there more than once \(batch3.json, batch3.json.gz\)"):
            open_source("d", split)


def test_a_split_called_nearly_so_is_named() -> None:
    for name in ("d/Train", "d/validation", "e/x_valid1", "e/x_valid2", "e/x_test"):
        write(f"{name}.jsonl", 1)
    write("rows.jsonl", named(1, "validation"), named(2, "train"))
    asked = {
        ("d", "train"): "did you mean 'Train'? Name that split, or add the file",
        ("d", "valid"): "did you mean 'validation'? Name that split, or add the file",
        ("e", "valid"): "did you mean 'valid1' or 'valid2'? Name that split",
        ("e/x", "valid"): "did you mean 'valid1' or 'valid2'? Name that split",
        ("e", "testing"): "did you mean 'test'?",
        ("d/*", "val"): "did you mean 'validation'? Name that split",
        ("rows.jsonl", "VALID"): "did you mean 'validation'?; --columns.split '' ignores",
    }
    for (source, split), message in asked.items():
        with pytest.raises(UserError) as caught:
            numbers(source, split)
        assert message in str(caught.value)
    with pytest.raises(UserError, match=r"add it, or name another$"):
        open_source("d", "test")
    assert numbers("d", "Train") == [1]
    assert splits_of("d") == ["Train", "validation"]


# ---------------------------------------------------------------- several files


def test_several_files_and_patterns_are_joined_in_their_order() -> None:
    for number, name in enumerate(("a/x.jsonl", "a/y.jsonl.gz", "b/x.parquet")):
        write(name, number)
    write("a/readme.md", 9)
    assert numbers("b/x.parquet, a/x.jsonl", "train") == [2, 0]
    assert numbers("a/*", None) == [0, 1]
    assert numbers("a/y*,**/*.parquet,a/*", "train") == [1, 2, 0]  # each file once
    assert numbers("a/[xq].jsonl", "valid") == [0]


def test_several_files_called_after_splits_are_chosen_by_name() -> None:
    # Else the validation rows would be trained on.
    write("a/tldr_train.jsonl", 1)
    write("a/tldr_valid.jsonl", 2)
    write("b/train.jsonl", 3)
    assert numbers("*/*.jsonl", "train") == [1, 3]
    assert numbers("a/tldr_valid.jsonl,b/train.jsonl", "valid") == [2]
    assert splits_of("*/*.jsonl") == ["train", "valid"]
    assert numbers("*/*.jsonl", None) == [1, 2, 3]
    with pytest.raises(UserError, match=r"\*/\*.jsonl: no file is called after split 'test'"):
        open_source("*/*.jsonl", "test")


def test_several_files_of_which_some_are_called_after_splits() -> None:
    write("train.jsonl", 1)
    write("notes.jsonl", 2)
    with pytest.raises(
        UserError, match=r"'train.jsonl' is called after a split and 'notes.jsonl' is not: give the file"
    ):
        open_source("*.jsonl", "valid")
    assert numbers("*.jsonl", None) == [2, 1]


@pytest.mark.parametrize("source", ["missing.jsonl", "./missing", "a/b/c", "missing.csv.gz", "x.jsonl,missing", "x,"])
def test_a_missing_path_is_not_taken_for_a_hub_id(source: str) -> None:
    write("x.jsonl", 1)
    write("x", 1)
    with pytest.raises(UserError, match=r"no such file.*relative to the current folder"):
        open_source(source, "train")


def test_a_pattern_that_nothing_fits_and_no_source() -> None:
    with pytest.raises(UserError, match=r"no data file fits the pattern: q\*.json"):
        open_source("q*.json", None)
    with pytest.raises(UserError, match="no data source given"):
        open_source(" ", None)
    with pytest.raises(UserError, match="'~nobody-here/x' cannot be looked up"):
        open_source("~nobody-here/x", None)
    with pytest.raises(UserError, match="cannot be looked up"):
        open_source("x" * 5000, None)
    with pytest.raises(UserError, match="no path has a NUL character"):
        open_source("a\0b", None)


# ---------------------------------------------------------------- the column of the split


def comparisons(folder: str) -> None:
    """As OpenAI's comparisons lie: JSON lines called .json, one file of which seems to be called after a split."""
    write(f"{folder}/batch3.json", named(1, "train"), named(2, "valid1"))
    write(f"{folder}/batch22.json", named(3, "valid2"), named(4, "train"))
    write(f"{folder}/edit_b2_eval_test.json", named(5, "valid1"), named(6, "train"))


@pytest.mark.parametrize("source", ["c", "c/*.json", "c/batch22.json,c/batch3.json,c/edit_b2_eval_test.json"])
def test_rows_name_their_split_where_files_do_not(source: str) -> None:
    comparisons("c")
    assert numbers(source, "train") == [4, 1, 6]
    assert numbers(source, "valid1") == [2, 5]
    assert numbers(source, None) == [3, 4, 1, 2, 5, 6]
    assert splits_of(source) == ["train", "valid1", "valid2"]
    assert open_source(source, "train").name == f"{source}, split 'train'"
    with pytest.raises(UserError) as caught:
        numbers(source, "test")
    assert str(caught.value) == (
        f"{source}, split 'test': no row of this split; column 'split' has: train, valid1, valid2 "
        "(choose one; --columns.split '' ignores the column)"
    )


def test_the_rows_of_a_single_file_name_their_split() -> None:
    write("x.jsonl", named(1, "train"), named(2, "valid"))
    assert numbers("x.jsonl", "valid") == [2]
    assert numbers("x.jsonl", "valid", split_column="") == numbers("x.jsonl", "train", split_column=None) == [1, 2]
    assert splits_of("x.jsonl") == ["train", "valid"] and splits_of("x.jsonl", None) == []
    write("y.jsonl", {"n": 1, "meta": {"part": "a"}}, {"n": 2, "meta": {"part": "b"}})
    assert numbers("y.jsonl", "b", split_column="meta.part") == [2]
    assert splits_of("y.jsonl", "meta.part") == ["a", "b"]


def test_a_file_called_after_its_split_is_all_of_it() -> None:
    write("d/train.jsonl", named(1, "train"), named(2, "valid"))
    write("d/batch3.jsonl", named(3, "valid"))
    assert numbers("d", "train") == [1, 2]
    assert numbers("d", "valid") == [3]  # not row 2, which is trained on
    assert splits_of("d") == ["train", "valid"]


def test_a_file_without_the_column_beside_files_with_it() -> None:
    write("d/a_test.jsonl", 1)
    write("d/batch3.jsonl", named(2, "train"))
    with pytest.raises(BadRow, match=r"d/a_test.jsonl, line 1: column 'split' names a split in some rows only"):
        numbers("d", "train")
    assert [row.values["n"] for row in open_source("d", "train").rows(Skipped())] == [2]


def test_a_file_that_is_none_of_the_data_does_no_harm() -> None:
    write("d/train.jsonl", 1)
    write("d/a_train.jsonl", 1)
    (Path("d") / "dataset_infos.json").write_text('{"default": [\n')
    write("d/notes.jsonl", 7)
    assert numbers("d", "train") == [1]
    assert splits_of("d") == ["train"]


@pytest.mark.parametrize("value", [3, None, " ", {"a": 1}])
def test_a_column_that_names_no_split_is_not_looked_at(value: Any) -> None:
    write("x.jsonl", named(1, value), named(2, value))
    assert numbers("x.jsonl", "train") == [1, 2]
    assert splits_of("x.jsonl") == []


@pytest.mark.parametrize("first, second", [("train", None), (None, "train"), (None, "valid")])
def test_a_split_in_some_rows_only(first: str | None, second: str | None) -> None:
    write("x.jsonl", named(1, first), named(2, second))
    source = open_source("x.jsonl", "train")
    with pytest.raises(BadRow, match=r"x.jsonl, line 2: column 'split' names a split in some rows only.*'' ignores"):
        list(source.rows())
    skipped = Skipped()
    assert [row.values["n"] for row in source.rows(skipped)] == [1]
    assert skipped.counts.total() == 1


# ---------------------------------------------------------------- nothing there


@pytest.mark.parametrize(
    "name, content", [("x.jsonl", b"\n\n"), ("x.csv", b"a,b\n"), ("x.json", b"[]"), ("x.csv", b"")]
)
def test_a_source_without_rows(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(UserError, match=f"^{name} holds no rows: give a file or split that is not empty$"):
        list(open_source(name, "train").rows())


def test_a_source_of_bad_rows_only() -> None:
    Path("x.jsonl").write_text("1\n2\n")
    with pytest.raises(UserError, match=r"x.jsonl holds no usable row \(2 rows skipped: 2 not an object.*\): mend"):
        list(open_source("x.jsonl", "train").rows(Skipped()))


def test_a_file_that_vanishes() -> None:
    write("d/train.jsonl", 1)
    source = open_source("d", "train")
    os.unlink("d/train.jsonl")
    with pytest.raises(UserError, match=r"d/train.jsonl: no such file"):
        list(source.rows())
    with pytest.raises(UserError, match=r"d/train.jsonl: no such file"):
        source.content_hash()


# ---------------------------------------------------------------- the datasets library


def test_a_folder_saved_with_splits() -> None:
    tables = {name: datasets.Dataset.from_list([{"n": n}]) for n, name in enumerate(("valid", "train"))}
    datasets.DatasetDict(tables).save_to_disk("saved")
    assert numbers("saved", "valid") == [0]
    assert [row.where for row in open_source("saved", "train").rows()] == ["saved, split 'train', row 1"]
    assert splits_of("saved") == ["train", "valid"]
    with pytest.raises(UserError, match="saved: no split 'test'; known: valid, train: choose one"):
        open_source("saved", "test")
    with pytest.raises(UserError, match=r"known: valid, train: did you mean 'valid'\?"):
        open_source("saved", "validation")
    with pytest.raises(UserError, match="saved: several splits and none named; known"):
        open_source("saved", None)


def test_a_folder_saved_without_splits() -> None:
    datasets.Dataset.from_list([named(1, "train"), named(2, "valid")]).save_to_disk("saved")
    assert numbers("saved", None) == [1, 2]
    assert numbers("saved", "valid") == [2]
    assert splits_of("saved") == ["train", "valid"]
    Path("saved/state.json").write_text("{")
    with pytest.raises(UserError, match="saved: not a whole save_to_disk folder"):
        open_source("saved", None)


def from_hub(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[tuple[str, ...]]:
    """Puts `answer` in the hub's place; returns what it is asked for."""
    asked = []

    def load(*names: str) -> Any:
        asked.append(names)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_a_set_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    table = datasets.Dataset.from_list([{"n": 1}, {"n": 2}])
    asked = from_hub(monkeypatch, datasets.DatasetDict({"train": table}))
    assert numbers("some/set", "train") == numbers("some/set:part", None) == [1, 2]
    assert asked == [("some/set",), ("some/set", "part")]
    assert splits_of("some/set") == ["train"]
    assert open_source("some/set", "train").name == "some/set, split 'train'"
    with pytest.raises(UserError, match="some/set: no split 'valid'; known: train"):
        open_source("some/set", "valid")


@pytest.mark.parametrize(
    "error, message",
    [
        (
            ConnectionError("Couldn't reach it\nmore"),
            "'some/set' is no local path, and no hub can be reached .Couldn't re",
        ),
        (TimeoutError(), "no hub can be reached .TimeoutError."),
        (
            ValueError("Config name is missing. Pick one:\n- a"),
            "nor a data set that the hub gives us .Config name is mi",
        ),
        (
            FileNotFoundError("Dataset 'some/set' doesn't exist"),
            "neither a local path nor .* doesn't exist.: check the n",
        ),
    ],
)
def test_what_the_hub_says(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    from_hub(monkeypatch, error)
    with pytest.raises(UserError, match=message) as caught:
        open_source("some/set", "train")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("point at local files with --data FOLDER_OR_FILE")


def test_an_error_that_came_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    class ConnectError(Exception):
        """As an HTTP library has one."""

    error = RuntimeError("something odd")
    error.__cause__ = ConnectError("no route")
    from_hub(monkeypatch, error)
    with pytest.raises(UserError, match="no hub can be reached"):
        open_source("some/set", "train")


def test_without_the_hub() -> None:
    # The real library, which every test has in offline mode.
    with pytest.raises(
        UserError, match=r"'nobody/nothing:x' is no local path, and no hub can be reached .* --data FOLDER"
    ):
        open_source("nobody/nothing:x", "train")


# ---------------------------------------------------------------- hashes


def hashed(source: str, split: str | None = None) -> str:
    return open_source(source, split).content_hash()


def test_the_hash_is_of_the_content_not_of_its_place() -> None:
    write("a/train.jsonl", 1, 2)
    shutil.copytree("a", "b/c")
    shutil.copy("a/train.jsonl", "x.jsonl")
    assert hashed("a", "train") == hashed("b/c", "train") == hashed("x.jsonl", "train") == hashed("x.jsonl")
    assert len(hashed("x.jsonl")) == 64
    data = bytearray(Path("x.jsonl").read_bytes())
    data[6] ^= 1
    Path("x.jsonl").write_bytes(data)
    assert hashed("x.jsonl") != hashed("a", "train")


def test_the_hash_is_of_what_is_selected() -> None:
    comparisons("c")
    assert len({hashed("c", split) for split in ("train", "valid1", None)}) == 3
    shutil.copytree("c", "d")
    assert hashed("c", "train") == hashed("d/*.json", "train")


def test_the_hash_knows_where_a_file_ends_and_its_format() -> None:
    write("a.csv", 1, 2)
    write("b.csv", 3)
    write("c.csv", 1)
    write("d.csv", 2, 3)
    shutil.copy("a.csv", "a.tsv")
    assert len({hashed("a.csv,b.csv"), hashed("c.csv,d.csv"), hashed("b.csv,a.csv"), hashed("a.tsv,b.csv")}) == 4


def test_the_hash_of_saved_tables() -> None:
    datasets.Dataset.from_list([{"text": "abcabc"}]).save_to_disk("saved")
    shutil.copytree("saved", "copy")
    assert hashed("saved") == hashed("copy")
    (arrow,) = Path("copy").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes().replace(b"abcabc", b"abcabd"))
    assert numbers_of_text("copy") == ["abcabd"]
    assert hashed("saved") != hashed("copy")


def numbers_of_text(source: str) -> list[str]:
    return [row.values["text"] for row in open_source(source, None).rows()]


# ---------------------------------------------------------------- together

STEMS = ["train", "valid", "valid1", "test", "tldr_train", "tldr_test", "old_train", "batch3", "batch4", "x_eval"]


@given(
    st.dictionaries(st.sampled_from(STEMS), st.lists(st.sampled_from(["train", "valid", "q"]), min_size=1), min_size=1)
)
def test_every_listed_split_opens_or_says_why(tmp_path_factory: pytest.TempPathFactory, layout: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("layout")
    for stem, splits in layout.items():
        write(f"{folder}/{stem}.jsonl", *(named(n, split) for n, split in enumerate(splits)))
    for split in splits_of(str(folder)):
        try:
            rows = list(open_source(str(folder), split).rows())
        except UserError as error:
            assert "several files fit" in str(error) and len(layout) > 1
        else:
            assert rows


def test_the_readers_are_cheap_to_import() -> None:
    heavy = {"torch", "transformers", "datasets", "pandas", "pyarrow"}
    code = f"import sys, tasks.reading.sources; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_real_data(shared: Callable[[str], Path]) -> None:
    folder = shared("openai_summarize_fixture")
    assert splits_of(f"{folder}/comparisons") == ["train", "valid1", "valid2", "test"]
    assert splits_of(f"{folder}/tldr") == ["train", "valid", "test"]
    source: Source = open_source(f"{folder}/tldr", "valid")
    assert [set(row.values) >= {"prompt", "label"} for row in source.rows()] == [True] * 50
    assert sum(1 for _ in open_source(str(shared("reddit_tldr_2013")), "train").rows()) == 9933
