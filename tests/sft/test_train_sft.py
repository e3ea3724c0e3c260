"""The SFT script from its command line to the model on disk, one process, no launcher."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_stage import posts, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from launch.outputs import last_whole_checkpoint
from launch.stage import begin_stage
from launch.stage_trainer import StageTrainer
from sft.posts import encode_posts
from sft.train_gptneo_summarize import SftOptions, build_trainer, main
from tasks.records import Post
from tasks.run_folder import fill_places
from tasks.text import TLDR
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics
from trlx.utils.pretrained import load_tokenizer


def options(root: Path, *more: str) -> list[str]:
    return [
        f"--root={root}",
        "--model={root}/base",
        "--data={root}/data/sft",
        "--max_length=128",
        "--preflight=false",
        "--max_steps=6",
        "--batch_size=4",
        "--learning_rate=3e-3",
        "--warmup_steps=1",
        "--eval_steps=3",
        "--save_steps=2",
        "--log_steps=1",
        "--precision=fp32",
        "--rouge_samples=2",
        "--max_new_tokens=4",
        *more,
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_a_run_leaves_model_metrics_and_record(root: Path) -> None:
    main(options(root))
    out = root / "ckpts" / "sft"
    lines = read_metrics(out)
    evaluations = [line for line in lines if "eval_loss" in line]
    assert [line["step"] for line in evaluations] == [3, 6]
    assert evaluations[-1]["eval_loss"] < evaluations[0]["eval_loss"]
    assert {"eval_rouge1", "eval_rouge2", "eval_rougeL", "eval_eos_rate"} <= set(evaluations[0])
    assert any("loss" in line and "grad_norm" in line for line in lines)
    assert list((out / "logs").glob("events.*"))
    record = json.loads((out / "run.json").read_text())
    assert record["finished"] and record["world_size"] == 1 and record["steps"] == 6 and not record["deepspeed"]
    assert len(record["first_batches"][0]["rows"]) == 4
    assert AutoTokenizer.from_pretrained(out).eos_token == "<|endoftext|>"
    base = weights(root / "base")
    assert any(not torch.equal(value, base[name]) for name, value in weights(out).items())


def test_refused_overwritten_resumed(root: Path) -> None:
    main(options(root, "--rouge_samples=0"))
    first = weights(root / "ckpts" / "sft")
    with pytest.raises(UserError, match="already holds a run"):
        main(options(root))
    main(options(root, "--rouge_samples=0", "--overwrite=true"))
    second = weights(root / "ckpts" / "sft")
    assert all(torch.equal(value, second[name]) for name, value in first.items())  # the same seed, the same model
    main(options(root, "--rouge_samples=0", "--resume=true"))  # nothing left to do
    third = weights(root / "ckpts" / "sft")
    assert all(torch.equal(value, third[name]) for name, value in first.items())


def test_a_run_that_was_cut_resumes_to_the_same_model(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main(options(root, "--rouge_samples=0", "--out", str(root / "whole")))
    step, calls = StageTrainer.training_step, []

    def cut(self: StageTrainer, *arguments: Any, **keywords: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("power cut")
        return step(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "training_step", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            main(options(root, "--rouge_samples=0", "--out", str(root / "cut")))
    assert not (root / "cut" / "config.json").exists()  # no model is offered before it is whole
    assert last_whole_checkpoint(root / "cut") == root / "cut" / "checkpoint-4"
    main(options(root, "--rouge_samples=0", "--resume=true", "--out", str(root / "cut")))
    whole, resumed = weights(root / "whole"), weights(root / "cut")
    assert all(torch.allclose(value, resumed[name], atol=1e-6) for name, value in whole.items())
    steps = [line["step"] for line in read_metrics(root / "cut") if "loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("limit", "newest"), [(1, {"checkpoint-6"}), (2, {"checkpoint-4", "checkpoint-6"})])
def test_the_best_model_is_kept_not_the_last(root: Path, limit: int, newest: set[str]) -> None:
    # a rate that ruins the model: the first evaluation is the best one
    ruinous = ["--learning_rate=5", "--warmup_steps=4", "--eval_steps=1"]
    main(options(root, "--rouge_samples=0", *ruinous, f"--save_total_limit={limit}"))
    out = root / "ckpts" / "sft"
    losses = {line["step"]: line["eval_loss"] for line in read_metrics(out) if "eval_loss" in line}
    best = min(losses, key=lambda step: losses[step])
    assert best < 6
    kept = {path.name for path in out.glob("checkpoint-*")}
    assert kept == {f"checkpoint-{best}", *newest}
    saved, at_best = weights(out), weights(out / f"checkpoint-{best}")
    assert all(torch.equal(value, at_best[name]) for name, value in saved.items())


def test_evaluation_does_not_depend_on_its_batch_size(root: Path) -> None:
    losses = []
    for size in (1, 4):
        chosen = SftOptions(
            root=str(root), model="{root}/base", data="{root}/data/sft", precision="fp32", eval_batch_size=size
        )
        chosen.rouge_samples, chosen.deepspeed = 0, None
        chosen = fill_places(chosen, root)
        trainer = build_trainer(begin_stage("sft", chosen, root / f"out{size}", ["loss"]), chosen)
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_posts_that_cannot_fit_are_counted(root: Path) -> None:
    tokenizer = load_tokenizer(root / "base")
    fits = Post("a", "SUBREDDIT: r/x\nTITLE: t\nPOST: " + "p " * 200 + "\nTL;DR:", "short")
    too_long = Post("b", "POST: p\nTL;DR:", "word " * 200)
    rows, left_out = encode_posts([fits, too_long], TLDR, tokenizer, max_length=64)
    assert (len(rows), left_out) == (1, 1)
    assert rows.lengths[0] <= 64 and rows[0]["response_ids"][-1] == tokenizer.eos_token_id
    with pytest.raises(UserError, match="none of 1 posts"):
        encode_posts([too_long], TLDR, tokenizer, max_length=64)


def test_help_shows_every_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stopped.value.code == 0
    for name, default in vars(SftOptions()).items():
        assert f"--{name} " in text, name
        if isinstance(default, (int, float)) and not isinstance(default, bool):
            assert f"default: {default})" in text, name
    assert "EleutherAI/gpt-neo-1.3B" in text and "CarperAI/openai_summarize_tldr" in text


def test_the_defaults_are_those_of_the_example() -> None:
    defaults = SftOptions()
    assert (defaults.learning_rate, defaults.batch_size, defaults.eval_batch_size, defaults.epochs) == (1e-5, 16, 1, 5)
    assert (defaults.warmup_steps, defaults.adam_beta1, defaults.adam_beta2, defaults.max_length) == (
        100,
        0.9,
        0.95,
        550,
    )
    assert (defaults.eval_steps, defaults.save_steps, defaults.seed, defaults.precision) == (500, 1000, 42, "fp16")
    assert defaults.gradient_checkpointing


@pytest.mark.parametrize("bad", [["--lerning_rate=1"], ["--epochs=many"], ["--precision=fp8"]])
def test_bad_options_exit_2_in_one_line(bad: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(bad)
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_bad_input_is_a_user_error(root: Path) -> None:
    with pytest.raises(UserError, match="best_metric"):
        main(options(root, "--best_metric=eval_rogue", "--out", str(root / "a")))
    with pytest.raises(UserError, match=r"no finished model in .*none: name another with --model"):
        main(options(root, "--model={root}/none", "--out", str(root / "b")))
    write_rows(root / "data" / "other_train.jsonl", [{"prompt": "x", "wrong": "y"}])
    write_rows(root / "data" / "other_valid.jsonl", posts(2, 9))
    with pytest.raises(UserError, match="label"):
        main(options(root, "--data={root}/data/other", "--out", str(root / "c")))
    assert not any((root / name).exists() for name in "abc")  # nothing is written before all is found good


def test_one_file_for_everything_is_warned_of(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(root / "mine.jsonl", posts(8, 1))
    given = options(root, f"--data={root}/mine.jsonl", "--out", str(root / "a"))
    main(given)
    assert "WARNING: training and validation read the same rows" in capsys.readouterr().out
    assert json.loads((root / "a" / "run.json").read_text())["valid_is_train"]
    write_rows(root / "held.jsonl", posts(4, 2))
    main([*given, f"--valid_data={root}/held.jsonl", "--overwrite"])
    assert "WARNING" not in capsys.readouterr().out
    record = json.loads((root / "a" / "run.json").read_text())
    assert record["valid_posts"] == 4 and not record["valid_is_train"]


def test_bad_rows_before_the_first_good_one_are_skipped_for_rouge_too(root: Path) -> None:
    bad = [{"prompt": "POST: p", "label": ""}] * 3
    write_rows(root / "data" / "odd_train.jsonl", posts(8, 1))
    write_rows(root / "data" / "odd_valid.jsonl", [*bad, *posts(4, 2)])
    given = options(root, f"--data={root}/data/odd", "--bad_rows=skip", "--rouge_samples=2", "--out", str(root / "a"))
    main(given)
    assert json.loads((root / "a" / "run.json").read_text())["valid_posts"] == 4
    no_room = ["--max_new_tokens=127", "--out", str(root / "b")]
    with pytest.raises(UserError, match="no evaluation post leaves room for a summary"):
        main([*given, *no_room])
