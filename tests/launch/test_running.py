"""Launchers that fail, are interrupted or die: nothing of theirs goes on, and what was said is in the log."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from launch.running import Interrupted, interruptible, run_together

ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
# A launcher whose rank is in a session of its own, as torch's launcher has it; both note their ids.
LAUNCHER = """
import subprocess, sys, time, os, signal
rank = subprocess.Popen([sys.executable, "-c", sys.argv[2]], start_new_session=True)
open(sys.argv[1], "w").write(f"{os.getpid()} {rank.pid}")
if len(sys.argv) > 3:
    exec(sys.argv[3])
rank.wait()
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def ids_in(path: Path) -> list[int]:
    while not path.exists() or len(path.read_text().split()) < 2:
        time.sleep(0.02)
    return [int(word) for word in path.read_text().split()]


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def test_the_lines_of_several_are_told_apart_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "stage.log"
    commands = [python("print('one'); print('two')"), python("import sys; sys.stderr.write('three\\n')")]
    assert run_together(commands, ENVIRONMENT, log, ["a", "b"]) == 0
    assert sorted(log.read_text().splitlines()) == ["[a] one", "[a] two", "[b] three"]
    assert run_together([python("print('four', end='')")], ENVIRONMENT, log, more=True) == 0
    assert log.read_text().endswith("three\nfour") or log.read_text().endswith("two\nfour")


def test_one_that_fails_ends_the_others_with_all_they_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.running.SILENCE", 0.2)
    noted = tmp_path / "ids"
    fails = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(.02)\nsys.exit(3)"
    commands = [python(LAUNCHER, str(noted), STUBBORN), python(fails, str(noted))]
    assert run_together(commands, ENVIRONMENT, tmp_path / "log", ["a", "b"], grace=0.5) == 3
    assert all(ended(pid) for pid in ids_in(noted))


def test_the_ranks_of_a_launcher_that_died_are_ended(tmp_path: Path) -> None:
    """As DeepSpeed's outer launcher leaves the inner one: in its own process group."""
    noted = tmp_path / "ids"
    dies = LAUNCHER.replace(", start_new_session=True", "")
    command = python(dies, str(noted), STUBBORN, "os.kill(os.getpid(), signal.SIGKILL)")
    assert run_together([command], ENVIRONMENT, tmp_path / "log", grace=0.2) == -signal.SIGKILL
    assert ended(ids_in(noted)[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_asks_the_ranks_to_end_and_lets_them_save(tmp_path: Path, number: signal.Signals) -> None:
    noted, saved = tmp_path / "ids", tmp_path / "saved"
    saves = (
        "import signal, sys, time\n"
        f"def save(*_): time.sleep(.3); open({str(saved)!r}, 'w').write('x'); sys.exit(0)\n"
        f"signal.signal(signal.SIGTERM, save); print('ready', flush=True); open({str(noted)!r}, 'w').write('1 2'); "
        "time.sleep(60)"
    )

    def interrupt() -> None:
        ids_in(noted)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Interrupted) as caught, interruptible():
        run_together([python(saves)], ENVIRONMENT, tmp_path / "log", grace=20)
    assert saved.exists() and caught.value.code == 128 + number and caught.value.name == number.name
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_ctrl_c_ends_even_those_that_will_not(tmp_path: Path) -> None:
    noted = tmp_path / "ids"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored

    def interrupt() -> None:
        ids_in(noted)
        time.sleep(0.3)  # the rank begins to ignore SIGTERM
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_together([python(LAUNCHER, str(noted), STUBBORN)], ENVIRONMENT, tmp_path / "log", grace=0.3)
    signal.signal(signal.SIGINT, before)
    assert all(ended(pid) for pid in ids_in(noted))
