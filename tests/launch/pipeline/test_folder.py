"""A run's folder: never an existing one, with a record of how it was run."""

import json
import subprocess
from pathlib import Path

import pytest

from launch.pipeline import folder
from launch.pipeline.folder import Record, claim_new_root, commit, keep_copy
from tasks.run_folder import RunFolder
from trlx.utils.errors import UserError


def test_every_new_run_has_the_next_number_of_the_day(tmp_path: Path) -> None:
    roots = [claim_new_root(tmp_path / "runs") for _ in range(3)]
    day = roots[0].name.removesuffix("-1")
    assert [root.name for root in roots] == [f"{day}-1", f"{day}-2", f"{day}-3"]
    roots[1].rmdir()
    (roots[0] / "precious").write_text("x")
    assert claim_new_root(tmp_path / "runs").name == f"{day}-2"
    assert (roots[0] / "precious").read_text() == "x"


def test_two_runs_at_the_same_moment_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    names = iter([taken, tmp_path / "free"])
    monkeypatch.setattr(folder, "next_root", lambda runs: next(names))
    assert claim_new_root(tmp_path) == tmp_path / "free"


def test_a_copy_that_would_be_replaced_stays_beside(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for text in ("1", "1", "2", "3"):
        keep_copy(path, text)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "a.yaml": "3",
        "a.1.yaml": "1",
        "a.2.yaml": "2",
    }


def test_the_record_keeps_every_start_and_the_state_of_each_stage(tmp_path: Path) -> None:
    record = Record(RunFolder(tmp_path))
    record.start(command=["train.sh", "sgl_gpu"], seeds={"sft": 1})
    record.begin("sft")
    assert Record(RunFolder(tmp_path)).state("sft") == "running"
    record.end("sft", "finished")
    again = Record(RunFolder(tmp_path))
    again.start(command=["train.sh", "sgl_gpu", "--from", "ppo"])
    facts = json.loads((tmp_path / "run.json").read_text())
    assert [len(start["command"]) for start in facts["starts"]] == [2, 4]
    assert facts["stages"]["sft"]["state"] == "finished" and facts["stages"]["sft"]["seconds"] >= 0
    assert "torch" in facts["starts"][0]["versions"] and facts["starts"][0]["seeds"] == {"sft": 1}
    assert again.state("ppo") is None


@pytest.mark.parametrize("text", ["", "[]", '{"stages": {}}', "no json"])
def test_a_foreign_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json: not a record of train\.sh's"):
        Record(RunFolder(tmp_path))


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        ran = subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    assert commit(tmp_path / "nowhere") is None
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    assert commit(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == {"commit": git("rev-parse", "HEAD"), "dirty": True}
