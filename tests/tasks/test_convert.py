from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.convert import ConvertOptions, convert, main
from tasks.reading.formats import FORMATS, Kind
from tasks.tldr import TASK
from trlx.utils.errors import UserError

REPOSITORY = Path(__file__).parents[2]
FIXTURES = Path(__file__).parent / "fixtures"
POSTS = str(FIXTURES / "tldr_3_filtered")
COMPARISONS = str(FIXTURES / "comparisons" / "*.json")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(data: str | Path, to: str, out: Path, **options: Any) -> str:
    return str(convert(ConvertOptions(data=str(data), to=to, out=str(out), **options)))


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---------------------------------------------------------------- what comes out


def test_a_folder_of_splits(tmp_path: Path) -> None:
    assert run(POSTS, "carperai-posts", tmp_path / "out") == "3 written (train 2, valid 1)"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["train.jsonl", "valid.jsonl"]
    assert lines(tmp_path / "out" / "valid.jsonl") == [
        {
            "id": "t3_fix03",
            "prompt": "SUBREDDIT: r/cooking\nTITLE: Soup too salty\nPOST: Guests come at eight, the soup is far too "
            "salty, and the shops are shut. I have potatoes, rice, cream and an hour.\nTL;DR: ",
            "label": "Soup is too salty and guests come in an hour, what can I do?",
        }
    ]
    assert TASK.load_posts(str(tmp_path / "out"), "train") == TASK.load_posts(POSTS, "train")


def test_splits_told_by_a_column(tmp_path: Path) -> None:
    assert run(COMPARISONS, "pairs", tmp_path / "out", files=".parquet") == "5 written (train 2, valid1 3)"
    for split in ("train", "valid1"):
        assert TASK.load_pairs(str(tmp_path / "out"), split) == TASK.load_pairs(COMPARISONS, split)
    assert run(COMPARISONS, "pairs", tmp_path / "x.csv", split="valid1") == "3 written"
    assert run(COMPARISONS, "pairs", tmp_path / "all.jsonl", columns={"split": ""}) == "5 written"
    found = [row["split"] for row in lines(tmp_path / "all.jsonl")]
    assert sorted(found) == ["train", "train", "valid1", "valid1", "valid1"]


@pytest.mark.parametrize("kind", [".jsonl", ".csv.gz", ".parquet"])
@pytest.mark.parametrize("what, source", [("posts", POSTS), ("pairs", COMPARISONS)])
def test_every_format_to_every_other_and_back(tmp_path: Path, kind: str, what: Kind, source: str) -> None:
    def records(data: Any) -> list[tuple[Any, ...]]:
        if what == "posts":
            return [(post.id, post.prompt, post.summary, post.extra) for post in TASK.load_posts(str(data), "train")]
        kept = ("batch", "confidence", "worker", "policy_chosen", "note_rejected", "split")
        pairs = TASK.load_pairs(str(data), "train")[0]
        return [
            (pair.id, pair.prompt, pair.chosen, pair.rejected, {name: pair.extra.get(name) for name in kept})
            for pair in pairs
        ]

    forms = [form for form in FORMATS.values() if form.kind == what and not (form.nested and "csv" in kind)]
    before = records(source)
    assert len(before) == 2
    for form in forms:
        run(source, form.name, tmp_path / f"{form.name}{kind}", split="train")
        assert records(tmp_path / f"{form.name}{kind}") == before
    for one, other in itertools.permutations(forms, 2):
        run(tmp_path / f"{one.name}{kind}", other.name, tmp_path / f"x{kind}", split="train", overwrite=True)
        assert records(tmp_path / f"x{kind}") == before
        run(tmp_path / f"x{kind}", one.name, tmp_path / f"y{kind}", split="train", overwrite=True)
        if kind != ".parquet":  # whose bytes depend on the order of columns
            assert records(tmp_path / f"y{kind}") == before


