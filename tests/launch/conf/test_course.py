"""PPO's metrics under llm-on-ray's names, worked by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launch.conf.course import MOST_ROWS, course, print_course
from trlx.utils.metrics import METRICS_FILE


def phase(number: int, step: int, score: float | None = 1.5, kl: float = 2.0) -> dict[str, Any]:
    scores = {"rollout_scores/mean": score, "policy/entropy": 3.0}
    return {"step": step, "rollout/phase": number, "policy/kl": kl, "kl_ctl_value": 0.25, **scores}


def step(number: int, policy: float | None, value: float) -> dict[str, Any]:
    return {"step": number, "losses/policy_loss": policy, "losses/value_loss": value}


def test_rows_of_two_phases() -> None:
    lines = [
        {"step": 0, "reward/mean": 9.0},
        phase(0, 0),
        {"step": 0, "advantages/mean": 0.1},
        step(1, 0.5, 4.0),
        step(2, -0.1, 2.0),
        phase(1, 2, None),
        step(3, None, 1.0),
    ]
    first, second = course(lines)
    assert first == {
        "step": 0,
        "policy_loss": pytest.approx(0.2),  # (0.5 − 0.1) / 2
        "vf_loss": 3.0,
        "kl": 2.0,
        "entropy": 3.0,
        "mean_reward_rm": 1.5,
        "mean_reward_kl": -0.5,  # −0.25 · 2
        "mean_reward_total": 1.0,
    }
    assert second["step"] == 2 and second["vf_loss"] == 1.0 and "policy_loss" not in second
    assert second["mean_reward_rm"] is second["mean_reward_total"] is None


def test_a_long_run_is_shown_in_part(tmp_path: Path) -> None:
    lines = [phase(number, number * 4) for number in range(100)]
    (tmp_path / METRICS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    console = Console(file=io.StringIO(), width=140)
    print_course(tmp_path, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    steps = [int(line.split("│")[1]) for line in shown.splitlines() if line.startswith("│")]
    assert len(steps) == MOST_ROWS and steps[0] == 0 and steps[-1] == 396 and steps == sorted(set(steps))
    assert "mean_reward_total" in shown and "1.000" in shown


def test_nothing_is_shown_of_nothing(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    print_course(tmp_path, console)
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
