"""Both sides of the benchmark give the same ids, and a difference is noticed; nothing is asserted about time."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from benchmarks import encoding_sides, tokenize_posts
from benchmarks.encoding_sides import Took, Work, run
from benchmarks.tokenize_posts import Options, contenders, invented, main, prepare, real, summary
from tasks.text import clean_prompt, clean_summary

POSTS = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(Options(posts=POSTS, vocabulary=600), tmp_path)
    return tmp_path


def took(folder: Path, side: str, max_length: int, name: str = "posts.jsonl") -> Took:
    cache = folder / f"cache-{side}-{max_length}"
    return run(Work(side, str(folder / name), str(folder / "tokenizer"), str(cache), max_length))


@pytest.mark.parametrize("max_length", [10_000, 300, 50])
def test_both_sides_give_the_same_ids(folder: Path, max_length: int) -> None:
    """Nothing is cut, most is, and some posts do not fit at all."""
    ours, theirs = took(folder, "engine", max_length), took(folder, "datasets", max_length)
    assert (ours.digest, ours.samples, ours.tokens) == (theirs.digest, theirs.samples, theirs.tokens)
    assert (ours.samples < POSTS) == (max_length == 50)
    assert took(folder, "engine", max_length).digest == ours.digest  # from the cache


def test_a_side_that_does_something_else_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = took(folder, "datasets", 300).digest
    monkeypatch.setattr(encoding_sides, "cut_prompt", lambda text, tokenizer, room: text[:200])
    assert took(folder, "datasets", 299).digest != took(folder, "engine", 299).digest
    assert took(folder, "engine", 300).digest == right


def test_invented_posts_need_no_cleaning_and_are_the_same_for_a_seed() -> None:
    rows = list(invented(20, 3))
    assert rows == list(invented(20, 3)) != list(invented(20, 4))
    assert all(clean_prompt(row["prompt"]) == row["prompt"] for row in rows)
    assert all(clean_summary(row["label"]) == row["label"] for row in rows)
    assert len({row["id"] for row in rows}) == 20


def test_real_posts_are_repeated_under_new_ids(tmp_path: Path) -> None:
    rows = list(invented(3, 0))
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = list(real(str(tmp_path / "posts.jsonl"), 7))
    assert [row["prompt"] for row in more] == [row["prompt"] for row in itertools.islice(itertools.cycle(rows), 7)]
    assert [row["id"] for row in more] == list("0123456")


def test_summary_by_hand() -> None:
    """Medians 2 and 6, so the other took three times as long."""
    runs = {"engine": [1.0, 2.0, 9.0], "datasets": [5.0, 6.0, 7.0]}
    times = {name: [Took(s, s / 2, 10, 300, "x") for s in seconds] for name, seconds in runs.items()}
    result = summary(400, times)
    assert result["ratio_to_engine"] == {"engine": 1.0, "datasets": 3.0}
    assert result["range"] == {"engine": [1.0, 9.0], "datasets": [5.0, 7.0]}
    assert result["median_processor_seconds"] == {"engine": 1.0, "datasets": 3.0}


def test_the_script_measures_checks_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With runs in this process, in which a second process of `datasets` would be a fork of the tests."""
    monkeypatch.setattr(tokenize_posts, "cores", lambda: 1)
    monkeypatch.setattr(tokenize_posts, "once", in_place)
    for name in ("TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS", "RANK"):
        monkeypatch.setenv(name, "1")
    main(["--posts=30", "--vocabulary=500", "--max_length=[300]", "--repeats=1", f"--out={tmp_path}", "--name=toy"])
    content = json.loads((tmp_path / "toy.json").read_text())
    (result,) = content["results"]
    assert set(result["repeats"]) == {each.name for each in contenders()}
    assert result["samples"] == 30 and content["workload"]["data"] == "invented"
    assert str(tmp_path) not in json.dumps(content)

    monkeypatch.setattr(tokenize_posts, "run", lambda work: Took(1.0, 1.0, 30, 1, work.side))
    with pytest.raises(SystemExit):
        main(["--posts=30", "--vocabulary=500", "--max_length=[300]", "--repeats=1", f"--out={tmp_path}", "--name=toy"])
    assert "different ids" in capsys.readouterr().err


def in_place(contender: tokenize_posts.Contender, file: Path, folder: Path, caches: Path, max_length: int) -> Took:
    cache = caches / f"{contender.side}-{contender.processes}"
    return tokenize_posts.run(Work(contender.side, str(file), str(folder / "tokenizer"), str(cache), max_length))