def test_columns_and_limit(tmp_path: Path) -> None:
    columns = {"summary": "reference"}
    assert run(FIXTURES / "posts.csv", "trl-completions", tmp_path / "x.jsonl", columns=columns, limit=2) == "2 written"
    first, second = lines(tmp_path / "x.jsonl")
    assert first["completion"].startswith(" Neighbour's goat ate") and first["confidence"] == 7
    assert "confidence" not in second


def test_pretty_printed_json_can_be_converted(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "label": "a"}, {"prompt": "q", "label": "b"}]
    (tmp_path / "x.json").write_text(json.dumps(rows, indent=2))
    run(tmp_path / "x.json", "trl-completions", tmp_path / "y.jsonl")
    assert [row["completion"] for row in lines(tmp_path / "y.jsonl")] == [" a", " b"]


def test_real_data_survive(tmp_path: Path, shared: Callable[[str], Path]) -> None:
    source = str(shared("openai_summarize_fixture") / "comparisons")
    run(source, "openai-comparisons", tmp_path / "a")
    run(tmp_path / "a", "trl-chat-pairs", tmp_path / "b", files=".parquet")
    for split in ("train", "valid1", "valid2", "test"):
        before = [(pair.prompt.split(), pair.chosen, pair.rejected) for pair in TASK.iter_pairs(source, split)]
        after = [
            (pair.prompt.split(), pair.chosen, pair.rejected) for pair in TASK.iter_pairs(str(tmp_path / "b"), split)
        ]
        assert before == after and before


# ---------------------------------------------------------------- rows that are left out


def test_bad_rows_stop_or_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "POST: a\nTL;DR:", "label": "s"},
        {"prompt": "plain", "label": "s"},
        {"prompt": "p", "label": ""},
    ]
    data, out = jsonl(tmp_path / "x.jsonl", *rows), tmp_path / "y.jsonl"
    with pytest.raises(UserError, match=r"x\.jsonl, line 2: the prompt does not consist of SUBREDDIT"):
        run(data, "openai-posts", out)
    assert list(tmp_path.iterdir()) == [data]
    said = run(data, "openai-posts", out, bad_rows="skip")
    assert said == (
        "1 written; 2 rows skipped: "
        f"1 the prompt does not consist of SUBREDDIT, TITLE and POST (first: {data}, line 2); "
        f"1 'label' is empty (first: {data}, line 3)"
    )
    assert lines(out) == [{"id": "row-1", "subreddit": "", "title": "", "post": "a", "summary": "s"}]


def test_pairs_that_teach_nothing_are_counted(tmp_path: Path) -> None:
    pair = {"prompt": "p", "chosen": "one two three four five", "rejected": "five four three two one"}
    data = jsonl(tmp_path / "x.jsonl", pair, {**pair, "chosen": pair["rejected"]}, {**pair, "rejected": "one"})
    assert run(data, "trl-chat-pairs", tmp_path / "y.jsonl") == "1 written; dropped: 1 identical, 1 under 5 words"


def test_nothing_to_write_is_an_error(tmp_path: Path) -> None:
    data = jsonl(tmp_path / "x.jsonl", {"prompt": "p", "chosen": "a", "rejected": "b"})
    with pytest.raises(
        UserError, match=r"no row is left to write \(0 written; dropped: 1 under 5 words\): give other data"
    ):
        run(data, "pairs", tmp_path / "y.jsonl")
    with pytest.raises(UserError, match="no row is left to write"):
        run(data, "openai-comparisons", tmp_path / "y.jsonl")
    assert list(tmp_path.iterdir()) == [data]


def test_a_column_by_which_it_would_be_read_otherwise(tmp_path: Path) -> None:
    data = jsonl(tmp_path / "x.jsonl", {"post": "p", "summary": "s", "label": "good"})
    with pytest.raises(UserError, match=r"line 1: with a column 'label' beside .* it would be read as carperai-posts"):
        run(data, "trl-completions", tmp_path / "y.jsonl")


