"""`python -m tasks inspect` on small invented data whose every number is known, and on real data where it lies."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.__main__ import main
from tasks.inspection.command import InspectOptions, inspect
from tasks.inspection.report import Column, Report
from trlx.utils.errors import UserError

LONG = "The cat ran out of the door and over the road to the old barn where nobody goes at night any more"


def write(path: Path, *rows: Any) -> None:
    """One line a row; text as it is, other things as JSON."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def post(body: str, label: str | None, **more: Any) -> dict[str, Any]:
    return {"prompt": f"SUBREDDIT: r/pets\nTITLE: Cat\nPOST: {body}\nTL;DR: ", "label": label, **more}


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    """Train: 8 rows, 3 of them bad. Test: 3 rows, one of train exactly and one of train nearly."""
    folder = tmp_path / "data"
    folder.mkdir()
    write(
        folder / "train.jsonl",
        post("One cat", "it sat", id="a", url=""),
        post("Two cats", " ", id="b"),
        "{not json",
        post("Three cats", "they ran", id="a"),
        post("one  CAT", "it ran", id="d"),
        post(LONG, "it left", id="e"),
        post("Four cats", "It sat", id="f", url="x"),
        post("Five cats", "they slept", id="g"),
    )
    write(
        folder / "test.jsonl",
        post("Six cats", "they ate", id="t1"),
        post("FOUR cats", "they hid", id="t2"),
        post(f"{LONG} says my aunt", "it left us", id="t3"),
    )
    return folder


