"""Stages killed at chosen moments and started again end with the very files of a run that was never killed.

pytest tests/faults                a few moments of each stage
pytest tests/faults --kills 60     many (`make soak`), drawn anew with each --kill_seed
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from harness import PPO, REWARD, SFT, Scripts
from killing import Order
from left_by import differences, outcome
from moments import moments, read_changes
from stages import NAMES, options


def run(scripts: Scripts, script: str, root: Path, *more: str, order: Order | None = None) -> int:
    """The script's exit code, or minus the signal that ended it."""
    setup = order.code() if order else ""
    result = scripts.run(root, script, *options(script, root), *more, setup=setup, timeout=300)
    assert result.code in (0, -9), result.err[-3000:]
    return result.code


class Unkilled:
    """A run that nothing befell, kept as what it left and the changes of files that it made."""

    def __init__(self, scripts: Scripts, script: str, before: Path, folder: Path):
        self.script, self.root, record = script, shutil.copytree(before, folder / "run"), folder / "changes"
        assert run(scripts, script, self.root, order=Order(str(self.root), str(record))) == 0
        self.changes = read_changes(record)
        self.outcome = outcome(self.root / "new")


@pytest.fixture(scope="module", params=[SFT, REWARD, PPO], ids=NAMES.get)
def unkilled(
    request: pytest.FixtureRequest, scripts: Scripts, before: Path, tmp_path_factory: pytest.TempPathFactory
) -> Unkilled:
    return Unkilled(scripts, request.param, before, tmp_path_factory.mktemp("unkilled"))


@pytest.mark.timeout(7200)
def test_a_killed_run_ends_as_one_that_never_was(
    unkilled: Unkilled, scripts: Scripts, before: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    kills, seed = pytestconfig.getoption("--kills"), pytestconfig.getoption("--kill_seed")
    assert len(unkilled.changes) > 50
    hit: Counter[str] = Counter()
    for number, moment in enumerate(moments(unkilled.changes, kills, seed)):
        root, record = shutil.copytree(before, tmp_path / str(number) / "run"), tmp_path / str(number) / "hit"
        killed = run(scripts, unkilled.script, root, order=Order(str(root), str(record), moment.change, moment.wait))
        assert killed == -9, f"{moment} of {len(unkilled.changes)} did not come"
        part = json.loads(record.read_text())
        hit[part] += 1
        assert run(scripts, unkilled.script, root, "--resume", "auto") == 0
        other = differences(outcome(root / "new"), unkilled.outcome)
        assert not other, "\n".join([f"killed at {moment} of {len(unkilled.changes)} ({part})", *other])
        shutil.rmtree(tmp_path / str(number))
    print(f"\n{NAMES[unkilled.script]}: {len(unkilled.changes)} changes, killed in: {dict(hit)}")
    assert unkilled.script != PPO or kills < 12 or hit["rollouts"]  # one alone may miss them on a busy machine
