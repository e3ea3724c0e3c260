"""Which signals are noted, and when a second one ends the process."""

import os
import signal
import threading

import pytest

from trlx.utils import signals
from trlx.utils.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_noted_and_nothing_else(number: signal.Signals) -> None:
    with StopRequest() as request:
        assert request.name is None
        os.kill(os.getpid(), number)
        assert request.name == number.name
        os.kill(os.getpid(), signal.SIGTERM)  # the launcher passes it on
        assert request.name == number.name
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_later_sigterm_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sent = [100.0], []
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with StopRequest() as request:
        request._note(signal.SIGUSR1, None)
        now[0] += 60
        request._note(signal.SIGTERM, None)  # the limit itself, after the notice: saving may still be under way
        now[0] += signals.ECHO
        request._note(signal.SIGTERM, None)
        monkeypatch.setattr(signals.os, "kill", lambda *given: sent.append(given))
        now[0] += 1
        request._note(signal.SIGTERM, None)
        assert sent == [(os.getpid(), signal.SIGTERM)]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_handlers_of_others_and_other_threads_are_left_alone() -> None:
    def theirs(*_: object) -> None: ...

    signal.signal(signal.SIGTERM, theirs)
    try:
        with StopRequest():
            assert signal.getsignal(signal.SIGTERM) is theirs
            assert signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    found: list[bool] = []

    def within() -> None:
        with StopRequest():
            found.append(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)

    thread = threading.Thread(target=within)
    thread.start()
    thread.join()
    assert found == [True]
