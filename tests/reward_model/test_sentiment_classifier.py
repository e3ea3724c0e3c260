"""The sentiment classifier from its command line to a PPO run that is rewarded by it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_stage import run_plain, write_rows
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, pipeline

from reward_model.classifier import LabelObjective, TextCollator
from reward_model.scorer import RewardScorer
from reward_model.train_reward_model_gptneo import main as train_on_pairs
from reward_model.train_sentiment_classifier import accuracy_of, main
from tasks.run_folder import RunFolder
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics

GOOD, BAD = "our neighbour lost the car at home near the lake", "my boss ate the cake at work in Paris"


def reviews(count: int, offset: int = 0) -> list[dict[str, Any]]:
    """Two kinds of text that a small model can tell apart, long enough to be divided."""
    return [
        {"id": f"{offset + i}", "text": f"{offset + i} " + (GOOD if i % 2 else BAD) * 8, "label": i % 2}
        for i in range(count)
    ]


@pytest.fixture
def film_root(root: Path) -> Path:
    for split, count, offset in (("train", 32, 0), ("valid", 8, 100), ("test", 10, 200)):
        write_rows(root / "data" / "films" / f"{split}.jsonl", reviews(count, offset))
    return root


def options(root: Path, *more: str) -> list[str]:
    return [
        f"--root={root}",
        "--model={root}/base",
        "--data={root}/data/films",
        "--valid_split=valid",
        "--max_length=96",
        "--preflight=false",
        "--max_steps=12",
        "--batch_size=8",
        "--learning_rate=3e-3",
        "--warmup_steps=1",
        "--eval_steps=6",
        "--precision=fp32",
        *more,
    ]


def test_a_run_learns_the_labels_and_any_pipeline_reads_them(film_root: Path, capsys: Any) -> None:
    main(options(film_root))
    out = RunFolder.of(film_root).reward_model
    results = json.loads((out / "results.json").read_text())
    assert results["labels"] == ["NEGATIVE", "POSITIVE"] and results["reward_label"] == "POSITIVE"
    assert results["test"]["accuracy"] == 1.0 and results["test"]["reviews"] == 10
    assert results["test"]["by_label"]["NEGATIVE"]["reviews"] == 5
    low, high = results["test"]["accuracy_interval_95"]
    assert low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6) and high == 1.0  # Wilson's for 10 of 10
    assert "test accuracy 1.000 on 10 reviews (95% 0.722 to 1.000)" in capsys.readouterr().out
    pipe = pipeline("text-classification", str(out), truncation=True, max_length=96)
    assert [row["label"] for row in pipe([GOOD * 8, BAD * 8])] == ["POSITIVE", "NEGATIVE"]
    good, bad = RewardScorer.load(out, max_length=96).score(["", ""], [GOOD * 8, BAD * 8])  # its label is in its config
    assert good > 0 > bad
    assert [line["step"] for line in read_metrics(out) if "eval_accuracy" in line] == [6, 12]
    with pytest.raises(UserError, match="already holds a run"):
        main(options(film_root))


def test_a_resumed_run_ends_as_one_that_was_not_stopped(film_root: Path) -> None:
    main(options(film_root, "--save_steps=6"))
    out = RunFolder.of(film_root).reward_model
    whole = AutoModelForSequenceClassification.from_pretrained(out).state_dict()
    for name in ("checkpoint-12", "config.json", "results.json"):
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    main(options(film_root, "--save_steps=6", "--resume"))
    again = AutoModelForSequenceClassification.from_pretrained(out).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in whole.items())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"label": 2}, r"train\.jsonl, line 2: a label that is neither positive nor negative \(2\): make it 0 or 1"),
        ({"label": "so so"}, r"line 2: a label that is neither positive nor negative \('so so'\)"),
        ({"text": " "}, r"train\.jsonl, line 2: .*'text' is empty"),
    ],
    ids=["two", "words", "empty"],
)
def test_rows_that_cannot_be_used_stop_it_before_anything_is_written(
    film_root: Path, change: dict[str, Any], match: str
) -> None:
    rows = reviews(4)
    rows[1] |= change
    write_rows(film_root / "data" / "films" / "train.jsonl", rows)
    with pytest.raises(UserError, match=match):
        main(options(film_root))
    assert not RunFolder.of(film_root).reward_model.exists()


def test_reviews_without_a_label_or_with_one_label_only(film_root: Path) -> None:
    rows = [{"text": row["text"]} for row in reviews(4)]
    write_rows(film_root / "data" / "films" / "train.jsonl", rows)
    with pytest.raises(UserError, match=r"line 1: a review without a label: add a column 'label'"):
        main(options(film_root))
    write_rows(film_root / "data" / "films" / "train.jsonl", reviews(8)[::2])
    with pytest.raises(UserError, match="all reviews have one label: give both kinds"):
        main(options(film_root))


def test_a_classifier_of_other_labels_is_no_start(film_root: Path) -> None:
    """Its head would go on to mean what it meant, under other names."""
    main(options(film_root))
    other = film_root / "other"
    shutil.copytree(RunFolder.of(film_root).reward_model, other)
    config = json.loads((other / "config.json").read_text())
    config |= {"id2label": {"0": "POSITIVE", "1": "NEGATIVE"}, "label2id": {"POSITIVE": 0, "NEGATIVE": 1}}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="a classifier of POSITIVE, NEGATIVE, which its head would go on to mean"):
        main(options(film_root, f"--model={other}", "--overwrite"))


def test_checkpoints_of_pairs_are_not_gone_on_with(film_root: Path) -> None:
    main(options(film_root))
    pairs = ["--model={root}/base", "--data={root}/data/comparisons", "--references=null", "--max_length=96"]
    with pytest.raises(UserError, match=r"holds checkpoints of another stage \(classifier\): pass --overwrite"):
        train_on_pairs([f"--root={film_root}", *pairs, "--preflight=false", "--resume"])


def test_the_objective_is_the_mean_cross_entropy() -> None:
    class Fixed(torch.nn.Module):
        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            del input_ids, attention_mask
            return type("Output", (), {"logits": torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 1.0]])})

    rows = [{"input_ids": [1, 2], "label": 1, "row": 0}, {"input_ids": [3], "label": 1, "row": 1}]
    batch = TextCollator(9)([*rows, {"input_ids": [4], "label": 0, "row": 2}])
    assert batch["input_ids"].tolist() == [[1, 2], [3, 9], [4, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0], [1, 0]]
    expected = cross_entropy(torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 1, 0]))
    objective = LabelObjective()
    assert objective(Fixed(), batch).item() == pytest.approx(expected.item())
    sums = objective.measure(Fixed(), batch)
    assert sums["accuracy"] == (1.0, 3.0) and sums["positive_share"] == (2.0, 3.0)
    assert sums["loss"] == (pytest.approx(3 * expected.item()), 3.0)


def test_accuracy_by_hand() -> None:
    """Of two positive and two negative reviews one positive is taken for negative; 0 is not above 0."""
    found = accuracy_of([1.0, 0.0, -1.0, -2.0], [1, 1, 0, 0])
    assert found["accuracy"] == 0.75 and found["by_label"]["POSITIVE"]["accuracy"] == 0.5
    assert found["by_label"]["NEGATIVE"]["accuracy"] == 1.0


@pytest.mark.e2e
def test_the_classifier_rewards_ppo_and_judges_what_came_of_it(film_root: Path) -> None:
    """The three steps, wired by the folder alone, with a random policy in the place of the SFT model."""
    folder = RunFolder.of(film_root)
    main(options(film_root))
    shutil.copytree(film_root / "base", folder.sft)
    common = [f"--root={film_root}", "--task=sentiment", "--data={root}/data/films"]
    ppo = run_plain(
        "trlx_gptneo_text_summarization.py",
        *common,
        "--reward_relative=false",
        "--preflight=false",
        "--valid_split=valid",
        "--model.num_layers_unfrozen=1",
        "--train.seq_length=40",
        "--train.total_steps=2",
        "--train.batch_size=4",
        "--train.eval_interval=2",
        "--method.num_rollouts=8",
        "--method.chunk_size=8",
        "--method.ppo_epochs=1",
        '--method.gen_kwargs={"max_new_tokens": 8, "do_sample": true}',
        ranks=1,
    )
    assert ppo.returncode == 0, ppo.stderr[-3000:]
    last = read_metrics(folder.ppo_logs)[-1]
    assert "reward/mean" in last
    judged = run_plain(
        "trlx_inference_gptneo.py",
        *common,
        "--max_length=40",
        "--max_new_tokens=8",
        "--kl_posts=2",
        "--baselines=",
        ranks=1,
    )
    assert judged.returncode == 0, judged.stderr[-3000:]
    rows = list(csv.DictReader((folder.metadata / "ppo_with_reward_scores_sample.csv").open()))
    assert len(rows) == 10 and all(row["truth"] for row in rows)
    scorer = RewardScorer.load(folder.reward_model, max_length=40)
    by_hand = scorer.score([row["post"] for row in rows], [" " + row["truth"] for row in rows])
    assert [float(row["score_truth"]) for row in rows] == pytest.approx(by_hand, abs=1e-4)
