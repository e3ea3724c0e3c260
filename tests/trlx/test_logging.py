"""trlx.utils.logging: levels, ranks, handlers and progress bars. What a test changes, the fixture puts back."""

from __future__ import annotations

import logging as standard
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from trlx.utils import logging


class Kept(standard.Handler):
    """Keeps the records it is handed."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[standard.LogRecord] = []

    def emit(self, record: standard.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, level = Kept(), logging.get_verbosity()
    logging.add_handler(handler)
    yield handler
    logging.remove_handler(handler)
    logging.set_verbosity(level)
    logging.enable_default_handler()
    logging.disable_propagation()
    logging.enable_progress_bar()


@pytest.mark.parametrize(
    ("rank", "ranks", "shown"),
    [
        ("0", None, True),
        ("1", None, False),
        ("1", [1, 2], True),
        ("1", ["0", "1"], True),
        ("0", ["1"], False),
        ("3", [], True),
    ],
)
def test_who_speaks(kept: Kept, monkeypatch: pytest.MonkeyPatch, rank: str, ranks: list | None, shown: bool) -> None:
    monkeypatch.setenv("RANK", rank)
    logger = logging.get_logger("trlx.somewhere")
    logger.warning("a %s", "message", **({} if ranks is None else {"ranks": ranks}))
    assert kept.messages == ([f"[RANK {rank}] a message"] if shown else [])


def test_levels(kept: Kept) -> None:
    logger = logging.get_logger("trlx.somewhere")
    for number, setter in (
        (10, logging.set_verbosity_debug),
        (20, logging.set_verbosity_info),
        (30, logging.set_verbosity_warning),
        (40, logging.set_verbosity_error),
    ):
        setter()
        assert logging.get_verbosity() == number
        for say in (logger.debug, logger.info, logger.warning, logger.error):
            say("x")
    assert [record.levelno for record in kept.records] == [10, 20, 30, 40, 20, 30, 40, 30, 40, 40]


def test_the_record_names_the_callers_line(kept: Kept) -> None:
    logging.get_logger("trlx.somewhere").warning("x")
    assert kept.records[0].filename == "test_logging.py"
    assert kept.records[0].funcName == "test_the_record_names_the_callers_line"


def test_the_default_handler_writes_to_stderr_once(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.get_logger()
    logging.enable_default_handler()  # twice is once
    logger.warning("first")
    logging.disable_default_handler()
    logger.warning("second")
    captured = capsys.readouterr()
    assert captured.err == "[RANK 0] first\n"
    assert captured.out == ""
    assert len(kept.messages) == 2


def test_propagation(kept: Kept) -> None:
    root = Kept()
    standard.getLogger().addHandler(root)
    try:
        logging.get_logger("trlx.somewhere").warning("kept apart")
        logging.enable_propagation()
        logging.get_logger("trlx.somewhere").warning("passed on")
    finally:
        standard.getLogger().removeHandler(root)
    assert root.messages == ["[RANK 0] passed on"]


def test_progress_bars(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    assert logging.is_progress_bar_enabled()
    list(logging.tqdm(range(3), desc="drawn"))
    logging.disable_progress_bar()
    assert not logging.is_progress_bar_enabled()
    bar = logging.tqdm(range(3), desc="hidden")
    assert list(bar) == [0, 1, 2]
    bar.update(1)
    bar.set_description("hidden still")
    bar.close()
    logging.enable_progress_bar()
    list(logging.tqdm(range(3), desc="not asked for", disable=True))
    captured = capsys.readouterr().err
    assert "drawn" in captured
    assert "hidden" not in captured
    assert "not asked for" not in captured


def _fresh(verbosity: str) -> subprocess.CompletedProcess[str]:
    code = "from trlx.utils import logging; print(logging.get_verbosity())"
    environment = {**os.environ, "TRLX_VERBOSITY": verbosity}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)


def test_the_environment_sets_the_level() -> None:
    assert _fresh("ERROR").stdout == "40\n"
    wrong = _fresh("loud")
    assert wrong.stdout == "20\n"
    assert "unknown TRLX_VERBOSITY=loud: choose one of debug, info, warning" in wrong.stderr