# ---------------------------------------------------------------- options and places


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"to": ""}, "--data, --to and --out are needed"),
        ({"to": "openai-post"}, "unknown format 'openai-post'; did you mean 'openai-posts'"),
        ({"to": "pairs"}, r"holds posts \(OpenAI's posts.*\), pairs are needed"),
        ({"out": "x.jsonl"}, r"has splits \(train, valid\): choose one with --split, or name a folder"),
        ({"out": "x.csv", "split": "train", "to": "trl-chat-completions"}, "nested values, which CSV cannot hold"),
        ({"files": "csv"}, r"--files is the ending of a name, as in \.jsonl, not 'csv'"),
        ({"files": ".xls"}, "must end in .jsonl, .csv, .parquet"),
        ({"out": "x.jsnl"}, r"x\.jsnl: the name must end in .jsonl"),
        ({"split": "test"}, "no data file for split 'test'"),
        ({"columns": {"sumary": "x"}}, "did you mean 'summary'"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"data": str(FIXTURES / "posts.csv")}, "is one set without splits: name a file"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    given = {"data": POSTS, "to": "carperai-posts", "out": "out", **options}
    if given["out"]:
        given["out"] = str(tmp_path / given["out"])
    with pytest.raises(UserError, match=reason):
        convert(ConvertOptions(**given))
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    out, folder = tmp_path / "x.jsonl", tmp_path / "out"
    out.write_text("old")
    folder.mkdir()
    run(POSTS, "carperai-posts", folder)  # an empty folder is nothing to lose
    for path, split in ((out, "train"), (folder, None)):
        with pytest.raises(UserError, match="exists already: add --overwrite"):
            run(POSTS, "trl-completions", path, split=split)
    assert out.read_text() == "old" and "label" in lines(folder / "train.jsonl")[0]
    run(POSTS, "trl-completions", out, split="train", overwrite=True)
    run(POSTS, "trl-completions", folder, files=".csv", overwrite=True)
    assert len(lines(out)) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["train.csv", "valid.csv"]


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_one_split_replaces_only_its_own_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(POSTS, "carperai-posts", out)
    before = contents(out) | {"extra.csv": "a,b", ".hidden": "x"}
    (out / "extra.csv").write_text("a,b")
    (out / ".hidden").write_text("x")
    with pytest.raises(UserError, match=r"out/train.jsonl exists already: add --overwrite"):
        run(POSTS, "trl-completions", out, split="train")
    said = run(POSTS, "trl-completions", out, split="train", overwrite=True)
    assert said == "2 written; kept beside: extra.csv, valid.jsonl"
    assert "completion" in lines(out / "train.jsonl")[0]
    assert {**contents(out), "train.jsonl": ""} == {**before, "train.jsonl": ""}


