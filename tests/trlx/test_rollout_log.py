"""A run's rollouts lie in a folder of their own, in which the run that resumes it goes on."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tiny_engine import ppo_config

from trlx.data.configs import TRLConfig
from trlx.trainer.rollout_log import RolloutLog


def config(tmp_path: Path, **overrides: Any) -> TRLConfig:
    return ppo_config(tmp_path, "no tokenizer", **{"train__rollout_logging_dir": str(tmp_path / "out"), **overrides})


def chunk(output: str) -> Any:
    """One response of two tokens after a prompt of one."""
    return SimpleNamespace(
        scores=torch.tensor([1.5]),
        texts=SimpleNamespace(prompts=["p"], outputs=[output]),
        query=torch.tensor([[0, 7]]),
        query_mask=torch.tensor([[False, True]]),
        response=torch.tensor([[8, 9, 0]]),
        response_mask=torch.tensor([[True, True, False]]),
    )


def phase(log: RolloutLog, epoch: int, output: str) -> None:
    log.add(chunk(output), torch.tensor([[0.25, 0.5, 0.0]]))
    log.write(epoch, step=3)


def outputs(path: Path) -> list[str]:
    return [json.loads(line)["output"] for line in path.read_text().splitlines()]


def folder_of(log: RolloutLog) -> Path:
    assert log.folder is not None
    return log.folder


def test_what_is_written(tmp_path: Path) -> None:
    log = RolloutLog(config(tmp_path), rank=0)
    assert not (tmp_path / "out").exists()  # nothing before there are rollouts
    phase(log, 2, "é")
    assert {path.name for path in folder_of(log).iterdir()} == {"config.json", "epoch-00002-rank-0.jsonl"}
    assert json.loads((folder_of(log) / "config.json").read_text())["train"]["epochs"] == 2
    (line,) = (folder_of(log) / "epoch-00002-rank-0.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "prompt": "p",
        "output": "é",
        "score": 1.5,
        "kl": 0.75,  # 0.25 + 0.5
        "query_tensor": [7],
        "response_tensor": [8, 9],
        "step": 3,
    }


def test_two_runs_of_one_config_do_not_meet(tmp_path: Path) -> None:
    for overrides in ({}, {"train__run_name": "a/b"}):
        first, second = (RolloutLog(config(tmp_path, **overrides), rank=0) for _ in range(2))
        phase(first, 0, "first")
        phase(second, 0, "second")
        for log, output in ((first, "first"), (second, "second")):
            assert folder_of(log).parent == tmp_path / "out" and folder_of(log).name.startswith("run-")
            assert outputs(folder_of(log) / "epoch-00000-rank-0.jsonl") == [output]
    assert len(list((tmp_path / "out").glob("run-b-*"))) == 2


def test_a_resumed_run_goes_on_in_its_folder(tmp_path: Path) -> None:
    first = RolloutLog(config(tmp_path), rank=0)
    phase(first, 0, "first")
    started = (folder_of(first) / "config.json").read_text()
    second = RolloutLog(config(tmp_path, train__resume_from_checkpoint="auto"), rank=0)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    phase(second, 1, "second")
    (folder,) = (tmp_path / "out").iterdir()
    assert outputs(folder / "epoch-00000-rank-0.jsonl") == ["first"]
    assert outputs(folder / "epoch-00001-rank-0.jsonl") == ["second"]
    assert (folder / "config.json").read_text() == started


def test_the_name_survives_a_run_without_a_log(tmp_path: Path) -> None:
    silent = RolloutLog(config(tmp_path, train__rollout_logging_dir=None), rank=0)
    silent.load_state_dict({"name": "abc"})
    phase(silent, 0, "lost")
    assert silent.folder is None and silent.rows == [] and silent.state_dict() == {"name": "abc"}
    assert not (tmp_path / "out").exists()


def test_other_ranks_take_the_main_ranks_name_and_write_no_config(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("trlx.trainer.rollout_log.from_main_rank", lambda _: "of-rank-0")
    log = RolloutLog(config(tmp_path), rank=1)
    phase(log, 0, "x")
    assert content(tmp_path / "out") == {"run-of-rank-0", "run-of-rank-0/epoch-00000-rank-1.jsonl"}


def content(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_phase_without_rollouts_is_an_empty_file(tmp_path: Path) -> None:
    log = RolloutLog(config(tmp_path), rank=0)
    log.write(0, step=0)
    assert (folder_of(log) / "epoch-00000-rank-0.jsonl").read_text() == ""
