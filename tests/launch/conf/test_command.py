"""The three commands: which option is whose, the samples as they stand, and one run through Ray with two workers."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from tiny_stage import environment, tiny_base

from launch.conf.command import ConfOptions, apart, job_options, main
from launch.conf.literals import read_conf
from launch.conf.translation import Kind, translate
from launch.ray_jobs.options import RayOptions
from sft.train_gptneo_summarize import SftOptions
from tasks.run_folder import REPO
from trlx.utils.cli import parse_config
from trlx.utils.metrics import read_metrics

SAMPLES: dict[Kind, str] = {"finetune": "Finetune/finetune.conf", "reward": "rlhf/reward.conf", "ppo": "rlhf/ppo.conf"}


def test_options_of_the_command_and_of_the_stage() -> None:
    ours, theirs = apart(
        ["--config_path", "x.conf", "--max_steps", "-1", "--print", "--model=y", "--max-failures", "-1", "-h"]
    )
    assert ours == ["--config_path", "x.conf", "--print", "--max-failures", "-1", "-h"]
    assert theirs == ["--max_steps", "-1", "--model=y"]


@pytest.mark.parametrize(("kind", "path"), SAMPLES.items())
def test_the_samples_can_be_meant(kind: Kind, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    translation = translate(kind, read_conf(path))
    assert f"--config_path {path}" in Path(path).read_text().split("{", 1)[0]
    job = job_options(ConfOptions(path, num_workers=3, address="auto"), translation)
    assert job == RayOptions(translation.stage, 3, '{"CPU": 1.0}', "auto", "runs/llm-ray/output/ray", max_failures=3)


@pytest.mark.parametrize("kind", ["finetune", "ppo"])
def test_what_a_file_amounts_to_is_shown_as_yaml(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPO)
    with pytest.raises(SystemExit) as end:
        main(kind, ["--config_path", SAMPLES[kind], "--print", "--bad_rows=skip"])
    assert end.value.code == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    base = yaml.safe_load(Path(f"configs/instruct/{'sft' if kind == 'finetune' else 'ppo'}.yaml").read_text())
    assert shown["bad_rows"] == "skip" and shown["valid_percentage"] == 20  # the command line, the file
    if kind == "finetune":
        assert shown["max_new_tokens"] == base["max_new_tokens"] and shown["out"] == "runs/llm-ray/checkpoint/sft"
    else:
        assert shown["method"]["target"] is None and shown["reward_relative"] is False
        assert shown["optimizer"]["kwargs"] == {"lr": 1e-5, "weight_decay": 0.0}


def test_the_yaml_that_is_shown_can_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPO)
    with pytest.raises(SystemExit):
        main("finetune", ["--config_path", SAMPLES["finetune"], "--print"])
    path = tmp_path / "sft.yaml"
    path.write_text(capsys.readouterr().out)
    assert parse_config(SftOptions, "", ["--config", str(path)]).learning_rate == 1e-5


def test_rows_that_are_named_are_evaluated_on_whatever_the_base_holds_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPO)
    sample = Path(SAMPLES["reward"]).read_text()
    share, rows = '"validation_split_percentage": 20', '"validation_file": None'
    assert share in sample and rows in sample
    path = tmp_path / "x.conf"
    path.write_text(sample.replace(share, share[:-2] + "None").replace(rows, rows[:-4] + "'examples/data'"))
    with pytest.raises(SystemExit):
        main("reward", ["--config_path", str(path), "--print"])
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["valid_percentage"] is None and shown["valid_data"] == "examples/data"


def test_a_command_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main("ppo", ["--train.seed", "1"])
    assert end.value.code == 2 and "--config_path is needed" in capsys.readouterr().err


CONF = """# I am python, not json
{
    "General": {"base_model": "base", "output_dir": "out", "checkpoint_dir": "ck/sft"},
    "Dataset": {"train_file": "rows.jsonl", "validation_split_percentage": 25},
    "Training": {
        "optimizer": "AdamW", "batch_size": 2, "learning_rate": 1e-3, "num_training_workers": 2,
        "resources_per_worker": {"CPU": 0.5},
    },
}
"""


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.skipif(find_spec("ray") is None, reason="the command runs on Ray")
def test_two_workers_train_and_a_mistake_is_one_line(tmp_path: Path) -> None:
    tiny_base(tmp_path / "base")
    (tmp_path / "x.conf").write_text(CONF)
    rows = [{"instruction": f"Name {n} things.", "context": "", "response": "The keys."} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    quick = {"RAY_AUTH_MODE": "disabled", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPO)}
    command = [sys.executable, str(REPO / "Finetune" / "finetune.py"), "--config_path", "x.conf"]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *options],
            cwd=tmp_path, env=environment(**quick), capture_output=True, text=True, timeout=250, check=False,
        )  # fmt: skip

    ran = run("--max_steps", "2", "--max_length=64", "--rouge_samples=0", "--preflight=false", "--log_steps=1")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    out = tmp_path / "ck" / "sft"
    record = json.loads((out / "run.json").read_text())
    assert record["finished"] and record["steps"] == 2 and record["world_size"] == 2
    assert record["train_posts"] + record["valid_posts"] == 20 and not record["valid_is_train"]
    assert record["options"]["valid_percentage"] == 25 and record["options"]["warmup_steps"] == 0
    assert [line["step"] for line in read_metrics(out) if "eval_loss" in line] == [2]
    assert (out / "model.safetensors").exists() and (tmp_path / "out" / "ray").is_dir()
    (tmp_path / "x.conf").write_text(CONF.replace('"batch_size": 2', '"batch_size": 2 * 2'))
    refused = run()
    assert refused.returncode == 2 and refused.stderr.startswith("error: x.conf, line 6: code, not a literal ('2 * 2')")
