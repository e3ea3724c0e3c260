"""Parts of a study are done once, and again when what they were made by changes or they did not finish."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launch.study.parts import StudyOptions, command_once, once, ppo_once, require_finished, reward_model_once
from tasks.run_folder import RunFolder
from trlx.utils.errors import UserError


def test_a_part_is_computed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = []

    def act() -> dict[str, int]:
        calls.append(1)
        return {"answer": len(calls)}

    note = tmp_path / "a" / "note.json"
    assert once(note, "counting", ("x", 1), act) == once(note, "counting", ["x", 1], act) == {"answer": 1}
    assert "[study] counting: kept" in capsys.readouterr().out
    assert once(note, "counting", ["x", 2], act) == {"answer": 2}  # made by something else
    assert once(note, "counting", ["x", 2], act) == {"answer": 2} and len(calls) == 2


def test_a_command_that_fails_leaves_no_note_and_is_run_again(tmp_path: Path) -> None:
    note, flag = tmp_path / "finished.json", tmp_path / "ran"
    code = f"import pathlib, sys; p = pathlib.Path({str(flag)!r}); ok = p.exists(); p.touch(); sys.exit(0 if ok else 3)"
    command = [sys.executable, "-m", "timeit", "-n1", "-r1", code]
    with pytest.raises(UserError, match=r"timeit failed with code \d+: its output above, and in .*finished\.log"):
        command_once(note, "trying", command)
    assert flag.exists() and not note.exists()


def test_commands_are_one_process_and_replace_what_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr("launch.study.parts.run_stage", lambda command, environment, log: ran.append(list(command)))
    study = StudyOptions(RunFolder.of(tmp_path), tmp_path / "study", 5, 0)
    reward_model_once(study, "reward_model", tmp_path / "rm", ["--seed", "7"])
    ppo_once(study, tmp_path / "study" / "seed_7", ["--train.seed", "7"])
    reward, ppo = (" ".join(command) for command in ran)
    assert reward.startswith(sys.executable) and "train_reward_model_gptneo.py" in reward
    assert f"--out {tmp_path / 'rm'} --overwrite true --gate null --seed 7 --deepspeed null" in reward
    assert "trlx_gptneo_text_summarization.py" in ppo and "--overwrite true" in ppo
    assert f"--train.checkpoint_dir {tmp_path / 'study' / 'seed_7'} " in ppo
    ppo_once(study, tmp_path / "study" / "seed_7", ["--train.seed", "7"])
    assert len(ran) == 2
    ppo_once(study, tmp_path / "study" / "seed_7", ["--train.seed", "8"])
    assert len(ran) == 3


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no .*ckpts/sft/config\.json \(SFT\): `python -m launch\.demo --root"):
        require_finished(RunFolder.of(tmp_path))