def run(*argv: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tasks", *map(str, argv)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )


def test_posts(posts: Path) -> None:
    report = inspect(InspectOptions(data=str(posts), near=0.7))
    train, test = report.splits
    assert (train.name, train.rows, train.usable, train.format) == ("train", 8, 5, "carperai-posts")
    assert {bad.reason: (bad.count, bad.first) for bad in train.bad} == {
        "'label' is empty": (1, f"{posts / 'train.jsonl'}, line 2"),
        "not JSON": (1, f"{posts / 'train.jsonl'}, line 3"),
        "an id for the second time": (1, f"{posts / 'train.jsonl'}, line 4"),
    }
    assert train.files == {str(posts / "train.jsonl"): 7}
    assert train.columns == {
        "prompt": Column(7, 0, True),
        "label": Column(7, 1, True),
        "id": Column(7, 0, False),
        "url": Column(2, 1, False),
    }
    assert (test.rows, test.usable, test.bad) == (3, 3, ())
    same, summaries = report.overlaps
    assert same.repeated == {"train": 1, "test": 0}
    assert same.shared[0].places == ((f"{posts / 'train.jsonl'}, line 7", f"{posts / 'test.jsonl'}, line 2"),)
    assert summaries.repeated == {"train": 1, "test": 0}
    (near,) = report.near
    # 22 words are 18 runs, 3 more words 3 more runs: 18 / 21
    assert (near.count, near.closest[0].similarity) == (1, 18 / 21)
    assert near.closest[0].places == (f"{posts / 'train.jsonl'}, line 6", f"{posts / 'test.jsonl'}, line 3")
    assert {example.where for example in report.examples} <= {
        f"{posts / name}.jsonl, line {line}" for name in ("train", "test") for line in range(1, 9)
    }
    assert len({example.where for example in report.examples}) == 5
    assert [finding.what for finding in report.findings][:2] == [
        f"leakage: 1 post of 'test' also in 'train', e.g. {posts / 'test.jsonl'}, line 2 "
        f"and {posts / 'train.jsonl'}, line 7",
        "leakage: 1 post of 'test' nearly the same as one of 'train'",
    ]


def test_instructions(tmp_path: Path) -> None:
    """Rows of a task's own columns, without a word of summaries."""
    write(
        tmp_path / "train.jsonl",
        *({"instruction": f"Name {number} cats.", "context": "", "response": f"Tom {number}"} for number in range(99)),
        {"instruction": "", "context": "", "response": "Tom"},
        {"instruction": "Who?", "context": "Tom sat.", "response": "Tom", "category": "qa"},
    )
    report = inspect(InspectOptions(data=str(tmp_path), task="instruct"))
    (split,) = report.splits
    assert (report.kind, split.format, split.rows, split.usable) == ("posts", "columns of task instruct", 101, 100)
    assert split.columns == {
        "instruction": Column(101, 1, True),
        "context": Column(101, 100, True),
        "response": Column(101, 0, True),
        "category": Column(1, 0, False),
    }
    assert [bad.reason for bad in split.bad] == ["'instruction' is empty"] and not split.foreign_prompts
    assert [finding.what for finding in report.findings] == ["train: 1 row of 101 cannot be used"]
    assert report.examples[0].prompt.endswith("### Response:")


def test_prompts_alone_and_pairs_of_instructions(tmp_path: Path) -> None:
    write(tmp_path / "prompts.jsonl", *({"prompt": f"Name {number} cats."} for number in range(100)))
    report = inspect(InspectOptions(data=str(tmp_path / "prompts.jsonl"), task="instruct"))
    assert (report.kind, report.splits[0].usable, report.findings) == ("posts", 100, ())
    assert report.splits[0].columns == {"prompt": Column(100, 0, True)}
    write(tmp_path / "pairs.jsonl", {"instruction": "Why?", "chosen": "Because.", "rejected": "No."})
    report = inspect(InspectOptions(data=str(tmp_path / "pairs.jsonl"), task="instruct"))
    assert (report.kind, report.splits[0].usable, report.splits[0].dropped["short"]) == ("pairs", 1, 0)
    posts = inspect(InspectOptions(data=str(tmp_path / "pairs.jsonl"), task="instruct", kind="posts"))
    assert (posts.kind, posts.splits[0].usable) == ("posts", 1)


def test_columns_that_the_task_does_not_know(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", {"question": "Why?", "answer": "Because."})
    with pytest.raises(UserError, match=r"x\.jsonl: posts need the columns instruction\+response .*question, answer"):
        inspect(InspectOptions(data=str(tmp_path / "x.jsonl"), task="instruct"))
    with pytest.raises(UserError, match=r"x\.jsonl: reviews need the columns text"):
        inspect(InspectOptions(data=str(tmp_path / "x.jsonl"), task="sentiment"))


def test_options(posts: Path) -> None:
    one = inspect(InspectOptions(data=str(posts), splits="test", near=None, examples=1, limit=2))
    assert [split.name for split in one.splits] == ["test"]
    assert (one.splits[0].rows, one.near, len(one.examples)) == (2, (), 1)
    again = inspect(InspectOptions(data=str(posts), splits="test", near=None, examples=1, limit=2))
    assert one == again


def test_openai_comparisons(tmp_path: Path) -> None:
    def comparison(choice: int, worker: str, texts: tuple[str, str], confidence: int | None = 5) -> dict[str, Any]:
        return {
            "info": {"id": "t3_1", "subreddit": "pets", "title": "Cat", "post": "My cat ran"},
            "summaries": [{"text": text, "policy": "x", "note": ""} for text in texts],
            "choice": choice,
            "worker": worker,
            "batch": "batch7",
            "split": "train",
            "extra": {"confidence": confidence},
        }

    long, short = "the cat ran away from me today", "my cat left the house"
    write(
        tmp_path / "batch7.json",
        comparison(0, "ann", (long, short)),
        comparison(1, "bob", (long, short), 9),
        comparison(0, "ann", (long, f" {long} ")),
        comparison(0, "ann", (long, "too short")),
        comparison(2, "ann", (long, short)),
    )
    report = inspect(InspectOptions(data=str(tmp_path / "batch7.json")))
    (split,) = report.splits
    assert (report.kind, split.format, split.rows, split.usable) == ("pairs", "openai-comparisons", 5, 2)
    assert split.dropped == {"identical": 1, "short": 1}
    assert split.facets == {"batch": {"batch7": 2}, "confidence": {"5": 1, "9": 1}}
    assert (split.workers, split.chosen_longer) == (2, 0.5)
    assert report.contradictions == {"train": 1}
    assert {len(example.responses) for example in report.examples} == {2}


def test_with_a_tokenizer(posts: Path, tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    options = {"data": str(posts), "tokenizer": str(tmp_path / "tokenizer"), "max_new_tokens": 5}
    report = inspect(InspectOptions(**options))
    fit = report.splits[0].fit
    assert report.unit == "tokens" and fit is not None
    assert (fit.rows, fit.cut, fit.too_long) == (5, 0, 0)
    longest = report.splits[0].lengths["sum"].max
    cut = inspect(InspectOptions(**options, max_length=longest - 1)).splits[0].fit
    assert cut is not None and (cut.cut, cut.too_long) == (1, 0) and cut.mean_lost >= 1
    assert all(text.endswith("<|endoftext|>") for example in report.examples for text in example.responses)


def test_columns_by_other_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "mine.jsonl", {"text": "My cat ran", "gist": "it ran"}, {"text": "A dog sat", "gist": ""})
    main(["inspect", str(tmp_path / "mine.jsonl"), "--columns.post", "text", "--columns.summary", "gist"])
    assert "2 rows: 1 usable, 1 bad" in capsys.readouterr().out
    columns = {"post": "text", "summary": "gist"}
    (split,) = inspect(InspectOptions(data=str(tmp_path / "mine.jsonl"), columns=columns)).splits
    assert (split.name, split.format, split.rows, split.usable) == ("all rows", "openai-posts", 2, 1)
    with pytest.raises(UserError, match="--columns"):
        inspect(InspectOptions(data=str(tmp_path / "mine.jsonl")))


def test_a_first_row_of_no_known_format_is_a_bad_row(tmp_path: Path) -> None:
    write(tmp_path / "all.jsonl", {"note": "made by hand"}, post("One cat", "it sat"), post("Two cats", "they sat"))
    (split,) = inspect(InspectOptions(data=str(tmp_path / "all.jsonl"))).splits
    assert (split.rows, split.usable, split.format) == (3, 2, "carperai-posts")
    assert [(bad.count, bad.first) for bad in split.bad] == [(1, f"{tmp_path / 'all.jsonl'}, line 1")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": None}, "what to inspect is missing"),
        ({"near": 1.5}, "between 0.3 and 1, not 1.5"),
        ({"limit": 0}, "--limit must be at least 1"),
        ({"examples": -1}, "--examples must not be negative"),
        ({"max_new_tokens": 550}, "under --max_length 550"),
        ({"splits": ","}, "--splits names none"),
        ({"splits": "valid"}, "no data file for split 'valid'"),
        ({"columns": {"sumary": "x"}}, "did you mean 'summary'"),
        ({"kind": "pairs"}, "holds posts"),
        ({"task": "tl;dr"}, "did you mean 'tldr'"),
    ],
)
def test_mistakes(posts: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        inspect(InspectOptions(**{"data": str(posts)} | change))


def test_the_json_is_never_one_of_the_data(posts: Path, tmp_path: Path) -> None:
    before = (posts / "test.jsonl").read_text()
    for bad in (posts / "test.jsonl", posts):
        with pytest.raises(UserError, match="--json"):
            inspect(InspectOptions(data=str(posts), json=str(bad)))
    assert (posts / "test.jsonl").read_text() == before


def test_from_a_shell(posts: Path, tmp_path: Path) -> None:
    done = run("inspect", posts, "--json", tmp_path / "out" / "report.json", "--near", "0.7", PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert not any(line.endswith(" ") for line in lines)
    assert "\x1b" not in done.stdout
    assert "8 rows: 5 usable, 3 bad" in done.stdout
    written = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    expected = inspect(InspectOptions(data=str(posts), near=0.7))
    assert written == json.loads(expected.as_json())
    assert written["splits"][0]["bad"][0]["count"] == 1 and written["near"][0]["count"] == 1


def test_strange_names_and_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = {"prompt": "POST: a\nTL;DR:", "chosen": "one two three four five", "rejected": "one two three four six"}
    write(
        tmp_path / "pairs.jsonl",
        {**pair, "batch": "x\x1b[31m\ny", "\udc00x": 1},
        {**pair, "batch": {"a": [1]}, "[b]": "[/b]"},
    )
    main(["inspect", str(tmp_path / "pairs.jsonl"), "--json", str(tmp_path / "out.json"), "--near", "null"])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\\udc00x" in printed and "[b]" in printed
    written = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert written["splits"][0]["columns"]["\udc00x"] == {"present": 1, "empty": 0, "used": False}
    assert written["splits"][0]["facets"]["batch"] == {"x\x1b[31m\ny": 1, "{'a': [1]}": 1}


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(gzip.compress(json.dumps(post("One cat", "it sat")).encode() * 50)[:-20])
    report = tmp_path / "report.json"
    done = run("inspect", torn, "--json", report)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "torn.jsonl.gz" in done.stderr
    assert not report.exists()


def test_a_console_that_knows_only_ascii(posts: Path) -> None:
    done = run("inspect", posts, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_nobody_reads_to_the_end(posts: Path) -> None:
    command = [sys.executable, "-m", "tasks", "inspect", str(posts)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    printed = capsys.readouterr().out
    assert "inspect" in printed and "convert" in printed
    with pytest.raises(UserError, match="unknown command 'inspekt'; did you mean 'inspect'"):
        main(["inspekt"])
    with pytest.raises(UserError, match="a command is needed"):
        main([])


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'datasets', 'numpy', 'torch', 'rich'}"
    code = f"import sys; from tasks.__main__ import main; main(['--help']); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


# ---------------------------------------------------------------- real data


def distinct_posts(report: Report) -> int:
    """Of all splits together, when no post is in three of them."""
    same = report.overlaps[0]
    return sum(same.rows.values()) - sum(same.repeated.values()) - sum(item.count for item in same.shared)


def test_openai_fixture(shared: Callable[[str], Path]) -> None:
    folder = shared("openai_summarize_fixture")
    report = inspect(InspectOptions(data=str(folder / "comparisons")))
    assert [(split.name, split.rows) for split in report.splits] == [
        (name, 50) for name in ("train", "valid1", "valid2", "test")
    ]
    shared_posts = {(item.first, item.second): item.count for item in report.overlaps[0].shared}
    assert shared_posts["valid2", "test"] == 7
    assert distinct_posts(report) == 24
    assert report.kind == "pairs" and report.splits[0].chosen_longer is not None
    posts = inspect(InspectOptions(data=str(folder / "tldr")))
    assert posts.kind == "posts" and [split.usable for split in posts.splits] == [50, 50, 50]
    assert all(item.count == 0 for item in posts.overlaps[0].shared)


def test_dialogues_are_pointed_out(shared: Callable[[str], Path]) -> None:
    report = inspect(InspectOptions(data=str(shared("hh_helpful_pairs") / "pairs.jsonl.gz"), limit=200))
    assert report.splits[0].foreign_prompts == 200
    assert any("neither the TL;DR headings" in finding.what for finding in report.findings)


def test_a_list_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([post("One cat", "it sat"), post("Two cats", "it ran")], indent=1))
    assert inspect(InspectOptions(data=str(tmp_path / "x.json"))).splits[0].files == {f"{tmp_path}/x.json": 2}