def test_a_split_is_added_to_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(POSTS, "carperai-posts", out, split="valid") == "1 written"
    assert run(POSTS, "carperai-posts", out, split="train") == "2 written; kept beside: valid.jsonl"
    assert TASK.load_posts(str(out), "train") == TASK.load_posts(POSTS, "train")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "name, options",
    [
        ("valid2.jsonl", {}),  # would be read as one more split
        ("old_train.csv", {}),
        ("train.json", {}),  # would be read with the new train.jsonl; convert writes no .json
        ("train.tsv", {"split": "train"}),
        ("train-00000-of-00002.jsonl", {"split": "train"}),
    ],
)
def test_a_data_file_of_others_bars_a_folder(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    out = tmp_path / "out"
    run(POSTS, "carperai-posts", out)
    (out / name).write_text("mine")
    before = contents(out)
    with pytest.raises(UserError, match=f"out holds {name}, which would be read along with .*: take it out first"):
        run(POSTS, "trl-completions", out, overwrite=True, **options)
    assert contents(out) == before


def test_an_error_in_a_later_split_leaves_every_file(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    jsonl(data / "train.jsonl", {"prompt": "p", "label": "s"})
    jsonl(data / "valid.jsonl", {"prompt": "p", "label": "s"})
    run(data, "carperai-posts", out)
    before = contents(out)
    jsonl(data / "valid.jsonl", {"prompt": "p", "label": ""})
    with pytest.raises(UserError, match="'label' is empty"):
        run(data, "trl-completions", out, overwrite=True)
    assert contents(out) == before and sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_hidden_leftovers_do_not_bar_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".x.parquet.writing-31203").write_text("half")
    (tmp_path / ".out.writing-31203").mkdir()
    (tmp_path / ".out.writing-31203" / "train.jsonl").write_text("half")
    run(POSTS, "carperai-posts", out)
    assert sorted(path.name for path in out.iterdir()) == [".x.parquet.writing-31203", "train.jsonl", "valid.jsonl"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("split", ["../train", "a/b", ".x", "a\0"])
def test_a_split_that_cannot_name_a_file(tmp_path: Path, split: str) -> None:
    data = jsonl(tmp_path / "x.jsonl", {"prompt": "p", "label": "s", "split": split})
    with pytest.raises(UserError, match="cannot be the name of a file: convert it with --split"):
        run(data, "trl-completions", tmp_path / "out")
    assert run(data, "trl-completions", tmp_path / "y.jsonl", split=split) == "1 written"


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.md").write_text("mine")
    with pytest.raises(UserError, match=r"holds other things than data files \(notes.md\): name a new folder"):
        run(POSTS, "carperai-posts", tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "notes.md").read_text() == "mine"


def test_what_is_read_is_never_written(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    row = {"prompt": "p", "label": "s"}
    train, tldr = jsonl(data / "train.jsonl", row), jsonl(tmp_path / "tldr_train.jsonl", row)
    (tmp_path / "link").symlink_to(data)
    for source, out in [
        (train, train),
        (train, tmp_path / "link" / "train.jsonl"),
        (data, data),
        (data, tmp_path),
        (data, data / "more.jsonl"),
        (tmp_path / "tldr", tldr),
        (tmp_path / "tldr", tmp_path / "tldr_valid.jsonl"),
    ]:
        split = "train" if "jsonl" in out.name else None
        with pytest.raises(UserError, match=r"name (another place|a new folder)"):
            run(source, "trl-completions", out, split=split, overwrite=True)
    assert lines(train) == lines(tldr) == [row]
    run(data, "trl-completions", data / "below", split="train")
    assert len(lines(data / "below" / "train.jsonl")) == 1


# ---------------------------------------------------------------- the real command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([POSTS, "--to", "carperai-posts", "--out", str(tmp_path / "x"), "--columns.id", "id", "--bad_rows", "skip"])
    assert capsys.readouterr().out == f"{tmp_path / 'x'}: carperai-posts, 3 written (train 2, valid 1)\n"


def command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "tasks", "convert", *argv]


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    data = jsonl(tmp_path / "x.jsonl", {"prompt": "p", "label": "s"}, {"prompt": "p", "label": None})
    argv = command("--data", str(data), "--to", "trl-completions", "--out", str(tmp_path / "y.jsonl"))
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"error: {data}, line 2: 'label' is empty (null): ")
    assert len([line for line in done.stderr.splitlines() if line.startswith("error")]) == 1
    assert list(tmp_path.iterdir()) == [data]


def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    data, out = tmp_path / "x.jsonl", tmp_path / "y.jsonl"
    line = json.dumps({"prompt": "p " * 200, "label": "s " * 20}) + "\n"
    data.write_text(line * 60_000)
    out.write_text("old")
    argv = command("--data", str(data), "--to", "trl-completions", "--out", str(out), "--overwrite")
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not any(path.stat().st_size for path in tmp_path.glob(".y.jsonl.writing-*")):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert out.read_text() == "old" and len(list(tmp_path.iterdir())) == 3
    run(data, "trl-completions", out, overwrite=True, limit=1)
    assert len(lines(out)) == 1 and sorted(tmp_path.iterdir()) == [data, out]
