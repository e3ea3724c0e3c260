"""The studies' commands and tables, from numbers made up here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launch.study.__main__ import main
from launch.study.conservative import ConservativeOptions, ways, ways_table
from launch.study.overoptimization import (
    OveroptimizationOptions,
    paired,
    parse_seeds,
    ppo_options,
    seeds_table,
    shown,
    write_study,
)
from tasks.run_folder import REPO
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError
from trlx_gptneo_text_summarization import PPOOptions


def score(gold: list[float], reward: float = 1.0) -> dict[str, Any]:
    def mean(value: float) -> dict[str, Any]:
        return {"mean": value, "low": value - 0.1, "high": value + 0.1, "n": len(gold)}

    intervals = {"gold": mean(sum(gold) / len(gold)), "reward": mean(reward), "tokens": mean(30.0), "kl": mean(4.0)}
    return {"intervals": intervals, "by_post": {"gold": gold, "reward": [reward] * len(gold)}}


def seed_result(seed: int, flagged: int | None) -> dict[str, Any]:
    golds = {"sft": 0.5, "heldout": 0.7, "reward": 0.4, "last": 0.3}
    scores = {name: score([gold, gold]) for name, gold in golds.items()}
    return {
        "seed": seed,
        "flagged_at": flagged,
        "steps": {"sft": 0, "heldout": 16, "reward": 64, "last": 72},
        "policies": {name: value["intervals"] for name, value in scores.items()},
        "lost_by_reward": paired(scores["reward"], scores["heldout"]),
    }


def test_seeds_are_whole_numbers_that_differ() -> None:
    assert parse_seeds("1, 2,30") == [1, 2, 30]
    for text in ("", "1,", "1,1", "1,x", "-1"):
        with pytest.raises(UserError, match="--seeds must be whole numbers that differ"):
            parse_seeds(text)


def test_paired_differences_are_taken_post_by_post() -> None:
    # Means 0.4 and 0.6 over posts that differ much more than the policies do.
    found = paired(score([0.0, 0.8]), score([0.2, 1.0]))
    assert found["mean"] == pytest.approx(-0.2) and found["high"] == pytest.approx(-0.2)


def test_an_interval_is_shown_where_it_is_known() -> None:
    assert shown({"mean": -0.25, "low": -0.5, "high": 0.0}) == "-0.250 [-0.500, +0.000]"
    assert shown({"mean": 0.25, "low": None, "high": None}) == "+0.250"


def test_each_seed_has_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"posts": 2, "length_bias": 0.5}
    table = seeds_table([seed_result(3, 40), seed_result(1, None)], options)
    first, second = table.rows
    assert first[:3] == ["3", "40", "0 → 16 → 64 → 72"] and second[:2] == ["1", "never"]
    assert first[4] == "0.500 → 0.700 → 0.400 → 0.300"
    assert first[6].startswith("-0.300")
    write_study(tmp_path, [seed_result(3, 40)], options)
    assert json.loads((tmp_path / "study.json").read_text())["seeds"][0]["flagged_at"] == 40
    assert "| 3 | 40 |" in (tmp_path / "study.md").read_text()
    assert "0.700" in capsys.readouterr().out


def test_each_careful_reward_has_its_row() -> None:
    options = ConservativeOptions()
    names = ("SFT", *ways([], options), "single_heldout")
    scores = {name: score([0.5, 0.7 if name == "min" else 0.5]) for name in names}
    table = ways_table(scores, vars(options))
    rows = {row[0]: row[1:] for row in table.rows}
    assert len(rows) == len(names)
    assert rows["Least of 3"][2].startswith("+0.100") and rows["One reward model"][2] == ""
    assert "One, and 0.2 a token over 28" in rows and rows["SFT"][-1] == ""


def test_ppo_takes_the_options_of_every_way(tmp_path: Path) -> None:
    """The command lines are parsed by the stage's own parser, so that a renamed option shows here."""
    options = ConservativeOptions(members=2, std_weight=0.5)
    members = [tmp_path / "a", tmp_path / "b"]
    base = ["--config", str(REPO / "configs" / "tiny" / "ppo.yaml"), *ppo_options(members[0], 3, 72, 8, 64)]
    parsed = {name: parse_config(PPOOptions, "", [*base, *extra]) for name, extra in ways(members, options).items()}
    assert all(one.method.init_kl_coef == 0 and one.train.seed == 3 for one in parsed.values())
    assert parsed["single"].reward_model == str(members[0]) and parsed["single"].length_penalty == 0
    assert parsed["min"].reward_model == f"{members[0]},{members[1]}" and parsed["min"].reward_combine == "min"
    assert parsed["mean_minus_std"].reward_std_weight == 0.5
    assert parsed["length_penalty"].length_penalty == 0.2 and parsed["length_penalty"].length_free == 28


def test_a_study_needs_a_run_and_numbers_that_can_be_meant(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="makes a run to study"):
        main(["overoptimization", "--root", str(tmp_path)])
    with pytest.raises(UserError, match="makes a run to study"):
        main(["conservative", "--root", str(tmp_path)])
    with pytest.raises(UserError, match="--length_bias must be between 0 and 1"):
        main(["overoptimization", "--length_bias", "2"])
    with pytest.raises(UserError, match="--members must be 2 or more"):
        main(["conservative", "--members", "1"])
    with pytest.raises(UserError, match="unknown command 'overoptimisation'; did you mean 'overoptimization'"):
        main(["overoptimisation"])
    assert OveroptimizationOptions().seeds == "1,2,3,4,5"
