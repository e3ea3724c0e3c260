"""The whole: the command with its exit codes, and what goes before a training job."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from launch import doctor
from launch.doctor import DoctorOptions, Finding, check, preflight, require_healthy
from launch.doctor.finding import has_failed
from launch.doctor.options import GROUPS, models_of
from tests.tiny_stage import REPO, environment
from trlx.utils.errors import UserError

MACHINE = "[versions, devices, bandwidth, disk, hub, deepspeed]"


@pytest.fixture
def damaged(finished: Path, tmp_path: Path) -> Path:
    """A root whose reward model pads with EOS."""
    shutil.copytree(finished / "ckpts", tmp_path / "ckpts")
    config = tmp_path / "ckpts" / "reward_model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"pad_token_id": 0}))
    return tmp_path


def test_a_sound_root_has_no_failure_and_every_group_has_a_line(finished: Path) -> None:
    found = check(DoctorOptions(root=str(finished)))
    assert not has_failed(found)
    names = " ".join(one.name for one in found)
    for part in (
        "python",
        "GPUs",
        "copy in memory",
        "disk",
        "hub",
        "DeepSpeed",
        "tokenizer, sft",
        "KL, sft",
        "score position",
    ):
        assert part in names
    assert check(DoctorOptions(root=str(finished), skip=list(GROUPS))) == []


def test_without_models_that_is_said_and_is_no_failure(tmp_path: Path) -> None:
    found = check(DoctorOptions(root=str(tmp_path), skip=[name for name in GROUPS if name != "tokenizers"]))
    assert [(one.status, one.name) for one in found] == [("ok", "models")]


def test_models_that_are_given_go_before_those_of_the_root(finished: Path) -> None:
    given = models_of(DoctorOptions(root=str(finished), policy="a/b"))
    assert given.policies == {"policy": "a/b"} and list(given.reward_models) == ["reward model"]


def test_the_command_ends_with_0_1_or_2(finished: Path, damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor.main(["--root", str(finished), "--skip", MACHINE])
    assert " 0 fail" in capsys.readouterr().out
    with pytest.raises(SystemExit) as failed:
        doctor.main(["--root", str(damaged), "--skip", MACHINE])
    assert failed.value.code == 1
    assert "its pad token is EOS" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match="no group of checks is called 'disks'; did you mean 'disk'"):
        doctor.main(["--root", str(finished), "--skip", "[disks]"])


def test_a_model_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    found = check(DoctorOptions(root=str(tmp_path), policy=str(tmp_path / "gone"), skip=list(GROUPS[:-2])))
    assert [one.status for one in found] == ["fail", "fail"] and "no such folder" in found[0].seen


def test_preflight_of_each_stage(finished: Path, damaged: Path) -> None:
    sft, judge = finished / "ckpts" / "sft", finished / "ckpts" / "reward_model"
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert {one.status for one in preflight(str(sft), [str(judge)])} == {"ok"}
    assert torch.equal(torch.rand(3), expected)  # training goes on as if nobody had looked
    of_judge = preflight(str(judge))  # a reward model that trains on
    assert {one.status for one in of_judge} == {"ok"} and "score position, model" in [one.name for one in of_judge]
    assert has_failed(preflight(str(sft), [str(damaged / "ckpts" / "reward_model")]))
    assert has_failed(preflight(str(damaged / "gone")))


def test_failures_end_a_job_and_warnings_are_said() -> None:
    said: list[str] = []
    warning = Finding("warn", "disk", "slow", "wait")
    require_healthy([Finding("ok", "python", "3"), warning], said.append)
    assert said == ["warn: disk: slow: wait"]
    bad = [Finding("fail", "KL", "far", "go back"), warning, Finding("fail", "ratio", "2", "")]
    with pytest.raises(UserError) as error:
        require_healthy(bad, said.append)
    assert str(error.value).startswith("before training: KL: far; go back (and 1 more")
    assert "--preflight false leaves this out" in str(error.value)


@pytest.mark.e2e
def test_it_runs_as_a_module(damaged: Path) -> None:
    command = [sys.executable, "-m", "launch.doctor", "--skip", "[bandwidth, models]", "--root", str(damaged)]
    done = subprocess.run(
        command, cwd=REPO, env=environment(), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and "python" in done.stdout
