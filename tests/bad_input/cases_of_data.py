"""Mistakes in the data, each in a file of its own; the readers' own tests hold many more."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from case import Case, Spoil
from harness import JUDGE, PPO, REWARD, SFT
from tiny_stage import pairs, posts

POSTS = posts(6, 11)
PAIRS = pairs(6, 12)
SKIP = "--bad_rows skip"


def lines(*rows: Any) -> bytes:
    """JSONL of rows; bytes stand for a line as they are."""
    return b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows)


def third(line: Any, rows: list[dict[str, Any]] = POSTS) -> bytes:
    """Good rows, with the third one replaced; a dict changes some of its columns."""
    return lines(*rows[:2], {**rows[2], **line} if isinstance(line, dict) else line, *rows[3:])


def data(content: bytes, name: str = "posts.jsonl", *more: str) -> Spoil:
    """`--data` is a file with that content."""

    def spoil(root: Path, work: Path) -> list[str]:
        path = work / name
        path.write_bytes(content)
        return ["--data", str(path), *more]

    return spoil


def converted(content: bytes) -> Spoil:
    """`tasks convert` of a file with that content."""

    def spoil(root: Path, work: Path) -> list[str]:
        return [*data(content)(root, work), "--to", "trl-completions", "--out", f"{root}/converted.jsonl"]

    return spoil


def asked(content: bytes) -> Spoil:
    """`--data` is a file of instructions with that content."""
    return data(content, "asked.jsonl", "--task", "instruct")


def reviewed(content: bytes) -> Spoil:
    """`--data` is a file of reviews with that content."""
    return data(content, "reviews.jsonl", "--task", "sentiment")


BOM = b"\xef\xbb\xbf"
ASKED = [{"instruction": f"Name {number} birds.", "context": "", "response": "A wren."} for number in range(6)]
REVIEWS = [{"text": f"Film {number} was long. " * 20, "label": number % 2} for number in range(6)]
TORN = b'{"prompt": "a post", "label": \n'
LONG_TITLE = "SUBREDDIT: r/x\nTITLE: " + "word " * 400 + "\nPOST: p\nTL;DR:"
NO_POST = "SUBREDDIT: r/x\nTITLE: \nPOST: \nTL;DR:"

CASES = [
    Case(
        "missing-column",
        SFT,
        data(lines({"prompt": "a post", "text": "a summary"})),
        ("posts.jsonl, line 1", "prompt+label", "found prompt, text", "--columns.label"),
    ),
    Case(
        "missing-column-of-pairs",
        REWARD,
        data(lines({"prompt": "a post", "better": "a", "worse": "b"}), "pairs.jsonl"),
        ("pairs.jsonl, line 1", "prompt+chosen+rejected", "--columns.chosen COLUMN"),
    ),
    Case("empty-split", SFT, data(b""), ("posts.jsonl holds no rows", "not empty")),
    Case("empty-split-of-a-csv", PPO, data(b"prompt,label\n", "posts.csv"), ("posts.csv holds no rows",)),
    Case(
        "no-such-split",
        SFT,
        lambda root, work: ["--train_split", "training"],
        ("no data file for split 'training'", "sft_train.jsonl"),
    ),
    Case("malformed-line", SFT, data(third(TORN)), ("posts.jsonl, line 3", "not JSON", SKIP)),
    Case("malformed-line-of-ppo", PPO, data(third(TORN)), ("posts.jsonl, line 3", "not JSON", SKIP)),
    Case("malformed-line-of-the-evaluation", JUDGE, data(third(TORN)), ("posts.jsonl, line 3", "not JSON", SKIP)),
    Case(
        "malformed-line-of-pairs",
        REWARD,
        data(third(TORN, PAIRS), "pairs.jsonl"),
        ("pairs.jsonl, line 3", "not JSON", SKIP),
    ),
    Case(
        "malformed-line-of-a-base",
        "-m tasks.scratch_model",
        lambda root, work: [*data(third(TORN))(root, work), "--out", f"{root}/model"],
        ("posts.jsonl, line 3", "not JSON"),
    ),
    Case(
        "pretty-printed-json",
        SFT,
        data(json.dumps(POSTS, indent=2).encode()),
        ("posts.jsonl, line 1", "name the file .json"),
    ),
    Case(
        "byte-order-mark",
        SFT,
        data(lines(*POSTS).decode().encode("utf-16")),
        ("posts.jsonl: UTF-16", "save it as UTF-8"),
    ),
    Case(
        "wrong-encoding",
        SFT,
        data(third('{"prompt": "a café", "label": "x"}\n'.encode("latin-1"))),
        ("posts.jsonl, line 3", "not UTF-8", "save the file as UTF-8"),
    ),
    Case("empty-post", SFT, data(third({"prompt": NO_POST})), ("posts.jsonl, line 3", "the post is empty", SKIP)),
    Case("empty-summary", SFT, data(third({"label": " \n"})), ("posts.jsonl, line 3", "'label' is empty", SKIP)),
    Case("nul-bytes", SFT, data(third({"label": "a\0b"})), ("posts.jsonl, line 3", "NUL", SKIP)),
    Case(
        "nul-bytes-of-a-torn-file",
        SFT,
        data(third(b"\0" * 64 + b"\n")),
        ("posts.jsonl, line 3", "NUL byte", "write it anew"),
    ),
    Case(
        "line-of-100-megabytes",
        SFT,
        data(third(b'{"prompt": "' + b"x" * 100 * 2**20 + b'"}\n')),
        ("posts.jsonl, line 3", "16 MiB"),
    ),
    Case(
        "post-longer-than-the-context",
        SFT,
        data(lines({**POSTS[0], "prompt": LONG_TITLE})),
        ("none of 1 posts can be trained on", "posts.jsonl, line", "raise the length limit or drop the row"),
    ),
    Case(
        "context-longer-than-the-model",
        SFT,
        lambda root, work: ["--max_length", "600"],
        ("--max_length is 600", "576 positions", "lower --max_length"),
    ),
    Case("torn-gzip", SFT, data(gzip.compress(lines(*POSTS))[:-9], "posts.jsonl.gz"), ("posts.jsonl.gz", "gzip")),
    Case("no-parquet", SFT, data(lines(*POSTS), "posts.parquet"), ("posts.parquet", "Parquet")),
    Case("no-such-file", SFT, lambda root, work: ["--data", f"{work}/posts.jsonl"], ("posts.jsonl", "no such file")),
    Case("unknown-kind-of-file", SFT, data(lines(*POSTS), "posts.txt"), ("posts.txt", ".jsonl, .json, .csv")),
    Case(
        "pretty-printed-instructions",
        SFT,
        asked("\n".join(json.dumps(row, indent=4) for row in ASKED).encode()),
        ("asked.jsonl, line 1: an object over several lines", "name the file .json"),
    ),
    Case(
        "object-over-several-lines",
        SFT,
        asked(third(json.dumps(ASKED[2], indent=4).encode(), ASKED)),
        ("asked.jsonl, line 3: an object over several lines", "write it on one line", SKIP),
    ),
    Case("comment-in-the-data", SFT, asked(third(b"// ...\n", ASKED)), ("asked.jsonl, line 3: a comment", SKIP)),
    Case(
        "byte-order-mark-in-the-middle",
        SFT,
        asked(third(BOM + lines(ASKED[2]), ASKED)),
        ("asked.jsonl, line 3: a byte order mark", "files were joined", SKIP),
    ),
    Case(
        "instruction-and-prompt",
        SFT,
        asked(third({"prompt": "Another one."}, ASKED)),
        ("asked.jsonl, line 3: both 'instruction' and 'prompt', which differ", "keep one of them", SKIP),
    ),
    Case("empty-instruction", SFT, asked(third({"instruction": " "}, ASKED)), ("asked.jsonl, line 3", "empty", SKIP)),
    Case("empty-response", SFT, asked(third({"response": ""}, ASKED)), ("line 3: 'response' is empty", SKIP)),
    Case(
        "alpaca-to-train-on",
        SFT,
        asked(lines({"instruction": "Name a colour.", "input": "", "output": "Red"})),
        ("asked.jsonl, line 1: 'input' and 'output'", "python -m tasks convert FILE --to instructions"),
    ),
    Case(
        "no-pairs-of-single-answers",
        "-m tasks convert",
        lambda root, work: [
            *data(lines(*ASKED), "asked.jsonl")(root, work),
            *("--to", "instruction-pairs", "--out", f"{root}/pairs.jsonl"),
        ],
        ("asked.jsonl, line 1: Dolly's rows have one answer each", "choose --to instructions"),
    ),
    Case(
        "label-that-is-not-binary",
        SFT,
        reviewed(third({"label": 2}, REVIEWS)),
        ("reviews.jsonl, line 3: a label that is neither positive nor negative (2)", "make it 0 or 1", SKIP),
    ),
    Case(
        "review-too-short",
        SFT,
        reviewed(b'{"text": "A good film.", "label": 1}\n'),
        ("reviews.jsonl", "1 too short to be divided into prompt and response", "line 1", "give other data"),
    ),
    Case(
        "review-too-short-of-the-evaluation",
        JUDGE,
        reviewed(b'{"text": "A good film.", "label": 1}\n'),
        ("reviews.jsonl, line 1", "too short to be divided", "give other data"),
    ),
    Case("empty-review", SFT, reviewed(third({"text": ""}, REVIEWS)), ("reviews.jsonl, line 3: 'text' is empty", SKIP)),
    Case("malformed-line-to-convert", "-m tasks convert", converted(third(TORN)), ("posts.jsonl, line 3", SKIP)),
    Case("empty-split-to-convert", "-m tasks convert", converted(b""), ("posts.jsonl holds no rows",)),
    Case(
        "nothing-to-inspect", "-m tasks inspect", lambda root, work: [f"{work}/no.jsonl"], ("no such file", "no.jsonl")
    ),
    Case("unknown-command", "-m tasks nspect", lambda root, work: [], ("'nspect'", "did you mean 'inspect'?")),
]
