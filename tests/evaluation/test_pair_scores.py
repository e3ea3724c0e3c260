"""`python -m evaluation scores`: the scores are the model's, right is what scores higher, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluation.pair_scores import ScoresOptions, main, read_pairs, scores_table, summary, usual_length
from reward_model.scorer import RewardScorer
from tasks.records import Pair
from trlx.utils.errors import UserError

PROMPT = "SUBREDDIT: r/x\nTITLE: The cat\nPOST: my boss sold the car\nTL;DR:"
PAIRS = [
    {"prompt": PROMPT, "chosen": "my boss sold the car then", "rejected": "the cat left and then Rome"},
    {"prompt": PROMPT, "chosen": "=1+1 the cat left my keys", "rejected": "my dog lost the keys then"},
    {"prompt": PROMPT, "chosen": "too short", "rejected": "my dog lost the keys then"},  # dropped
]


def pairs_of(count: int) -> list[Pair]:
    return [Pair(str(number), PROMPT, "good", "bad", {"gold_prefers_chosen": number > 0}) for number in range(count)]


def test_what_scores_higher_is_right() -> None:
    # Right, wrong, and a tie: (1 + 0 + ½) / 3.
    table = scores_table(pairs_of(3), [2.0, -1.0, 0.5], [1.0, -0.5, 0.5], 20)
    assert [row[1:] for row in table.rows] == [
        ["2.000", "1.000", "yes"],
        ["-1.000", "-0.500", "no"],
        ["0.500", "0.500", "tie"],
    ]
    assert table.rows[0][0] == "The cat" and table.caption.startswith("3 pairs")
    lines = summary(pairs_of(3), [2.0, -1.0, 0.5], [1.0, -0.5, 0.5])
    # Wilson's interval of 1.5 of 3: ½ ± 1.96 √(.25/3 + 1.96²/36) / (1 + 1.96²/3) = ½ ± .3747.
    assert lines[0] == "accuracy 0.500 [0.125, 0.875] of 3 pairs; a tie is half (brackets: 95%, Wilson)"
    # The label of the first pair is noise: against noise-free labels it is wrong, so ½ of 3.
    assert lines[1].startswith("accuracy by noise-free labels 0.167 [")
    assert lines[2] == "mean of good − bad: +0.167"  # (1 − 0.5 + 0) / 3


def test_only_the_first_are_shown_and_long_prompts_shortened() -> None:
    pairs = [Pair("1", "### Instruction:\n" + "word " * 40 + "\n\n### Response:", "good", "bad")] * 4
    table = scores_table(pairs, [1.0] * 4, [0.0] * 4, 2)
    assert len(table.rows) == 2 and table.caption.startswith("The first 2 of 4 pairs")
    assert table.rows[0][0].startswith("### Instruction: word word") and len(table.rows[0][0]) <= 60
    assert table.rows[0][0].endswith("…")


def test_a_score_that_is_no_number_is_said() -> None:
    lines = summary(pairs_of(2), [1.0, float("nan")], [0.0, 0.0])
    assert lines[0].startswith("accuracy 0.500")
    assert lines[-1] == "1 scores are no finite numbers, and count as wrong: the model is damaged"


def test_a_file_of_pairs(run_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in PAIRS), encoding="utf-8")
    shutil.copytree(run_root / "ckpts" / "reward_model", tmp_path / "ckpts" / "reward_model")
    main(["--root", str(tmp_path), "--data", str(data), "--show", "1"])
    printed = capsys.readouterr().out
    assert "The first 1 of 2 pairs" in printed and "2 of 3 pairs kept" in printed and "of 2 pairs; a tie" in printed
    path = tmp_path / "metadata" / "pair_scores.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    scorer = RewardScorer.load(tmp_path / "ckpts" / "reward_model", max_length=256)
    for row, pair in zip(rows, PAIRS, strict=False):
        for side in ("chosen", "rejected"):
            expected = scorer.score([PROMPT], [f" {pair[side]}"])[0]
            assert float(row[f"score_{side}"]) == pytest.approx(expected, abs=1e-5)
    assert rows[1]["chosen"] == "'=1+1 the cat left my keys"  # a spreadsheet runs nothing
    assert float(rows[0]["right"]) == (float(rows[0]["score_chosen"]) > float(rows[0]["score_rejected"]))


@pytest.mark.parametrize(
    ("task", "expected"),
    [("tldr", "POST: why?\nTL;DR:"), ("instruct", "### Instruction:\nwhy?\n\n### Response:")],
)
def test_one_pair_of_the_command_line(task: str, expected: str) -> None:
    (pair,) = read_pairs(ScoresOptions(task=task, prompt=" why? ", good=" so ", bad="no"))
    assert (pair.prompt, pair.chosen, pair.rejected) == (expected, "so", "no")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no pairs to score: give --data FILE, or --prompt, --good and --bad"),
        ({"prompt": "x", "good": "y"}, "--bad is missing or empty"),
        ({"prompt": " ", "good": "y", "bad": "z"}, "--prompt is missing or empty"),
        ({"data": "x.jsonl", "bad": "y"}, "--data and --bad exclude each other"),
    ],
)
def test_what_is_no_pair(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_pairs(ScoresOptions(**options))


def test_lengths_and_a_missing_model(run_root: Path, tmp_path: Path) -> None:
    pair = ("--prompt", "x", "--good", "y", "--bad", "z")
    own = run_root / "ckpts" / "reward_model"
    assert usual_length(str(own)) == 256  # what the model takes
    (tmp_path / "config.json").write_text((own / "config.json").read_text())
    (tmp_path / "run.json").write_text('{"options": {"max_length": 96}}')
    assert usual_length(str(tmp_path)) == 96  # as it was trained
    with pytest.raises(UserError, match="max_length is 300 but the model has 256 positions"):
        main(["--root", str(run_root), *pair, "--max_length", "300"])
    with pytest.raises(UserError, match=r"no reward model in .*train_reward_model_gptneo\.py"):
        main(["--root", str(tmp_path), *pair])
    assert not (tmp_path / "metadata").exists()


def test_the_label_of_a_classifier(classified_root: Path, run_root: Path) -> None:
    pair = ("--prompt", "the cat", "--good", "my boss left", "--bad", "Rome", "--show", "0")

    def score(label: str) -> float:
        main(["--root", str(classified_root), *pair, "--reward_label", label, "--out", "{root}/scores.csv"])
        with (classified_root / "scores.csv").open(encoding="utf-8", newline="") as file:
            return float(next(csv.DictReader(file))["score_chosen"])

    assert score("POSITIVE") == pytest.approx(-score("NEGATIVE"), abs=1e-5)
    with pytest.raises(UserError, match="say with --reward_label"):
        main(["--root", str(classified_root), *pair])
    with pytest.raises(UserError, match="no text classifier is among the reward models: leave it out"):
        main(["--root", str(run_root), *pair, "--reward_label", "POSITIVE"])
