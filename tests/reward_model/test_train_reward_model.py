"""The reward-model script from its command line to the model on disk, one process, no launcher."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_stage import pairs, write_rows
from transformers import AutoModelForCausalLM

from reward_model.gate import GateOptions, judge_model, read_thresholds
from reward_model.objective import PairObjective
from reward_model.provenance import shared_posts
from reward_model.scorer import RewardScorer
from reward_model.train_reward_model_gptneo import RewardOptions, main
from reward_model.verdict import read_gate, read_verdict
from tasks.text import TLDR
from tasks.tldr import TASK
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics


def options(root: Path, *more: str) -> list[str]:
    return [
        f"--root={root}",
        "--model={root}/base",
        "--data={root}/data/comparisons",
        "--references={root}/data/sft",
        "--max_length=128",
        "--preflight=false",
        "--max_steps=6",
        "--batch_size=4",
        "--gradient_accumulation=1",
        "--learning_rate=3e-3",
        "--warmup_steps=1",
        "--eval_steps=3",
        "--precision=fp32",
        *more,
    ]


def test_a_run_learns_and_what_it_reports_is_what_is_on_disk(root: Path) -> None:
    rows = pairs(8, 5)
    rows[0]["gold_prefers_chosen"] = False  # one label of the test data is noise
    write_rows(root / "data" / "comparisons_test.jsonl", [*rows, {**rows[1], "rejected": rows[1]["chosen"]}])
    main(options(root))
    out = root / "ckpts" / "reward_model"
    results = json.loads((out / "results.json").read_text())
    assert results["pairs"]["test"] == {"total": 9, "kept": 8, "identical": 1, "short": 0}
    assert results["test"]["accuracy"] == 1.0
    assert results["test"]["accuracy_noise_free"] == pytest.approx(7 / 8)
    scorer = RewardScorer.load(out, max_length=128, batch_size=4, cut_prompt=TLDR.cut)
    posts = TASK.load_posts(str(root / "data" / "sft"), "valid")
    references = scorer.score([post.prompt for post in posts], [" " + post.summary for post in posts])
    assert sum(references) / len(references) == pytest.approx(0.0, abs=1e-5)  # the offset took their mean off
    test, _ = TASK.load_pairs(str(root / "data" / "comparisons"), "test")
    better = scorer.score([p.prompt for p in test], [" " + p.chosen for p in test])
    worse = scorer.score([p.prompt for p in test], [" " + p.rejected for p in test])
    assert all(b > w for b, w in zip(better, worse, strict=True))
    evaluations = [line for line in read_metrics(out) if "eval_accuracy" in line]
    assert [line["step"] for line in evaluations] == [3, 6] and "eval_accuracy_noise_free" in evaluations[0]
    assert json.loads((out / "run.json").read_text())["finished"]
    assert shared_posts(out, [row["prompt"] for row in pairs(24, 3)]) == len({row["prompt"] for row in pairs(24, 3)})
    with pytest.raises(UserError, match="already holds a run"):
        main(options(root))


def test_the_gate_judges_the_model_that_was_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    easy = root / "easy.yaml"
    easy.write_text("thresholds: {min_pairs: 5, min_posts: 5, accuracy: 0.9, trained_on: 0.5, padding: 1.0e-4}\n")
    main(options(root, f"--gate={easy}"))
    out = root / "ckpts" / "reward_model"
    said = capsys.readouterr().out
    assert "[reward model] reward model gate: PASS (15 checks, 11 not judged)" in said
    verdict, gate = read_verdict(out), read_gate(out)
    assert verdict is not None and verdict.passed and not verdict.stale and gate is not None
    assert gate["accuracy"]["accuracy"]["mean"] == 1.0 and gate["data"]["n"] == 8
    assert gate["data"]["references_split"] == "valid"
    assert {one["name"]: one["n"] for one in gate["stress"]}["other_post"] == 6  # one reference a post
    by_hand = judge_model(
        GateOptions(
            root=str(root),
            data=f"{root}/data/comparisons",
            references=f"{root}/data/sft",
            max_length=128,
            thresholds=read_thresholds(str(easy)),
        )
    )
    assert [(check.name, check.status) for check in by_hand.checks] == [(c.name, c.status) for c in gate["checks"]]
    assert [check.value for check in by_hand.checks] == pytest.approx([c.value for c in gate["checks"]], abs=1e-5)
    easy.write_text("thresholds: {min_pairs: 5, min_posts: 5, accuracy: 0.9, trained_on: 0.0}\n")
    train_pairs = f"--test_data={root}/data/comparisons_train.jsonl"
    main(options(root, f"--gate={easy}", "--overwrite", train_pairs))
    assert "  fails: trained_on 1.000" in capsys.readouterr().out  # judged on what it was trained on
    main(options(root, "--gate=null", "--overwrite"))
    assert read_verdict(out) is None and "model gate" not in capsys.readouterr().out


def test_bad_thresholds_stop_before_training(root: Path) -> None:
    (root / "gate.yaml").write_text("thresholds:\n  acc: 1\n")
    with pytest.raises(UserError, match=r"gate\.yaml, line 2: unknown key 'thresholds\.acc'"):
        main(options(root, f"--gate={root}/gate.yaml"))
    assert not (root / "ckpts" / "reward_model").exists()


def as_comparison(row: dict[str, Any], number: int, split: str) -> dict[str, Any]:
    """A pair in OpenAI's raw form; the preferred summary stands first and second in turn."""
    body = row["prompt"].split("POST: ")[1].removesuffix("\nTL;DR:")
    texts = [" " + row[side].removeprefix("TL;DR: ") for side in ("chosen", "rejected")]
    choice = number % 2
    return {
        "info": {"id": f"t3_{number}", "post": body, "title": "t", "subreddit": "x"},
        "summaries": [{"text": text, "policy": "sup1", "note": ""} for text in (texts if choice == 0 else texts[::-1])],
        "choice": choice,
        "worker": f"w{number % 3}",
        "batch": f"batch{3 + number % 2}",
        "split": split,
        "extra": {"confidence": 1 + number % 9} if number % 4 else {},
    }


