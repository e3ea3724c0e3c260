"""Stages on two ranks, under their real launchers, killed again and again: they end as if nobody had killed them.

pytest tests/faults/test_kills_two_ranks.py                a kill of PPO in each layout
pytest tests/faults/test_kills_two_ranks.py --kills 60     15 kills of each stage under DDP and under ZeRO-2

Kills are power cuts, of launcher and ranks at once, at a change of a file by one of the ranks or between two changes.
A run that goes on from a kill is killed in its turn; where it has less left to do than that, another is begun.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from harness import PPO, REWARD, SFT
from killing import Order
from left_by import differences, outcome
from moments import Changes, Moment, at_changes, at_times, in_rollouts, read_changes
from stages import NAMES
from two_ranks import Ended, run

from launch.local import without_deepspeed

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(without_deepspeed()), reason=without_deepspeed() or "DeepSpeed can run"),
]
ALL = [(script, layout) for script in (SFT, REWARD, PPO) for layout in ("ddp", "zero2")]
QUICK = {(PPO, "ddp"): at_changes, (PPO, "zero2"): in_rollouts}  # killed once by default
KILLS_A_MOMENT = 4  # of one process, for which there is one of two


def counting(root: Path, aside: Path) -> dict[int, Order]:
    """Orders to count what each rank changes in its output folder."""
    return {rank: Order(str(root / "new"), str(aside / f"changes_{rank}")) for rank in (0, 1)}


def striking(root: Path, aside: Path, rank: int, moment: Moment, alone: bool = False) -> dict[int, Order]:
    """The order to kill the run, or one rank alone."""
    above = None if alone else os.getpid()
    return {rank: Order(str(root / "new"), str(aside / "hit"), moment.change, moment.wait, above)}


class Unkilled:
    """A run that nothing befell, kept as what it left and the changes that each rank made."""

    def __init__(self, script: str, layout: str, before: Path, folder: Path):
        root, aside = shutil.copytree(before, folder / "run"), folder / "aside"
        ended = run(script, layout, root, aside, orders=counting(root, aside))
        assert ended.code == 0, ended.output
        self.changes: dict[int, Changes] = {rank: read_changes(aside / f"changes_{rank}") for rank in (0, 1)}
        self.outcome = outcome(root / "new")

    def moment(self, number: int, draw: random.Random) -> tuple[int, Moment]:
        """(rank, moment): by turns in rollouts, at a change by either rank, at any time."""
        rank = 1 if self.changes[1] and number % 4 == 1 else 0
        way = [in_rollouts, at_changes, at_changes, at_times][number % 4]
        (found,) = way(self.changes[rank], 1, draw) or at_times(self.changes[rank], 1, draw)
        return rank, found

    def same_as(self, root: Path) -> None:
        """Raises: AssertionError saying where a run that was killed, and has ended, left something else."""
        other = differences(outcome(root / "new"), self.outcome)
        assert not other, "\n".join(other)


def went_on(script: str, layout: str, root: Path, aside: Path, unkilled: Unkilled) -> None:
    """Resume, to the end, and compare."""
    ended = run(script, layout, root, aside, "--resume", "auto")
    assert ended.code == 0, ended.output
    unkilled.same_as(root)


def hit_of(ended: Ended, aside: Path) -> str | None:
    """What was under way at the kill; None where the run ended before it, as a resumed run may."""
    hit = aside / "hit"
    if ended.code == 0 and not hit.exists():
        return None
    assert ended.code == -signal.SIGKILL and hit.exists(), ended.output
    part = json.loads(hit.read_text())
    hit.unlink()
    return str(part)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("script", "layout"), ALL, ids=[f"{NAMES[script]}-{layout}" for script, layout in ALL])
def test_two_ranks_without_power_for_a_moment(
    script: str, layout: str, before: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    kills, seed = pytestconfig.getoption("--kills") // KILLS_A_MOMENT, pytestconfig.getoption("--kill_seed")
    if not kills and (script, layout) not in QUICK:
        pytest.skip("in the long part, `make soak`, alone")
    unkilled, draw = Unkilled(script, layout, before, tmp_path), random.Random(f"{seed} {script} {layout}")
    root, aside = tmp_path / "killed", tmp_path / "aside"
    hit: Counter[str] = Counter()
    for number in itertools.count():
        rank, moment = unkilled.moment(number, draw)
        if not kills:
            (moment,) = QUICK[script, layout](unkilled.changes[0], 1, draw)
            rank = 0
        fresh = not root.exists() and shutil.copytree(before, root)
        again = [] if fresh else ["--resume", "auto"]
        ended = run(script, layout, root, aside, *again, orders=striking(root, aside, rank, moment))
        part = hit_of(ended, aside)
        print(f"{NAMES[script]} {layout}, kill {number}: rank {rank}, {moment}: {part}", flush=True)
        if part is None:  # it had less left to do
            unkilled.same_as(root)
            shutil.rmtree(root)
        else:
            hit[part] += 1
        if hit.total() >= max(kills, 1):
            break
    went_on(script, layout, root, aside, unkilled)
    assert script != PPO or kills < 12 or hit["rollouts"]
    changes = [len(each) for each in unkilled.changes.values()]
    print(f"{NAMES[script]} {layout}: {changes} changes, {hit.total()} kills in {dict(hit)}")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("script", "layout"), [(SFT, "zero2"), (SFT, "ddp"), (PPO, "zero2")])
def test_the_launcher_of_a_dead_rank_ends_the_other(
    script: str, layout: str, before: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """`deepspeed`, torchrun and accelerate; `run` says so where one is left."""
    if pytestconfig.getoption("--kills") < KILLS_A_MOMENT:
        pytest.skip("in the long part, `make soak`, alone")
    unkilled = Unkilled(script, layout, before, tmp_path)
    root, aside = shutil.copytree(before, tmp_path / "killed"), tmp_path / "aside"
    (moment,) = at_times(unkilled.changes[0], 1, random.Random(pytestconfig.getoption("--kill_seed")))
    ended = run(script, layout, root, aside, orders=striking(root, aside, 0, moment, alone=True))
    assert ended.code != 0 and (aside / "hit").exists(), ended.output
    went_on(script, layout, root, aside, unkilled)
