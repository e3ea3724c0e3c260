"""Parts of a study are done once, and again when what they were made by changes or they did not finish."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launch.study.parts import (
    Inputs,
    StudyOptions,
    command_once,
    miniature_once,
    once,
    portable,
    ppo_once,
    require_finished,
    reward_model_once,
)
from launch.study.scores import Bench
from tasks.run_folder import REPO, RunFolder
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
    study = StudyOptions(RunFolder.of(tmp_path), tmp_path, 5, 0)
    note, flag = tmp_path / "finished.json", tmp_path / "ran"
    code = f"import pathlib, sys; p = pathlib.Path({str(flag)!r}); ok = p.exists(); p.touch(); sys.exit(0 if ok else 3)"
    command = [sys.executable, "-m", "timeit", "-n1", "-r1", code]
    with pytest.raises(UserError, match=r"timeit failed with code \d+: its output above, and in .*finished\.log"):
        command_once(study, note, "trying", command, Inputs(), [])
    assert flag.exists() and not note.exists()


def model_at(folder: Path, weights: bytes = b"1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_a_part_whose_output_is_gone_is_done_again(tmp_path: Path) -> None:
    output, calls = tmp_path / "labels.jsonl", []

    def act() -> dict[str, int]:
        calls.append(1)
        output.write_text("{}")
        return {}

    for _ in range(2):
        once(tmp_path / "note.json", "writing", 1, act, [output])
    assert len(calls) == 1
    output.unlink()
    once(tmp_path / "note.json", "writing", 1, act, [output])
    assert len(calls) == 2


def test_parts_are_of_their_inputs_and_move_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another demo's data or models make them anew; another place does not."""
    ran: list[list[str]] = []
    root = tmp_path / "one"

    def stand_in(command: list[str], environment: object, log: Path) -> None:
        ran.append(list(command))
        (root / "data" / "comparisons_biased_train.jsonl").write_text(f"{len(ran)}")
        for place in ("seed_1/best", "seed_1/last"):
            model_at(root / "study" / place / "hf_model")
        (root / "study" / "seed_1" / "logs").mkdir(exist_ok=True)
        (root / "study" / "seed_1" / "logs" / "monitor.json").write_text("{}")

    monkeypatch.setattr("launch.study.parts.run_stage", stand_in)
    model_at(root / "ckpts" / "sft")
    model_at(root / "rm")
    (root / "data").mkdir()
    (root / "data" / "comparisons_train.jsonl").write_text("pairs")

    def parts() -> int:
        study = StudyOptions(RunFolder.of(root), root / "study", 5, 0)
        miniature_once(
            study, "labels.json", ["relabel"], ["comparisons_train.jsonl"], ["comparisons_biased_train.jsonl"]
        )
        ppo_once(study, root / "study" / "seed_1", ["--reward_model", f"{root}/rm"], [root / "rm"], ["best", "last"])
        return len(ran)

    assert parts() == 2 and parts() == 2
    root = root.rename(tmp_path / "two")
    assert parts() == 2
    assert str(tmp_path) not in (root / "study" / "seed_1" / "finished.json").read_text()
    model_at(root / "rm", b"another's weights")
    assert parts() == 3
    (root / "data" / "comparisons_train.jsonl").write_text("another seed's pairs")
    assert parts() == 4
    (root / "study" / "seed_1" / "last" / "hf_model" / "config.json").unlink()
    assert parts() == 5


def test_scores_are_of_the_policy_the_judges_and_the_posts(tmp_path: Path) -> None:
    run = RunFolder.of(tmp_path)
    policy, rm = model_at(tmp_path / "policy"), model_at(tmp_path / "rm")
    model_at(run.sft)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.jsonl").write_text("posts")

    def facts(posts: int = 5) -> object:
        return Bench(StudyOptions(run, tmp_path / "study", posts, 0), {"reward": rm}).facts([policy])

    first = facts()
    assert facts() == first != facts(posts=6)
    model_at(policy, b"trained on")
    second = facts()
    model_at(rm, b"another judge")
    third = facts()
    (tmp_path / "data" / "test.jsonl").write_text("other posts")
    known = [first, second, third, facts()]
    assert all(known.count(one) == 1 for one in known)


def test_a_command_line_without_its_places() -> None:
    command = [str(REPO / "a.py"), "--out", "/r/un/x", "--both", "/r/un/a,/r/un/b", "/r/unlike", "/r/un"]
    want = ["{repo}/a.py", "--out", "{root}/x", "--both", "{root}/a,{root}/b", "/r/unlike", "{root}"]
    assert portable(command, Path("/r/un")) == want


def test_commands_are_one_process_and_replace_what_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    folder = tmp_path / "study" / "seed_7"

    def stand_in(command: list[str], environment: object, log: Path) -> None:
        ran.append(list(command))
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        (folder / "logs" / "monitor.json").write_text("{}")

    monkeypatch.setattr("launch.study.parts.run_stage", stand_in)
    study = StudyOptions(RunFolder.of(tmp_path), tmp_path / "study", 5, 0)
    reward_model_once(study, "reward_model", tmp_path / "rm", ["--seed", "7"])
    ppo_once(study, folder, ["--train.seed", "7"], [], [])
    reward, ppo = (" ".join(command) for command in ran)
    assert reward.startswith(sys.executable) and "train_reward_model_gptneo.py" in reward
    assert f"--out {tmp_path / 'rm'} --overwrite true --gate null --seed 7 --deepspeed null" in reward
    assert "trlx_gptneo_text_summarization.py" in ppo and "--overwrite true" in ppo
    assert f"--train.checkpoint_dir {folder} " in ppo
    ppo_once(study, folder, ["--train.seed", "7"], [], [])
    assert len(ran) == 2
    ppo_once(study, folder, ["--train.seed", "8"], [], [])
    assert len(ran) == 3


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no .*ckpts/sft/config\.json \(SFT\): `python -m launch\.demo --root"):
        require_finished(RunFolder.of(tmp_path))
