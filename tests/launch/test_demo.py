"""The demo's rules about its folder, and the commands it runs."""

import sys
from pathlib import Path

import pytest

from launch import demo
from launch.demo import MARKER, DemoOptions, claim_root, stages
from launch.local import Machine
from tasks.run_folder import REPO
from trlx.utils.errors import UserError

MACHINE = Machine(processes=2, deepspeed=True, reason="")


def test_every_stage_reads_a_config_that_exists_and_writes_below_the_root(tmp_path: Path) -> None:
    commands = dict(stages(DemoOptions(root=str(tmp_path), seed=5), MACHINE))
    assert list(commands) == [
        "posts, tokenizer and a random model",
        "SFT",
        "preference pairs",
        "reward model",
        "second reward model",
        "PPO",
        "frontier",
        "evaluation",
    ]
    for command in commands.values():
        assert Path(command[command.index("--config") + 1]).is_file()
        assert command[command.index("--root") + 1] == str(tmp_path)
        assert "5" in command or "105" in command  # the second reward model's own seed


def test_an_earlier_demo_is_replaced_only_on_request_and_nothing_else_with_it(tmp_path: Path) -> None:
    for name in ("ckpts", "study", ".cache"):  # a study of the earlier demo says nothing of the new one
        (tmp_path / name).mkdir()
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="no demo wrote"):
        claim_root(DemoOptions(root=str(tmp_path), overwrite=True))
    (tmp_path / MARKER).write_text("{}")
    with pytest.raises(UserError, match="--overwrite"):
        claim_root(DemoOptions(root=str(tmp_path)))
    claim_root(DemoOptions(root=str(tmp_path), overwrite=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == [MARKER, "mine.txt"]


def test_a_stage_that_was_stopped_stops_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed's launcher exits with 0 where a signal killed what it started."""
    record = tmp_path / "ckpts" / "sft" / "run.json"
    write = f"import pathlib; p = pathlib.Path({str(record)!r}); p.parent.mkdir(parents=True); p.write_text('{{}}')"
    made = [("SFT", [sys.executable, "-c", write]), ("PPO", [sys.executable, "-c", "raise SystemExit(3)"])]
    monkeypatch.setattr(demo, "stages", lambda *_: iter(made))
    with pytest.raises(UserError, match=r"SFT was stopped before its end: see .*1_SFT\.log; begin again"):
        demo.run_demo(DemoOptions(root=str(tmp_path), processes=1), lambda _: None)


def test_the_repository_itself_is_no_place_for_a_demo() -> None:
    with pytest.raises(UserError, match="runs/"):
        claim_root(DemoOptions(root=str(REPO), overwrite=True))
