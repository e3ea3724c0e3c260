"""Stages killed at chosen moments and started again end with the very files of a run that was never killed.

pytest tests/faults                a few moments of each stage
pytest tests/faults --kills 60     many (`make soak`), drawn anew with each --kill_seed
"""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path

import pytest
from harness import PPO, REWARD, SFT, Scripts
from killing import count_into, kill_at
from left_by import differences, outcome

ROOT = ["--root", "{root}"]
SHORT = ["--max_steps", "6", "--batch_size", "2", "--eval_steps", "3", "--save_steps", "2", "--max_length", "200"]
OPTIONS = {
    SFT: [
        *(*ROOT, *SHORT, "--model", "{root}/ckpts/sft", "--data", "{root}/data/sft", "--out", "{root}/new"),
        *("--rouge_samples", "2", "--max_new_tokens", "8", "--log_steps", "1", "--precision", "fp32"),
    ],
    REWARD: [
        *(*ROOT, *SHORT, "--model", "{root}/ckpts/sft", "--data", "{root}/data/comparisons", "--out", "{root}/new"),
        *("--references", "null", "--gate", "null", "--log_steps", "1", "--precision", "fp32"),
    ],
    PPO: [
        *(*ROOT, "--data", "{root}/data/sft", "--accept_failing_reward_model", "--train.seq_length", "200"),
        *("--train.checkpoint_dir", "{root}/new", "--train.logging_dir", "{root}/new/logs"),
        *("--train.total_steps", "6", "--train.batch_size", "4", "--train.eval_interval", "3"),
        *("--train.checkpoint_interval", "4", "--train.resume_interval", "1", "--method.num_rollouts", "8"),
        *("--method.chunk_size", "4", "--method.ppo_epochs", "2", "--method.gen_kwargs.max_new_tokens", "12"),
        *("--model.num_layers_unfrozen", "1", "--method.scale_reward", "running", "--eval_limit", "4"),
    ],
}


def run(scripts: Scripts, script: str, root: Path, *more: str, setup: str = "") -> int:
    """The script's exit code, or minus the signal that ended it."""
    options = [one.replace("{root}", str(root)) for one in OPTIONS[script]]
    result = scripts.run(root, script, *options, *more, setup=setup)
    assert result.code in (0, -9), result.err[-3000:]
    return result.code


class Unkilled:
    """A run that nothing befell, kept as what it left and how many changes of files it made."""

    def __init__(self, scripts: Scripts, script: str, before: Path, folder: Path):
        self.script, self.root = script, shutil.copytree(before, folder / "run")
        assert run(scripts, script, self.root, setup=count_into(self.root, folder / "events")) == 0
        self.events = int((folder / "events").read_text())
        self.outcome = outcome(self.root / "new")


@pytest.fixture(scope="module", params=[SFT, REWARD, PPO], ids=["sft", "reward_model", "ppo"])
def unkilled(
    request: pytest.FixtureRequest, scripts: Scripts, before: Path, tmp_path_factory: pytest.TempPathFactory
) -> Unkilled:
    return Unkilled(scripts, request.param, before, tmp_path_factory.mktemp("unkilled"))


def moments(events: int, kills: int, seed: int) -> list[int]:
    """Events at which to kill: one in each of `kills` equal parts of a run."""
    draw = random.Random(seed)
    edges = [1 + events * part // kills for part in range(kills + 1)]
    return [draw.randrange(low, max(low + 1, high)) for low, high in itertools.pairwise(edges)]


@pytest.mark.timeout(7200)
def test_a_killed_run_ends_as_one_that_never_was(
    unkilled: Unkilled, scripts: Scripts, before: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    kills, seed = pytestconfig.getoption("--kills"), pytestconfig.getoption("--kill_seed")
    assert unkilled.events > 50
    for number, event in enumerate(moments(unkilled.events, kills, seed)):
        root = shutil.copytree(before, tmp_path / str(number) / "run")
        killed = run(scripts, unkilled.script, root, setup=kill_at(root, event))
        assert killed == -9, f"event {event} of {unkilled.events} did not come"
        assert run(scripts, unkilled.script, root, "--resume", "auto") == 0
        other = differences(outcome(root / "new"), unkilled.outcome)
        assert not other, "\n".join([f"killed at event {event} of {unkilled.events}", *other])
        shutil.rmtree(tmp_path / str(number))
