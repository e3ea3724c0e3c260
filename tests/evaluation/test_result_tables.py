"""From per-sample lists to the tables and the JSON: every number worked by hand."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from evaluation.kl import SequenceKL
from evaluation.results import Outcome, References, Results, summarise
from evaluation.statistics import Interval
from evaluation.tables import Table, all_tables, label, number, print_tables, reward_table, rouge_table, to_markdown

RUN = {"data": "d", "split": "test", "decoding_text": "greedy, at most 50 new tokens", "resamples": 200}


def outcome(name: str, rewards: list[float], gold: list[float] | None = None, **more: Any) -> Outcome:
    n = len(rewards)
    rouge = {"rouge1": [0.4] * n, "rouge2": [0.1] * n, "rougeL": [0.25] * n}
    return Outcome(name, f"ckpts/{name}", ["x"] * n, [True] * (n - 1) + [False], [10] * n, rewards, rouge, gold, **more)


@pytest.fixture
def results() -> Results:
    kl = SequenceKL(Interval(4.0, 3.5, 4.5, 2), Interval(4.2, 3.0, 5.0, 2), 20)
    outcomes = [outcome("sft", [1.0, 2.0], [0.5, 0.7]), outcome("ppo", [2.0, 4.0], [0.9, 0.7], kl=kl)]
    return summarise(References([1.0, 3.0], [1.0, 1.0]), outcomes, "sft", 200, RUN, {"path": "rm"})


def test_means_and_differences(results: Results) -> None:
    sft, ppo = results.models
    assert results.ground_truth_reward.mean == 2.0
    assert (sft.reward.mean, sft.reward_delta.mean) == (1.5, -0.5)
    assert (ppo.reward.mean, ppo.reward_delta.mean) == (3.0, 1.0)
    assert ppo.gold_delta is not None
    assert ppo.gold_delta.mean == pytest.approx(-0.2)
    assert ppo.rouge_average.mean == pytest.approx(0.25)
    assert ppo.share_without_eos == 0.5
    # ppo − sft: rewards 1 and 2, gold 0.4 and 0.0.
    assert results.differences["ppo"]["reward"] == Interval(1.5, 1.0, 2.0, 2)
    assert results.differences["ppo"]["gold"].mean == pytest.approx(0.2)
    assert list(results.differences) == ["ppo"]


def test_rouge_table_has_the_columns_of_the_example(results: Results) -> None:
    table = rouge_table(results)
    assert table.header == ["Model", "Rouge-1", "Rouge-2", "Rouge-L", "Average"]
    assert [row[0] for row in table.rows] == ["SFT", "PPO"]
    assert table.rows[0][1] == "0.400 [0.400, 0.400]"
    for words in ("2 posts", "split 'test'", "greedy", "stemmer off", "aggregator off", "95%"):
        assert words in table.caption


def test_reward_table_gold_and_kl(results: Results) -> None:
    table = reward_table(results)
    assert table.header == ["Model", "Average Reward", "Reward Δ", "Gold", "KL to SFT"]
    assert table.above.startswith("Ground truth mean reward: 2.000 [1.000, 3.000]; gold: 1.000")
    assert table.rows[1] == [
        "PPO",
        "3.000 [2.000, 4.000]",
        "+1.000 [+1.000, +1.000]",
        "0.800 [0.700, 0.900]",
        "4.00 [3.50, 4.50]",
    ]
    assert table.rows[0][-1] == "0"
    assert "Σ k1" in table.caption
    assert "PPO 4.20 [3.00, 5.00]" in table.caption


def test_without_gold_kl_and_baseline() -> None:
    results = summarise(References([1.0, 3.0]), [outcome("mine", [1.0, 2.0])], "sft", 200, RUN, {})
    assert reward_table(results).header == ["Model", "Average Reward", "Reward Δ"]
    assert results.differences == {}
    assert [table.title for table in all_tables(results)] == ["ROUGE scores", "Reward scores", "Lengths"]


def test_markdown(results: Results) -> None:
    page = to_markdown(results, ["a note"])
    assert "- a note\n" in page
    assert "| Model | Rouge-1 | Rouge-2 | Rouge-L | Average |\n| --- | --- | --- | --- | --- |\n| SFT |" in page
    assert "### PPO − SFT" in page
    assert "| Reward | +1.500 | [+1.000, +2.000] | yes |" in page
    assert "| Rouge-1 | +0.000 | [+0.000, +0.000] | no |" in page
    assert "| PPO | 10.0 [10.0, 10.0] | 50.0% |" in page


def test_bars_and_markup_in_names() -> None:
    table = Table("a title of some width", ["Model"], [["a|b [red]c"]], "caption [bold]")
    assert "a\\|b" in table.to_markdown()
    out = io.StringIO()
    table.print(Console(file=out, width=80))
    assert "[red]c" in out.getvalue()
    assert "[bold]" in out.getvalue()


def test_console_fits_80_columns(results: Results) -> None:
    out = io.StringIO()
    print_tables(results, Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("[2.000, 4.000]" in line for line in lines)  # no interval is broken in two


def test_json_is_plain_and_whole(results: Results) -> None:
    plain = json.loads(json.dumps(results.to_json(), allow_nan=False))
    assert plain["models"]["ppo"]["reward"] == {"mean": 3.0, "low": 2.0, "high": 4.0, "n": 2}
    assert plain["models"]["ppo"]["kl"]["k1"]["mean"] == 4.0
    assert plain["differences"]["ppo"]["reward"]["low"] == 1.0
    assert plain["rouge"] == {"value": "F1", "use_stemmer": False, "use_aggregator": False}
    assert plain["intervals"]["resamples"] == 200
    assert plain["run"]["split"] == "test"


def test_numbers() -> None:
    assert number(None) == "–"
    assert number(Interval(0.5, None, None, 1)) == "0.500"
    assert number(Interval(-0.5, -1.0, 0.25, 9), digits=2, signed=True) == "-0.50 [-1.00, +0.25]"
    assert [label(name) for name in ("sft", "ppo", "mine")] == ["SFT", "PPO", "mine"]
