"""Pretraining texts of the PPO stage: read from files, refused where they cannot be meant, and learned in a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_stage import run_plain, tiny_reward_model, tiny_tokenizer, write_rows
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import trlx_gptneo_rft_summarization as rft_script
import trlx_gptneo_text_summarization as script
from launch.policy_pretraining import load_pretraining_texts
from tasks.run_folder import RunFolder
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics

ROWS = [{"text": f"Text {i} tells of my sister, who sold the car in Paris.", "split": "train"} for i in range(40)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def load(tokenizer: Any, *options: str) -> list[str] | None:
    """The texts that a command line names, in blocks of 64 tokens, eight a step."""
    sizes = ["--train.seq_length", "64", "--train.batch_size", "8"]
    found = parse_config(script.PPOOptions, "", [*sizes, "--method.ptx_coef", "0.1", *options])
    return load_pretraining_texts(found, found.engine_config(), tokenizer)


def test_texts_of_a_file_a_split_and_a_column(tmp_path: Path, tokenizer: Any) -> None:
    rows = [*ROWS, *({**row, "split": "test"} for row in ROWS[:3])]
    write_rows(tmp_path / "x.jsonl", [{"body": row["text"], "split": row["split"]} for row in rows])
    data = ("--ptx_data", str(tmp_path / "x.jsonl"), "--ptx_column", "body")
    assert load(tokenizer, *data) == [row["text"] for row in ROWS]
    assert load(tokenizer, *data, "--ptx_limit", "39") == [row["text"] for row in ROWS[:39]]
    write_rows(tmp_path / "y_train.jsonl", [{"meta": {"body": row["text"]}} for row in ROWS])
    folder = ("--ptx_data", str(tmp_path / "y"), "--ptx_column", "meta.body")
    assert load(tokenizer, *folder) == [row["text"] for row in ROWS]
    (tmp_path / "z.csv").write_text("text\n" + "".join(f'"{row["text"]}"\n' for row in ROWS))
    assert load(tokenizer, "--ptx_data", str(tmp_path / "z.csv")) == [row["text"] for row in ROWS]


def test_without_texts_and_without_weight_there_is_nothing_to_do(tokenizer: Any) -> None:
    assert load(tokenizer, "--method.ptx_coef", "0") is None


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (ROWS, ["--ptx_data", "null"], r"--method\.ptx_coef 0\.1 needs pretraining texts: name them with --ptx_data"),
        (ROWS, ["--method.ptx_coef", "0"], r"--method\.ptx_coef is 0: set it above 0, or leave --ptx_data out"),
        (ROWS, ["--ptx_limit", "0"], "--ptx_limit must be at least 1, not 0"),
        (ROWS, ["--ptx_limit", "2"], r"fill \d blocks of train\.seq_length \(64\) tokens, .* takes 8.*give more texts"),
        (ROWS, ["--model.num_layers_unfrozen", "0"], "need a policy that trains"),
        (ROWS, ["--ptx_split", "other"], r"x\.jsonl, split 'other': no row of this split"),
        (ROWS, ["--ptx_column", "txt"], r"line 1: no text in column 'txt' \(columns: text, split\).*--ptx_column"),
        ([*ROWS, {"text": None, "split": "train"}], [], r"line 41: no text in column 'text'.*--bad_rows skip"),
        ([{"text": " ", "split": "train"}], [], "the pretraining texts fill 0 blocks"),
        ([{"text": 3, "split": "train"}], [], r"line 1: 'text' is not text \(a number\)"),
    ],
    ids=[
        "no-data",
        "no-weight",
        "no-rows",
        "too-few",
        "frozen",
        "no-split",
        "no-column",
        "null",
        "all-blank",
        "number",
    ],
)
def test_what_is_refused(tmp_path: Path, tokenizer: Any, rows: list[Any], options: list[str], words: str) -> None:
    write_rows(tmp_path / "x.jsonl", rows)
    with pytest.raises(UserError, match=words) as refused:
        load(tokenizer, "--ptx_data", str(tmp_path / "x.jsonl"), *options)
    assert "\n" not in str(refused.value)


def test_blank_rows_are_no_fault(tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    blank = [{"text": text, "split": "train"} for text in ("", " \n")]
    write_rows(tmp_path / "x.jsonl", [blank[0], *ROWS[:20], *blank, *ROWS[20:]])
    assert load(tokenizer, "--ptx_data", str(tmp_path / "x.jsonl")) == [row["text"] for row in ROWS]
    assert "skipped" not in caplog.text


def test_bad_rows_can_be_skipped(tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    write_rows(tmp_path / "x.jsonl", [{"text": None, "split": "train"}, *ROWS, {"text": "", "split": "train"}])
    texts = load(tokenizer, "--ptx_data", str(tmp_path / "x.jsonl"), "--bad_rows", "skip")
    assert texts == [row["text"] for row in ROWS]
    assert "1 rows skipped: 1 no text in column 'text'" in caplog.text


def test_rft_has_no_such_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_config(rft_script.RFTOptions, "", ["--ptx_data", "x"])
    assert "unknown option --ptx_data" in capsys.readouterr().err


@pytest.mark.e2e
def test_a_run_learns_the_texts_and_leaves_the_average(root: Path) -> None:
    folder = RunFolder.of(root)
    shutil.copytree(root / "base", folder.sft)
    tiny_reward_model(root / "base", folder.reward_model)
    write_rows(root / "plain.jsonl", ROWS)
    settings = {
        **{"data": "{root}/data/sft", "train_limit": 6, "eval_limit": 2, "preflight": False, "monitor": "none"},
        **{"ptx_data": "{root}/plain.jsonl", "model": {"model_path": "{root}/ckpts/sft", "num_layers_unfrozen": -1}},
        "optimizer": {"name": "adamw", "kwargs": {"lr": 1e-2}},
        "train": {
            **{"seq_length": 96, "batch_size": 4, "total_steps": 4, "eval_interval": 100, "resume_interval": 0},
            **{"tracker": None, "ema_decay": 0.5, "save_best": False, "minibatch_size": 2},
        },
        "method": {
            **{"ptx_coef": 2.0, "num_rollouts": 4, "chunk_size": 4, "ppo_epochs": 4},
            "gen_kwargs": {"max_new_tokens": 8, "do_sample": True},
        },
    }
    (root / "ppo.yaml").write_text(yaml.safe_dump(settings))
    options = ("--config", str(root / "ppo.yaml"), "--root", str(root))
    done = run_plain("trlx_gptneo_text_summarization.py", *options, ranks=1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "40 pretraining texts mixed in" in done.stdout
    losses = [row["losses/ptx_loss"] for row in read_metrics(folder.ckpts / "ppo") if "losses/ptx_loss" in row]
    assert len(losses) == 4 and losses[-1] < losses[0] - 0.5
    last = folder.ckpts / "checkpoint_4"
    average, policy = (AutoModelForCausalLM.from_pretrained(last / name) for name in ("hf_model_ema", "hf_model"))
    base = AutoModelForCausalLM.from_pretrained(root / "base")
    key = "transformer.h.0.mlp.c_fc.weight"
    travelled = (policy.state_dict()[key] - base.state_dict()[key]).norm()
    assert 0 < (average.state_dict()[key] - base.state_dict()[key]).norm() < travelled
    assert json.loads((folder.ckpts / "ppo" / "run.json").read_text())["options"]["ptx_column"] == "text"
