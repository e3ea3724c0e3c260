"""The benchmark of judging compares what gives the same and notices a difference; nothing is asserted about time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import judging
from benchmarks.judging import (
    Options,
    all_tables,
    invented_outcomes,
    main,
    measure_generation,
    require_equal,
    require_same_texts,
)

TOY = {"posts": 12, "models": 2, "resamples": 99, "layers": 2, "hidden": 16, "vocabulary": 400}
SHORT = {"max_prompt": 60, "new_tokens": 4, "batch_size": 4, "repeats": 1, "passes": 1}


def test_both_orders_write_the_same_summaries_in_the_posts_order(monkeypatch: pytest.MonkeyPatch) -> None:
    times = measure_generation(Options(**TOY, **SHORT))  # type: ignore[arg-type]
    ours, theirs = (took[0].result for took in times.values())
    assert len(ours) == 12
    assert ours == theirs
    assert len(set(ours)) > 1
    with pytest.raises(SystemExit):
        require_same_texts(ours, list(reversed(ours)))


def test_other_bounds_than_scipys_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    require_equal([1.0, 2.0], [1.0, 2.0 + 1e-12], "the bounds")
    right = judging.mean_interval
    monkeypatch.setattr(judging, "mean_interval", lambda values, resamples: right(values, resamples=resamples, seed=1))
    with pytest.raises(SystemExit):
        judging.measure_statistics(Options(**TOY, **SHORT))  # type: ignore[arg-type]


def test_all_tables_hold_every_model_and_baseline() -> None:
    options = Options(**TOY, **SHORT)  # type: ignore[arg-type]
    found = all_tables(options, *invented_outcomes(options))
    assert [model.name for model in found.models] == [
        "model 0", "model 1", "title", "first_sentence", "first_30_words",
    ]  # fmt: skip
    assert list(found.differences) == ["model 1"]
    assert {preference.judge for preference in found.preferences} == {"reward model", "second reward model", "gold"}


def test_writes_what_it_measured(tmp_path: Path) -> None:
    arguments = [f"--{name}={value}" for name, value in (TOY | SHORT).items()]
    results = main([*arguments, f"--out={tmp_path}"])
    written = json.loads((tmp_path / "judging.json").read_text())
    assert written["results"] == results
    assert written["workload"]["posts"] == 12
    assert "sorted by length" in results and "all tables, 2 models" in results
    assert all(found["range"][0] <= found["median_seconds"] <= found["range"][1] for found in results.values())
