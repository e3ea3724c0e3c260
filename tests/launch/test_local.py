"""The command lines of the stages, with and without DeepSpeed."""

import sys
from pathlib import Path

import pytest

from launch import local
from launch.local import Machine, ppo_command, run_stage, stage_environment, trainer_command
from trlx.utils.errors import UserError

WITH = Machine(processes=2, deepspeed=True, reason="")
WITHOUT = Machine(processes=1, deepspeed=False, reason="there is no C++ compiler")


def test_trainer_runs_under_deepspeed_on_loopback() -> None:
    command = trainer_command(WITH, "sft/train.py", ["--root", "r"])
    assert command[1:3] == ["-m", "deepspeed.launcher.runner"]
    assert command[command.index("--num_accelerators") + 1] == "2"
    assert command[command.index("--master_addr") + 1] == "127.0.0.1"
    assert command[-2:] == ["--root", "r"]


def test_trainer_without_deepspeed_is_one_plain_process() -> None:
    command = trainer_command(WITHOUT, "sft/train.py", [])
    assert command[0] == sys.executable and command[1].endswith("sft/train.py")
    assert command[-2:] == ["--deepspeed", "null"]


def test_ppo_runs_under_accelerate_only_with_deepspeed() -> None:
    command = ppo_command(WITH, "configs/tiny/accelerate.yaml", [])
    assert "accelerate.commands.launch" in command and command[command.index("--num_processes") + 1] == "2"
    assert Path(command[command.index("--config_file") + 1]).is_file()
    assert ppo_command(WITHOUT, "configs/tiny/accelerate.yaml", [])[0] == sys.executable


def test_no_compiler_means_no_deepspeed_and_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.shutil, "which", lambda name: None)
    machine = local.look_around(processes=2)
    assert not machine.deepspeed and machine.processes == 1 and "compiler" in machine.reason


def test_threads_are_shared_among_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(local.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(local.torch.cuda, "is_available", lambda: False)
    assert stage_environment(WITH)["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert stage_environment(WITH)["OMP_NUM_THREADS"] == "3"


def test_a_failing_stage_names_its_log(tmp_path: Path) -> None:
    script = tmp_path / "stage.py"
    script.write_text("print('why it failed'); raise SystemExit(7)")
    log = tmp_path / "logs" / "stage.log"
    with pytest.raises(UserError, match=r"stage\.py failed with code 7.*stage\.log"):
        run_stage([sys.executable, str(script)], {}, log)
    assert log.read_text() == "why it failed\n"


def test_deepspeed_is_told_which_gpus_were_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a number of processes alone it takes the first ones."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    monkeypatch.setattr(local.torch.cuda, "is_available", lambda: True)
    machine = Machine(2, True, "", local.visible_gpus())
    command = trainer_command(machine, "sft/train.py", [])
    assert command[command.index("--include") + 1] == "localhost:2,5" and "--num_accelerators" not in command


@pytest.mark.parametrize("value", ["", "GPU-8932f937", "MIG-a,MIG-b"])
def test_gpus_without_numbers_are_left_to_deepspeed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert local.visible_gpus() == ()
