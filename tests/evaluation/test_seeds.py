"""`python -m evaluation seeds`: runs stand one by one, and what cannot be compared is said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evaluation.run_results import read_results, unlike
from evaluation.seeds import distance_table, main, measure_table, readable, reward_model_table, tables, win_table
from tests.evaluation.sample_rows import row, write_models
from trlx.utils.errors import UserError

Json = dict[str, Any]


def about(mean: float, **more: float) -> Json:
    """An interval around a mean."""
    return {"mean": mean, "low": mean - 0.25, "high": mean + 0.25, "n": 300, **more}


def model(reward: float, kl: Json | None = None) -> Json:
    return {
        "kind": "model",
        "reward": about(reward),
        "second_reward": None,
        "gold": about(reward / 10),
        "rougeL": about(0.3),
        "response_tokens": about(20.0),
        "kl": kl,
    }


def preference(judge: str, against: str, rate: float) -> Json:
    return {
        "judge": judge,
        "model": "ppo",
        "against": against,
        "win": rate,
        "tie": 0.0,
        "loss": 1 - rate,
        "rate": about(rate),
        "length_controlled": about(rate - 0.125) if judge == "reward model" else None,
    }


def results(ppo: float = 2.0, **run: Any) -> Json:
    """What the evaluation of one run writes, as far as it is read here: SFT has reward 0.5."""
    judged = [("reward model", "reference", 0.75), ("reward model", "sft", 0.5), ("gold", "reference", 0.625)]
    facts = {"task": "tldr", "split": "test", "decoding": {"max_new_tokens": 48}, "max_prompt_tokens": 208}
    facts |= {"decoding_text": "greedy, at most 48 new tokens", "kl_sampling": {"temperature": 1.0}}
    facts |= {"dtype": "float32", "reward_dtype": "float32", **run}
    return {
        "format": 2,
        "posts": 300,
        "models": {"sft": model(0.5), "ppo": model(ppo, {"k1": about(2.5), "k3": about(2.5), "tokens": 9})},
        "baseline": "sft",
        "differences": {"ppo": {"reward": about(ppo - 0.5, p=0.0001), "gold": about((ppo - 0.5) / 10, p=0.25)}},
        "preferences": [preference(*one) for one in judged],
        "run": facts,
        "reward_model": {
            "held_out": {"test": {"accuracy": 0.875, "accuracy_interval_95": [0.75, 0.9375], "pairs": 80}},
            "gate": {"passed": True, "stale": False, "lines": []},
        },
    }


def write(root: Path, content: Any) -> str:
    root.mkdir(parents=True, exist_ok=True)
    (root / "results.json").write_text(json.dumps(content), encoding="utf-8")
    return str(root)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, so that roots are short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def runs_of(folder: Path, *ppo: float) -> list[str]:
    names = [f"seed{number}" for number in range(1, len(ppo) + 1)]
    for name, reward in zip(names, ppo, strict=True):
        write(folder / name, results(reward))
    return names


def test_a_row_a_run_and_no_mean_of_three(folder: Path) -> None:
    runs = readable(runs_of(folder, 2.0, 1.0, 3.0))
    table = measure_table(runs, "ppo", "reward", "Reward", summed=False)
    assert table.header == ["Run", "SFT", "PPO", "PPO − SFT", "p"]
    assert table.rows == [
        ["seed1", "0.500 [0.250, 0.750]", "2.000 [1.750, 2.250]", "+1.500 [+1.250, +1.750]", "<0.001"],
        ["seed2", "0.500 [0.250, 0.750]", "1.000 [0.750, 1.250]", "+0.500 [+0.250, +0.750]", "<0.001"],
        ["seed3", "0.500 [0.250, 0.750]", "3.000 [2.750, 3.250]", "+2.500 [+2.250, +2.750]", "<0.001"],
    ]
    for table in tables(runs, "ppo", comparable=True):
        assert [line[0] for line in table.rows] == ["seed1", "seed2", "seed3"]


def test_five_runs_have_a_median_and_a_range_named_so(folder: Path) -> None:
    runs = readable(runs_of(folder, 2.0, 1.0, 3.0, 1.25, 9.0))
    reward = next(table for table in tables(runs, "ppo", comparable=True) if table.title == "Reward")
    # Sorted: 1, 1.25, 2, 3, 9; SFT is 0.5 in all of them.
    assert reward.rows[5:] == [
        ["median of 5 runs", "0.500", "2.000", "1.500", ""],
        ["range of 5 runs", "0.500 to 0.500", "1.000 to 9.000", "0.500 to 8.500", ""],
    ]
    assert all(len(line) == len(table.header) for table in tables(runs, "ppo", True) for line in table.rows)
    assert all("of 5" not in line[0] for table in tables(runs, "ppo", False) for line in table.rows)


def test_a_column_that_a_run_lacks_has_no_median(folder: Path) -> None:
    names = runs_of(folder, 1.0, 2.0, 3.0, 4.0, 5.0)
    lacking = results(3.0)
    del lacking["models"]["ppo"], lacking["differences"]["ppo"]
    write(folder / "seed3", lacking)
    table = measure_table(readable(names), "ppo", "reward", "Reward", summed=True)
    assert table.rows[2] == ["seed3", "0.500 [0.250, 0.750]", "–", "–", "–"]
    assert table.rows[5] == ["median of 5 runs", "0.500", "–", "–", ""]


def test_the_other_tables(folder: Path) -> None:
    runs = readable(runs_of(folder, 2.0))
    assert reward_model_table(runs).rows == [["seed1", "0.875 [0.750, 0.938]", "PASS"]]
    against_reference = win_table(runs, "ppo", "reference", summed=False)
    assert against_reference.header == ["Run", "Reward model", "Gold", "Reward model, equal length"]
    assert against_reference.rows == [["seed1", "0.750 [0.500, 1.000]", "0.625 [0.375, 0.875]", "0.625 [0.375, 0.875]"]]
    assert win_table(runs, "ppo", "sft", summed=False).header == ["Run", "Reward model", "Reward model, equal length"]
    distance = distance_table(runs, "ppo", summed=False)
    assert distance.header == ["Run", "KL to SFT", "Rouge-L SFT", "Rouge-L PPO", "Tokens SFT", "Tokens PPO"]
    assert distance.rows[0][1] == "2.50 [2.25, 2.75]"
    titles = [table.title for table in tables(runs, "ppo", comparable=True)]
    assert titles == [
        "Reward models",
        "Reward",
        "Gold score",
        "Win rates of PPO against the reference",
        "Win rates of PPO against SFT",
        "How far PPO went, ROUGE, and lengths",
    ]


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (None, "not run"),
        ({"passed": True, "stale": True, "lines": []}, "of another model"),
        ({"passed": False, "stale": False, "lines": []}, "FAIL"),
    ],
)
def test_gates(folder: Path, gate: Json | None, said: str) -> None:
    content = results()
    content["reward_model"]["gate"] = gate
    assert reward_model_table([read_results(write(folder / "a", content))]).rows[0][2] == said


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"task": "miniature"}, "task 'miniature', not 'tldr'"),
        ({"split": "valid"}, "split 'valid', not 'test'"),
        ({"max_prompt_tokens": 500}, "longest prompt '500', not '208'"),
        ({"dtype": "bfloat16"}, "policies in 'bfloat16', not 'float32'"),
        ({"reward_dtype": "bfloat16"}, "reward models in 'bfloat16', not 'float32'"),
        ({"decoding": {"max_new_tokens": 50}}, 'decoding {"max_new_tokens": 50}, not {"max_new_tokens": 48}'),
    ],
)
def test_what_cannot_be_compared(folder: Path, other: Json, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "a", results())
    write(folder / "b", results(**other))
    assert unlike(read_results("a"), read_results("b")) == [reason]
    main(["a", "b"])
    # Long lines are broken at blanks.
    printed = " ".join(capsys.readouterr().out.split())
    assert f"b cannot be compared with a: {reason}. It is listed, not compared." in printed


def test_one_stranger_takes_the_median_away(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = runs_of(folder, 1.0, 2.0, 3.0, 4.0, 5.0)
    main(names)
    assert "median of 5 runs" in capsys.readouterr().out
    write(folder / "seed2", results(split="valid"))
    main(names)
    assert "median" not in capsys.readouterr().out


def test_fewer_posts(folder: Path) -> None:
    fewer = results() | {"posts": 299}
    assert unlike(read_results(write(folder / "a", results())), read_results(write(folder / "b", fewer))) == [
        "299 posts, not 300"
    ]


def test_other_posts_are_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = runs_of(folder, 1.0, 2.0)
    write_models(folder / "seed1", sft=[row(1), row(2), row(3)])
    write_models(folder / "seed2", sft=[row(1), row(2, truth="another reference"), row(4)])
    main(names)
    printed = " ".join(capsys.readouterr().out.split())
    assert "seed2 was judged on other posts than seed1 (1 of 3 are the same)" in printed
    write_models(folder / "seed2", sft=[row(3), row(1), row(2)])
    main(names)
    assert "other posts" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ('{"posts": 3}', "is of format 1 or none where 2 is read"),
        ('{"format": 3}', "is of format 3 where 2 is read"),
        ("[]", "is of format None where 2 is read"),
        ('{"format": 2, "models": {}}', "has no differences, preferences, baseline, posts, run"),
    ],
)
def test_results_that_cannot_be_read(
    folder: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = runs_of(folder, 1.0, 2.0)
    (folder / bad / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=f"seed2/results.json: {message}.*trlx_inference_gptneo.py"):
        read_results(bad)
    main([good, bad])
    printed = capsys.readouterr()
    assert printed.err.startswith("left out: seed2/results.json") and "seed1" in printed.out
    assert not re.search(r"^│\s*seed2", printed.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run", None),
        ("run", []),
        ("run", "x"),
        ("models", {"sft": 1}),
        ("models", []),
        ("differences", {"ppo": None}),
        ("preferences", {}),
        ("preferences", [1]),
        ("posts", "many"),
        ("baseline", None),
    ],
)
def test_results_of_other_types(folder: Path, key: str, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "a", results())
    write(folder / "b", results() | {key: value})
    main(["a", "b"])
    said = capsys.readouterr().err
    assert said.startswith("left out: b/results.json: '" + key) and said.endswith("writes it anew\n")


def test_captions_say_how_the_summaries_were_made(folder: Path) -> None:
    write(folder / "a", results())
    runs = [read_results("a")]
    _, *others = tables(runs, "ppo", comparable=True)
    assert all("Summaries: greedy, at most 48 new tokens. " in table.caption for table in others)
    assert "KL: nats a response, of samples at temperature 1. " in others[-1].caption
    write(folder / "b", results(decoding_text="sampled", kl_sampling=None))
    runs.append(read_results("b"))
    _, *others = tables(runs, "ppo", comparable=True)
    assert all("Summaries: greedy, at most 48 new tokens or sampled. " in table.caption for table in others)
    assert "nats a response. " in distance_table(runs[1:], "ppo", summed=False).caption


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no run to list"),
        (["seed1", "./seed1"], "./seed1 is given twice"),
        (["absent"], "absent: no such folder"),
        (["absent", "gone"], "none of 2 runs can be read"),
        (["seed1", "--model", "pppo"], "no run has judged 'pppo'; did you mean 'ppo'"),
    ],
)
def test_bad_command_lines(folder: Path, argv: list[str], message: str) -> None:
    runs_of(folder, 1.0)
    with pytest.raises(UserError, match=message):
        main(argv)


def test_options_may_follow_the_roots(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*runs_of(folder, 1.0), "--model", "sft"])
    assert "seed1" in capsys.readouterr().out
