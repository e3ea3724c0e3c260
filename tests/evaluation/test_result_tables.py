"""From per-sample lists to the tables and the JSON: every number worked by hand."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from evaluation.degeneration import Faults
from evaluation.kl import SequenceKL
from evaluation.results import Outcome, References, Results, summarise
from evaluation.statistics import Difference, Interval
from evaluation.table import Table, label, number, p_value
from evaluation.tables import (
    all_tables,
    print_tables,
    reward_table,
    rouge_table,
    second_reward_table,
    to_markdown,
    win_table,
)

RUN = {"data": "d", "split": "test", "decoding_text": "greedy, at most 50 new tokens", "resamples": 200}


TEXTS = ["one reference", "another reference of some length"]
FINE = Faults(empty=False, no_eos=False, repeats=False, copied_lead=False, copied_title=False)
CUT = Faults(empty=False, no_eos=True, repeats=True, copied_lead=False, copied_title=False)


def outcome(name: str, rewards: list[float], gold: list[float] | None = None, **more: Any) -> Outcome:
    n = len(rewards)
    rouge = {"rouge1": [0.4] * n, "rouge2": [0.1] * n, "rougeL": [0.25] * n}
    facts = {
        "path": f"ckpts/{name}",
        "kind": "model",
        "predictions": [f"{name} wrote"] * n,
        "tokens": [10] * n,
        "gold": gold,
    }
    ended, faults = [True] * (n - 1) + [False], [FINE] * (n - 1) + [CUT]
    stemmed = {name: [value + 0.05 for value in values] for name, values in rouge.items()}
    return Outcome(
        name=name, ended=ended, faults=faults, rewards=rewards, rouge=rouge, rouge_stemmed=stemmed, **{**facts, **more}
    )


@pytest.fixture
def results() -> Results:
    kl = SequenceKL(Interval(4.0, 3.5, 4.5, 2), Interval(4.2, 3.0, 5.0, 2), 20)
    outcomes = [outcome("sft", [1.0, 2.0], [0.5, 0.7]), outcome("ppo", [2.0, 4.0], [0.9, 0.7], kl=kl)]
    return summarise(References(TEXTS, [1.0, 3.0], gold=[1.0, 1.0]), outcomes, "sft", 200, RUN, {"path": "rm"}, {})


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
    # Of the four ways to turn two signs, two are as far from zero as +1 and +2 are.
    assert results.differences["ppo"]["reward"] == Difference(1.5, 1.0, 2.0, 2, 0.5)
    assert results.differences["ppo"]["gold"].mean == pytest.approx(0.2)
    assert list(results.differences) == ["ppo"]
    assert ppo.rouge_stemmed["rougeL"].mean == pytest.approx(0.3)
    assert {name: share.mean for name, share in ppo.faults.items() if share.mean} == {"no_eos": 0.5, "repeats": 0.5}


def test_preferences(results: Results) -> None:
    """Against the references SFT ties and loses, PPO wins twice; by gold both lose twice. PPO beats and ties SFT."""
    found = {(one.judge, one.model, one.against): (one.win, one.tie, one.loss) for one in results.preferences}
    assert found == {
        ("reward model", "sft", "reference"): (0.0, 0.5, 0.5),
        ("reward model", "ppo", "reference"): (1.0, 0.0, 0.0),
        ("gold", "sft", "reference"): (0.0, 0.0, 1.0),
        ("gold", "ppo", "reference"): (0.0, 0.0, 1.0),
        ("reward model", "ppo", "sft"): (1.0, 0.0, 0.0),
        ("gold", "ppo", "sft"): (0.5, 0.5, 0.0),
    }
    rates = {one.judge: one.rate.mean for one in results.preferences if one.against == "sft"}
    assert rates == {"reward model": 1.0, "gold": 0.75}


def test_second_reward_model_and_baselines() -> None:
    second = [0.0, 2.0]
    title = outcome("title", [0.0, 0.0], kind="baseline", path="", second=[1.0, 1.0])
    outcomes = [outcome("sft", [1.0, 2.0], second=[1.0, 2.0]), outcome("ppo", [2.0, 4.0], second=[2.0, 5.0]), title]
    results = summarise(References(TEXTS, [1.0, 3.0], second), outcomes, "sft", 200, RUN, {}, {"path": "rm2"})
    assert list(results.differences) == ["ppo"]  # a baseline is compared with the references only
    table = second_reward_table(results)
    assert table.above.startswith("Ground truth mean second reward: 1.000 [0.000, 2.000]")
    assert table.rows[1] == ["PPO", "3.500 [2.000, 5.000]", "+2.500 [+2.000, +3.000]"]
    assert [row[0] for row in rouge_table(results).rows] == ["SFT", "PPO", "Title"]
    against = win_table(results, "reference")
    assert [row[:3] for row in against.rows if row[1] == "second"] == [
        ["SFT", "second", "50 / 50 / 0 %"],
        ["PPO", "second", "100 / 0 / 0 %"],
        ["Title", "second", "50 / 0 / 50 %"],
    ]
    assert against.rows[-1][-1] == "–"  # no rate at equal length for a baseline


def test_rouge_table_has_the_columns_of_the_example(results: Results) -> None:
    table = rouge_table(results)
    assert table.header == ["Model", "Rouge-1", "Rouge-2", "Rouge-L", "Average"]
    assert [row[0] for row in table.rows] == ["SFT", "PPO"]
    assert table.rows[0][1] == "0.400 [0.400, 0.400]"
    for words in ("2 posts", "split 'test'", "greedy", "stemmer off", "aggregator off", "95%"):
        assert words in table.caption


def test_every_caption_names_the_decoding(results: Results) -> None:
    for table in all_tables(results):
        assert "greedy, at most 50 new tokens" in table.caption, table.title


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
    results = summarise(References(TEXTS, [1.0, 3.0]), [outcome("mine", [1.0, 2.0])], "sft", 200, RUN, {}, {})
    assert reward_table(results).header == ["Model", "Average Reward", "Reward Δ"]
    assert results.differences == {}
    assert [table.title for table in all_tables(results)] == [
        "ROUGE scores",
        "ROUGE scores, stemmed",
        "Reward scores",
        "Win rates against the reference",
        "Lengths and degenerate outputs",
    ]


def test_markdown(results: Results) -> None:
    page = to_markdown(results, ["a note"])
    assert "- a note\n" in page
    assert "| Model | Rouge-1 | Rouge-2 | Rouge-L | Average |\n| --- | --- | --- | --- | --- |\n| SFT |" in page
    assert "### PPO − SFT" in page
    assert "| Reward | +1.500 | [+1.000, +2.000] | 0.500 |" in page
    assert "| Rouge-1 | +0.000 | [+0.000, +0.000] | 1.000 |" in page
    assert "| PPO | 10.0 [10.0, 10.0] | 0.0% | 50.0% | 50.0% | 0.0% | 0.0% |" in page


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
    assert plain["format"] == 2
    assert plain["rouge"]["use_aggregator"] is False
    assert plain["preferences"][0]["rate"]["n"] == 2
    assert plain["intervals"]["resamples"] == 200
    assert plain["run"]["split"] == "test"


def test_numbers() -> None:
    assert number(None) == "–"
    assert number(Interval(0.5, None, None, 1)) == "0.500"
    assert number(Interval(-0.5, -1.0, 0.25, 9), digits=2, signed=True) == "-0.50 [-1.00, +0.25]"
    assert [label(name) for name in ("sft", "ppo", "mine")] == ["SFT", "PPO", "mine"]
    assert [p_value(p) for p in (0.0001, 0.0184, 1.0)] == ["<0.001", "0.018", "1.000"]
