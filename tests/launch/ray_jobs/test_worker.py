"""A stage's `main` within a worker: how its ends are told apart, and where its output goes."""

from __future__ import annotations

import errno
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.ray_jobs import worker
from launch.ray_jobs.options import SCRIPTS, Script
from launch.ray_jobs.output import log_path, printing_to, shown
from launch.ray_jobs.worker import Followed, Job, evaluate, run_stage
from trlx.trainer.peers import peers_alive
from trlx.utils.errors import UserError, fail


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """A job whose stage is the function given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def make(main: Callable[[list[str]], object], rank: int = 0) -> Job:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setitem(sys.modules, "a_stage", types.SimpleNamespace(main=main))  # type: ignore[arg-type]
        monkeypatch.setitem(SCRIPTS, "ppo", Script("a_stage"))
        return Job("ppo", ["--root", "here"], str(tmp_path / "job"), str(tmp_path))

    return make


def test_output_goes_to_the_ranks_file_and_errors_are_kept_apart(
    stage: Callable[..., Job], capfd: pytest.CaptureFixture
) -> None:
    def main(argv: list[str]) -> None:
        print(*argv)
        print("a warning", file=sys.stderr)
        fail("unknown option --x")

    job = stage(main, rank=0)
    with pytest.raises(UserError, match=r"^unknown option --x$"):
        run_stage(job, again=True)
    written = log_path(job.folder, 0).read_text()
    assert written == "--root here --overwrite=false --resume=true\na warning\n"
    assert capfd.readouterr() == ("", "")


def test_a_second_attempt_goes_on_in_the_same_file(stage: Callable[..., Job]) -> None:
    job = stage(lambda argv: print("again" if argv[-1] == "--resume=true" else "first"))
    run_stage(job, again=False)
    run_stage(job, again=True)
    assert log_path(job.folder, 0).read_text() == "first\nagain\n"


def _raise(error: BaseException) -> Callable[[list[str]], None]:
    def main(_: list[str]) -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "rank", "raised", "message"),
    [
        (UserError("no model there"), 0, UserError, "no model there"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 0, UserError, "No space left"),
        (SystemExit(2), 1, Followed, "main rank"),
        (SystemExit(3), 0, RuntimeError, "exit code 3"),
        (KeyError("bug"), 0, KeyError, "bug"),
    ],
)
def test_mistakes_are_told_from_failures(
    stage: Callable[..., Job], error: BaseException, rank: int, raised: type[Exception], message: str
) -> None:
    with pytest.raises(raised, match=message):
        run_stage(stage(_raise(error), rank), again=False)


def test_a_bug_leaves_its_traceback_in_the_log(stage: Callable[..., Job]) -> None:
    job = stage(_raise(KeyError("bug")))
    with pytest.raises(KeyError):
        run_stage(job, again=False)
    assert "KeyError: 'bug'" in log_path(job.folder, 0).read_text()


def test_ranks_end_quietly_once_all_have_met_the_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("sft", [], str(tmp_path), str(tmp_path))
    assert job.told() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(worker, "PATIENCE", 0.0)
    with pytest.raises(Followed):  # the main rank may be waiting for this one
        worker._leave(job, Followed("main rank"))
    assert job.told() == "the stage refused its input"
    monkeypatch.setenv("RANK", "0")
    worker._leave(job, UserError("no such file"))
    assert job.told() == "no such file"


def test_a_rank_that_lost_another_met_no_mistake() -> None:
    with pytest.raises(UserError) as caught, peers_alive():
        raise RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    assert worker.lost_peer(caught.value)
    assert not worker.lost_peer(UserError("no such file"))
    with pytest.raises(UserError) as other:
        raise UserError("cannot be read") from RuntimeError("not a zip file")
    assert not worker.lost_peer(other.value)


def test_ending_well_in_any_way(stage: Callable[..., Job]) -> None:
    assert evaluate(stage(_raise(SystemExit(0))).plain(), again=False) is None
    assert evaluate(stage(lambda argv: "anything").plain(), again=False) is None
    assert evaluate(stage(_raise(UserError("no such split"))).plain(), again=False) == "no such split"


def test_a_file_is_shown_from_its_first_byte_to_its_last(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / "logs" / "rank_0.log"
    with shown(path, seconds=0.01):
        with printing_to(path):
            print("first")
            print("50%\r100%", end="")
        with printing_to(path):
            print("the last — Ω")
    assert capfd.readouterr().out == "first\n50%\r100%the last — Ω\n"