def test_raw_comparisons_reach_evaluation_with_batch_confidence_and_worker(root: Path) -> None:
    rows = [*pairs(16, 1), *pairs(4, 2), *pairs(8, 3)]
    splits = ["train"] * 16 + ["valid1"] * 4 + ["valid2"] * 8
    made = [as_comparison(row, number, split) for number, (row, split) in enumerate(zip(rows, splits, strict=True))]
    folder = root / "comparisons"
    write_rows(folder / "batch3.json", made[::2])
    write_rows(folder / "batch4.json", made[1::2])
    main(options(root, f"--data={folder}", "--test_split=valid2"))
    out = root / "ckpts" / "reward_model"
    results = json.loads((out / "results.json").read_text())
    assert results["pairs"]["train"]["kept"] == 16 and results["test"]["pairs"] == 8
    by = results["test"]["by"]
    assert {name: row["pairs"] for name, row in by["batch"].items()} == {"batch3": 4, "batch4": 4}
    assert {name: row["pairs"] for name, row in by["worker"].items()} == {"w0": 3, "w1": 2, "w2": 3}
    assert sum(row["pairs"] for row in by["confidence"].values()) == 6  # two of the eight have none
    gate = read_gate(out)
    assert gate is not None and gate["verdict"] == "FAIL"  # 8 pairs judge nothing
    in_gate = gate["accuracy"]["by"]
    assert {
        group: {name: row["accuracy"]["mean"] for name, row in rows.items()} for group, rows in in_gate.items()
    } == {group: {name: row["accuracy"] for name, row in rows.items()} for group, rows in by.items()}
    with (out / "test_pairs.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["post_id"] for row in table] == [f"t3_{n}" for n in (*range(20, 28, 2), *range(21, 28, 2))]
    assert [row["right"] for row in table] == ["1.0"] * 8 and results["test"]["accuracy"] == 1.0
    assert {row["confidence"] for row in table if row["post_id"] in ("t3_20", "t3_24")} == {""}


def test_a_second_run_takes_the_pairs_from_the_cache(root: Path) -> None:
    main(options(root))
    stores = sorted((root / ".cache" / "tokens").glob("*/ids.bin"))
    assert len(stores) == 2  # train and valid
    written = [path.stat().st_mtime_ns for path in stores]
    main(options(root, "--overwrite"))
    assert [path.stat().st_mtime_ns for path in sorted((root / ".cache" / "tokens").glob("*/ids.bin"))] == written
    write_rows(root / "data" / "comparisons_train.jsonl", pairs(16, 9))
    main(options(root, "--overwrite"))
    assert len(list((root / ".cache" / "tokens").glob("*/ids.bin"))) == 3


def test_columns_of_other_names_and_one_file_for_everything(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = [{"prompt": row["prompt"], "better": row["chosen"], "worse": row["rejected"]} for row in pairs(12, 4)]
    write_rows(root / "mine.jsonl", named)
    write_rows(root / "held.jsonl", named[:4])
    given = [f"--data={root}/mine.jsonl", "--columns.chosen", "better", "--columns.rejected=worse"]
    main(options(root, *given, f"--valid_data={root}/held.jsonl"))
    results = json.loads((root / "ckpts" / "reward_model" / "results.json").read_text())
    assert results["pairs"]["train"]["kept"] == 12 and results["pairs"]["valid"]["kept"] == 4
    said = capsys.readouterr().out
    assert "WARNING: training and test read the same rows" in said and "--test_data FILE" in said
    assert "training and valid" not in said
    assert results["test"]["trained_on"] and "on 12 pairs of the TRAINING data" in said
    main(options(root, *given, "--overwrite", f"--valid_data={root}/held.jsonl", f"--test_data={root}/held.jsonl"))
    results = json.loads((root / "ckpts" / "reward_model" / "results.json").read_text())
    assert results["pairs"]["test"]["kept"] == 4 and not results["test"]["trained_on"]
    assert "WARNING" not in capsys.readouterr().out


def test_frozen_weights_stay_and_the_others_move(root: Path) -> None:
    main(options(root, "--frozen_fraction=0.5", "--gradient_accumulation=2"))
    out = root / "ckpts" / "reward_model"
    frozen = json.loads((out / "results.json").read_text())["frozen"]["parameters"]
    before = dict(AutoModelForCausalLM.from_pretrained(root / "base").named_parameters())
    after = dict(RewardScorer.load(out, max_length=9, batch_size=1).model.named_parameters())
    assert "transformer.h.0.ln_1.weight" in frozen and "transformer.h.1.ln_1.weight" not in frozen
    before.pop("transformer.ln_f.bias")  # adds the same to both scores of a pair, so its gradient is zero
    for name, weight in before.items():
        same = torch.equal(weight, after[name][: len(weight)])
        assert same == (name in frozen), name


def test_first_divergence_trains_too(root: Path) -> None:
    main(options(root, "--loss=first_divergence", "--references=null", "--frozen_fraction=0"))
    lines = [line for line in read_metrics(root / "ckpts" / "reward_model") if "eval_loss" in line]
    assert lines[-1]["eval_loss"] < lines[0]["eval_loss"]
    assert lines[-1]["eval_accuracy"] == 1.0


class FixedScores(torch.nn.Module):
    """A model whose head gives token i the score i times its id; the pooled score is that of the last real token."""

    def __init__(self) -> None:
        super().__init__()
        self.score = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(self.score.weight)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        scores = self.score((input_ids * torch.arange(input_ids.shape[1])).float()[..., None])
        last = attention_mask.sum(dim=1) - 1
        pooled = scores[torch.arange(len(last)), last]
        return type("Output", (), {"logits": pooled})()


BATCH = {
    "input_ids": torch.tensor([[4, 1, 1, 0], [4, 0, 0, 0]]),  # scores 0 1 2 0 and 0 0 0 0
    "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]),
    "gold": torch.tensor([0.0]),
}


def test_last_token_loss_and_metrics_golden() -> None:
    model = FixedScores()
    sums = PairObjective("last_token", model.score).measure(model, BATCH)
    # chosen 2 at its last token, rejected 0: −log σ(2) = 0.126928; the noise-free label prefers the other side
    assert sums["loss"] == (pytest.approx(0.126928, abs=1e-6), 1.0)
    assert sums["accuracy"] == (1.0, 1.0) and sums["accuracy_noise_free"] == (0.0, 1.0)
    assert sums["chosen_score"] == (2.0, 1.0) and sums["rejected_score"] == (0.0, 1.0)


def test_first_divergence_loss_golden() -> None:
    model = FixedScores()
    objective = PairObjective("first_divergence", model.score)
    # positions 1 and 2 count: (−log σ(1) − log σ(2)) / 2 = (0.313262 + 0.126928) / 2
    assert objective(model, BATCH).item() == pytest.approx(0.220095, abs=1e-6)
    assert not model.score._forward_hooks  # the watch is taken off again


def test_the_defaults_are_those_of_the_example() -> None:
    defaults = RewardOptions()
    assert (defaults.learning_rate, defaults.batch_size, defaults.gradient_accumulation) == (1e-5, 1, 4)
    assert (defaults.epochs, defaults.warmup_steps, defaults.max_length) == (5, 100, 550)
    assert (defaults.eval_steps, defaults.save_steps, defaults.precision) == (500, 500, "fp16")
    assert (defaults.frozen_fraction, defaults.loss, defaults.eval_batch_size) == (0.7, "last_token", 1)


def test_help_shows_every_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stopped.value.code == 0
    for name in vars(RewardOptions()):
        assert f"--{name} " in text, name
    assert "default: EleutherAI/gpt-neo-125M" in text and "default: 0.7" in text


@pytest.mark.parametrize("bad", [["--loss=second"], ["--frozzen_fraction=1"], ["--batch_size=x"]])
def test_bad_options_exit_2_in_one_line(bad: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(bad)
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
