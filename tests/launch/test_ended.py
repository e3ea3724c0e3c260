"""Stages that exit with 0 before their end."""

import os
from pathlib import Path

import pytest

from launch.ended import Ending, says_finished


def say(folder: Path, text: str, time: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(text)
    os.utime(folder / "run.json", ns=(time, time))


@pytest.mark.parametrize(
    ("text", "stopped"),
    [('{"finished": true}', False), ('{"finished": false}', True), ("{}", True), ("{", False), ("[]", False)],
)
def test_the_record_tells_whether_it_came_to_its_end(tmp_path: Path, text: str, stopped: bool) -> None:
    ending = Ending(tmp_path / "out")
    say(tmp_path / "out", text, time=1)
    assert ending.stopped_early() is stopped


def test_the_record_of_an_earlier_start_does_not_count(tmp_path: Path) -> None:
    say(tmp_path / "out", '{"finished": true}', time=1)
    ending = Ending(tmp_path / "out")
    assert ending.stopped_early()
    say(tmp_path / "out", '{"finished": true}', time=2)
    assert not ending.stopped_early()


def test_without_a_record_nothing_is_known(tmp_path: Path) -> None:
    assert not Ending(None).stopped_early() and not Ending(tmp_path).stopped_early()
    assert says_finished(tmp_path) is None
