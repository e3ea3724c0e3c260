"""Stages that fail, stop early or are interrupted: recorded, told how to go on with, and gone on with."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.pipeline import driver
from launch.pipeline.driver import check_stages, main
from launch.pipeline.options import parse
from launch.pipeline.plan import Plan, make_plan
from tasks.run_folder import REPO
from trlx.utils.errors import UserError
from trlx.utils.lock import holding

Programs = Callable[..., None]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Sets what each stage does, as Python."""

    def choose(**code: str) -> None:
        def started(plan: Plan, stage: str, environment: dict[str, str]) -> list[list[str]]:
            return [[sys.executable, "-c", code.get(stage, "print('fine')"), *plan.stage_options(stage)]]

        monkeypatch.setattr(Plan, "started", started)

    return choose


def states(root: Path) -> dict[str, str]:
    return {name: entry["state"] for name, entry in json.loads((root / "run.json").read_text())["stages"].items()}


def start(root: Path, *arguments: str) -> None:
    main(["sgl_gpu", "--root", str(root), "--check", "false", *arguments])


def test_a_failing_stage_stops_the_run_which_is_gone_on_with(
    tmp_path: Path, programs: Programs, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    programs(reward_model="print('warming up'); raise SystemExit('no such data')")
    with pytest.raises(
        UserError, match=r"reward_model failed with code 1: see .*reward_model\.log; go on with: "
    ) as failed:
        start(root, "--ppo.train.total_steps", "5")
    said = capfd.readouterr().err
    assert "--- the last lines of" in said and "warming up\nno such data\n---" in said
    assert states(root) == {"sft": "finished", "reward_model": "failed"}

    # The line that it says, without its beginning, is one that goes on.
    words = shlex.split(str(failed.value).partition("go on with: bash train.sh ")[2])
    assert words == ["sgl_gpu", "--root", str(root), "--from", "reward_model"]
    programs(reward_model="import sys; print(sys.argv)", ppo="import sys; print(sys.argv)")
    main([*words, "--check", "false"])
    assert states(root) == dict.fromkeys(("sft", "reward_model", "ppo", "evaluation"), "finished")
    log = (root / "logs" / "reward_model.log").read_text()
    assert "warming up" in log and "'--resume', 'auto'" in log  # what was said before stays
    ppo = (root / "logs" / "ppo.log").read_text()
    assert "'--train.total_steps', '5'" in ppo and "--resume" not in ppo
    assert len(json.loads((root / "run.json").read_text())["starts"]) == 2


def test_a_signal_is_recorded_and_said_how_to_go_on_from(
    tmp_path: Path, programs: Programs, capfd: pytest.CaptureFixture[str]
) -> None:
    programs(ppo=f"import os, signal, time; os.kill({os.getpid()}, signal.SIGTERM); time.sleep(60)")
    with pytest.raises(SystemExit) as stopped:
        start(tmp_path / "run")
    assert stopped.value.code == 128 + signal.SIGTERM
    assert f"ppo was interrupted (SIGTERM); go on with: bash train.sh sgl_gpu --root {tmp_path}/run --from ppo" in (
        capfd.readouterr().err
    )
    assert states(tmp_path / "run")["ppo"] == "interrupted"


def test_a_trainer_that_says_it_has_not_finished_has_not(tmp_path: Path, programs: Programs) -> None:
    """DeepSpeed's launcher exits with 0 when a signal killed what it started; and so do trainers that were told to."""
    out = tmp_path / "run" / "ckpts" / "sft"
    programs(sft=f"import pathlib; p = pathlib.Path({str(out)!r}); p.mkdir(parents=True); "
             "(p / 'run.json').write_text('{\"finished\": false}')")  # fmt: skip
    with pytest.raises(UserError, match=r"sft was stopped before its end: .*--from sft"):
        start(tmp_path / "run")
    assert states(tmp_path / "run") == {"sft": "interrupted"}


def test_a_policy_stage_that_a_signal_stopped_has_not_finished(tmp_path: Path, programs: Programs) -> None:
    out = tmp_path / "run" / "ckpts" / "ppo"
    write = f"import pathlib; p = pathlib.Path({str(out)!r}); p.mkdir(parents=True, exist_ok=True); "
    programs(ppo=write + "(p / 'run.json').write_text('{\"finished\": false}')")
    with pytest.raises(UserError, match="ppo was stopped before its end"):
        start(tmp_path / "run")
    programs(ppo=write + "(p / 'run.json').write_text('{\"finished\": true}')")
    start(tmp_path / "run", "--from", "ppo")
    assert states(tmp_path / "run")["evaluation"] == "finished"


def test_a_killed_launcher_is_said_to_be(tmp_path: Path, programs: Programs) -> None:
    programs(sft="import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(UserError, match="sft was killed by SIGKILL"):
        start(tmp_path / "run")


def test_two_runs_do_not_share_a_folder(tmp_path: Path, programs: Programs) -> None:
    inner = (
        f"import sys; sys.path.insert(0, {str(REPO)!r}); from trlx.utils.lock import take\n"
        f"from trlx.utils.errors import UserError\ntry:\n    take({str(tmp_path / 'run')!r})\n"
        "except UserError as error:\n    print(error)\n"
    )
    programs(sft=inner)
    start(tmp_path / "run")
    assert "another run is writing here" in (tmp_path / "run" / "logs" / "sft.log").read_text()
    with holding(tmp_path / "run"):  # it is let go of at the end
        pass


def test_a_new_run_is_made_below_runs(tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.pipeline.plan.next_root", lambda: tmp_path / "runs" / "x-1")
    programs(sft="import sys; print(sys.argv)")
    main(["sgl_gpu", "--only", "sft", "--check", "false"])
    (root,) = (tmp_path / "runs").glob("[!.]*")  # the lock lies beside it
    assert f"'--root', '{root}'" in (root / "logs" / "sft.log").read_text()


def test_a_slip_in_the_last_stages_options_shows_before_the_first_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(plan: Plan, stage: str) -> list[str]:
        last = stage == "evaluation"
        assert plan.stage_options(stage)[-1] == ("7" if last else str(tmp_path / "run"))
        return [sys.executable, "-c", "raise SystemExit('warning\\nerror: unknown option --limits')" if last else ""]

    monkeypatch.setattr(Plan, "check_command", command)
    plan = make_plan(parse(["sgl_gpu", "--root", str(tmp_path / "run"), "--evaluation.limits", "7"]))
    with pytest.raises(UserError, match=r"^evaluation: unknown option --limits$"):
        check_stages(plan, dict(os.environ))
    with pytest.raises(UserError, match="unknown option --limits"):
        driver.run(plan)
    assert not (tmp_path / "run").exists()


def test_a_stage_that_does_not_answer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(Plan, "check_command", lambda *_: asleep)
    monkeypatch.setattr(driver, "CHECK_SECONDS", 0.2)
    plan = make_plan(parse(["sgl_gpu", "--root", str(tmp_path / "run")]))
    with pytest.raises(UserError, match=r"^sft: did not read its options within 0\.2 s: .*--check false"):
        check_stages(plan, dict(os.environ))


def test_a_finished_run_is_archived_beside_it_where_that_is_asked_for(
    tmp_path: Path, programs: Programs, capfd: pytest.CaptureFixture[str]
) -> None:
    begin = "import pathlib, sys; out = pathlib.Path(sys.argv[sys.argv.index('--root') + 1], 'ckpts', 'sft')"
    programs(sft=f"{begin}; out.mkdir(parents=True); (out / 'config.json').write_text('{{}}')")
    start(tmp_path / "kept", "--archive", "true")
    (archive,) = (tmp_path / "archive").glob("kept-*")
    assert json.loads((archive / "archive.json").read_text())["stages"]["ppo"]["state"] == "finished"
    assert "archived in" in capfd.readouterr().out
    programs()
    with pytest.raises(
        UserError, match=r"the run is done and not archived: python -m launch archive .*none tries again"
    ):
        start(tmp_path / "none", "--archive", "true")
    assert "holds no model of a run" in capfd.readouterr().err
    start(tmp_path / "plain")
    assert [path for path in (tmp_path / "archive").iterdir() if path.is_dir()] == [archive]
