"""A limit on how long a function may take: interrupted where that can be, else the process ends."""

import inspect
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from trlx.utils.errors import UserError
from trlx.utils.timeouts import limited, name_of


def judge(samples: list[str], wait: float = 0.0, **_: Any) -> list[str]:
    time.sleep(wait)
    return samples


class Judge:
    def __call__(self, **_: Any) -> None:
        time.sleep(60)


def test_a_function_in_time_is_as_it_was() -> None:
    assert limited(judge, None, "x") is judge
    within = limited(judge, 60, "x")
    assert within(["a"], wait=0.01) == ["a"]
    assert inspect.signature(within) == inspect.signature(judge)  # the engine looks at its arguments
    with pytest.raises(TypeError, match="samples"):
        within()
    assert signal.getsignal(signal.SIGALRM) is not None


def test_a_late_one_is_named_with_the_option() -> None:
    with pytest.raises(UserError, match=r"test_timeouts\.judge did not return within 0\.05 s \(some\.option\): "):
        limited(judge, 0.05, "some.option")([], wait=60)
    with pytest.raises(UserError, match=r"test_timeouts\.Judge did not"):
        limited(Judge(), 0.05, "some.option")()
    assert name_of(judge).endswith("test_timeouts.judge")


def test_the_alarms_of_others_come_as_before() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    left = signal.setitimer(signal.ITIMER_REAL, 0.6)[0]
    try:
        with pytest.raises(UserError):
            limited(judge, 0.05, "x")([], wait=60)
        assert not rung and 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 0.6
        time.sleep(0.7)
        assert rung == [1]
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)


STUCK = """
import threading, time
from trlx.utils import timeouts
timeouts.GRACE = 0.2
def stuck(): time.sleep(300)
thread = threading.Thread(target=timeouts.limited(stuck, 0.2, "x"))
thread.start()
thread.join()
"""


def test_what_cannot_be_interrupted_ends_with_the_process() -> None:
    ran = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=200, check=False)
    assert ran.returncode == 1
    assert "Timeout" in ran.stderr and "in stuck" in ran.stderr
