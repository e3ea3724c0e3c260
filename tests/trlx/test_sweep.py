"""trlx.sweep: what its YAML may say, what is drawn, how trials are ranked, and a sweep through the real command."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from trlx import sweep
from trlx.utils.errors import UserError
from trlx.utils.metrics import MetricsWriter

ROOT = Path(__file__).resolve().parents[2]
PLAN = {"mode": "max", "metric": "reward/mean"}


def _write(folder: Path, sections: Any) -> Path:
    path = folder / "sweep.yml"
    path.write_text(yaml.safe_dump(sections))
    return path


def test_reads_numbers_that_yaml_takes_for_text(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yml"
    path.write_text(
        "tune_config: {mode: min, metric: loss}\noptimizer.kwargs.lr: {strategy: choice, values: [1e-5, 2]}"
    )
    plan, settings = sweep.read_sweep(path)
    assert (plan.mode, plan.metric, plan.search_alg, plan.scheduler) == ("min", "loss", "random", "fifo")
    assert settings == {"optimizer.kwargs.lr": ("choice", [1e-5, 2])}


@pytest.mark.parametrize(
    ("tune_config", "setting", "message"),
    [
        ({"search_alg": "bayesopt"}, {}, "tune_config.search_alg must be random or grid, not 'bayesopt'"),
        ({"search_alg": "bohb"}, {}, "tune_config.search_alg must be random or grid, not 'bohb'"),
        ({"scheduler": "hyperbandforbohb"}, {}, "tune_config.scheduler must be fifo or hyperband"),
        ({"mode": "most"}, {}, "tune_config.mode must be max or min, not 'most'"),
        ({"num_sample": 2}, {}, "unknown key 'tune_config.num_sample'; did you mean 'num_samples'?"),
        ({"num_samples": 0}, {}, "tune_config.num_samples must be 1 or more, not 0"),
        ({}, {"strategy": "loguniforn", "values": [1, 2]}, "unknown strategy 'loguniforn'; did you mean 'loguniform'?"),
        ({}, {"strategy": "uniform", "value": [1, 2]}, "'train.seed' must have the keys strategy and values"),
        ({}, {"strategy": "quniform", "values": [1, 2]}, "must be the numbers [lower, upper, q], not [1, 2]"),
        ({}, {"strategy": "uniform", "values": [1, "two"]}, "must be the numbers [lower, upper], not [1, 'two']"),
        ({}, {"strategy": "uniform", "values": [2, 1]}, "lower (2) must be below upper (1)"),
        ({}, {"strategy": "loguniform", "values": [0, 1]}, "of loguniform must be above 0, not 0"),
        ({}, {"strategy": "grid", "values": 3}, "'train.seed.values' must be a list, not 3"),
        ({"search_alg": "grid"}, {"strategy": "choice", "values": [1, 2]}, "search_alg grid takes grid alone"),
    ],
)
def test_refuses_by_name(tmp_path: Path, tune_config: dict, setting: dict, message: str) -> None:
    setting = setting or {"strategy": "grid", "values": [1, 2]}
    path = _write(tmp_path, {"tune_config": PLAN | tune_config, "train.seed": setting})
    with pytest.raises(UserError) as caught:
        sweep.read_sweep(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("sections", [None, {"train.seed": {}}, {"tune_config": PLAN}])
def test_refuses_a_file_without_its_sections(tmp_path: Path, sections: Any) -> None:
    with pytest.raises(UserError, match=r"tune_config|nothing to sweep|is empty"):
        sweep.read_sweep(_write(tmp_path, sections))


def test_every_strategy_draws_within_its_values() -> None:
    values = {
        "uniform": [1, 2],
        "quniform": [1, 2, 0.5],
        "loguniform": [0.1, 10],
        "qloguniform": [0.5, 10, 0.5],
        "randn": [5, 0.01],
        "qrandn": [5, 0.01, 1],
        "randint": [1, 3],
        "qrandint": [2, 8, 2],
        "lograndint": [1, 9],
        "qlograndint": [2, 8, 2],
        "choice": ["a", "b"],
    }
    assert set(values) | {"grid", "grid_search"} == set(sweep.STRATEGIES) | set(sweep.LISTS)
    space = sweep.search_space({name: (name, numbers) for name, numbers in values.items()})
    for _ in range(30):
        drawn = {name: domain.sample() for name, domain in space.items()}
        assert 1 <= drawn["uniform"] <= 2
        assert drawn["quniform"] in (1, 1.5, 2)
        assert 0.1 <= drawn["loguniform"] <= 10
        assert drawn["qloguniform"] * 2 == round(drawn["qloguniform"] * 2)
        assert 4.8 < drawn["randn"] < 5.2
        assert drawn["qrandn"] == 5
        assert drawn["randint"] in (1, 2)  # upper is left out
        assert drawn["qrandint"] in (2, 4, 6, 8)
        assert 1 <= drawn["lograndint"] < 9
        assert drawn["qlograndint"] in (2, 4, 6, 8)
        assert drawn["choice"] in ("a", "b")
    grid = sweep.search_space({"x": ("grid", [1, 2]), "y": ("grid_search", [3])})
    assert grid == {"x": {"grid_search": [1, 2]}, "y": {"grid_search": [3]}}


def test_default_hparams_from_json_or_a_file(tmp_path: Path) -> None:
    file = _write(tmp_path, {"train.seed": 2})
    assert sweep.read_hparams('{"train.seed": 1}') == {"train.seed": 1}
    assert sweep.read_hparams(str(file)) == {"train.seed": 2}
    assert sweep.read_hparams(None) == {}
    for wrong in ("nowhere.json", "{", "[1]"):
        with pytest.raises(UserError, match="default hparams must be"):
            sweep.read_hparams(wrong)


def test_a_script_needs_main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    script = tmp_path / "script.py"
    with pytest.raises(UserError, match="there is no script at"):
        sweep.load_main(script)
    script.write_text("value = 1\n")
    with pytest.raises(UserError, match=r"must define main\(hparams\)"):
        sweep.load_main(script)
    (tmp_path / "sweep_helper.py").write_text("answer = 41\n")
    script.write_text("import sweep_helper\ndef main(hparams): return sweep_helper.answer + hparams['x']\n")
    assert sweep.load_main(script)({"x": 1}) == 42


def test_command_of_a_trial(tmp_path: Path) -> None:
    plain = sweep.trial_command("s.py", tmp_path / "h.json", None)
    assert plain == [sys.executable, "-m", "trlx.sweep", "--trial", str(tmp_path / "h.json"), "s.py"]
    launched = sweep.trial_command("s.py", tmp_path / "h.json", "a.yaml")
    assert launched[1:5] == ["-m", "accelerate.commands.launch", "--config_file", "a.yaml"]
    assert launched[5:] == plain[1:]


def test_without_the_metric_the_nearest_is_named(tmp_path: Path) -> None:
    MetricsWriter(tmp_path / "logs").write({"reward/mean": 1.0}, 0)
    trial = sweep.Trial("trial_0", "finished", None, 0, {"train.seed": 1}, str(tmp_path))
    with pytest.raises(UserError, match="no trial gave 'reward/men'; did you mean 'reward/mean'"):
        sweep.report([trial], sweep.Plan("reward/men", "max"), tmp_path, "s.py")


SCRIPT = """
from trlx.data.configs import TRLConfig
from trlx.data.default_configs import default_ppo_config
from trlx.utils.metrics import MetricsWriter


def main(hparams={}):
    config = TRLConfig.update(default_ppo_config(), hparams)
    writer, rate = MetricsWriter(config.train.logging_dir), config.optimizer.kwargs["lr"]
    writer.write({"reward/mean": 100.0}, 0)  # not the last: does not count
    if rate > 1:
        raise ValueError("the rate is too high")
    writer.write({"reward/mean": config.train.seed - rate, "loss": 3.0}, 7)
"""


def test_a_sweep_through_its_command(tmp_path: Path) -> None:
    """A grid of three, of which one fails: it is named, and the others are ranked by their last value."""
    (tmp_path / "script.py").write_text(SCRIPT)
    grid = {"strategy": "grid", "values": [0.25, 0.125, 2.0]}
    config = _write(tmp_path, {"tune_config": PLAN | {"search_alg": "grid"}, "optimizer.kwargs.lr": grid})
    command = [sys.executable, "-m", "trlx.sweep", "-y", "--config", str(config), "--output", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    run = subprocess.run(
        [*command, "--num_cpus", "1", "--num_gpus", "0", "script.py", '{"train.seed": 5}'],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    with (tmp_path / "out" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["optimizer.kwargs.lr"] for row in rows] == ["0.125", "0.25", "2.0"]
    assert [row["reward/mean"] for row in rows] == ["4.875", "4.75", ""]
    assert [row["status"] for row in rows] == ["finished", "finished", "failed"]
    assert [row["steps"] for row in rows[:2]] == ["7", "7"]
    trials = json.loads((tmp_path / "out" / "trials.json").read_text())
    assert "the rate is too high" in (Path(trials[2]["folder"]) / sweep.LOG_FILE).read_text()
    best = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())
    assert best == {"train.seed": 5, "optimizer.kwargs.lr": 0.125}
    assert f"best: {rows[0]['trial']}, reward/mean 4.875" in run.stdout
    assert len({trial["folder"] for trial in trials}) == 3


def test_the_sweeps_of_this_repository_can_be_read() -> None:
    files = sorted((ROOT / "configs" / "sweeps").glob("*.yml"))
    assert files
    for file in files:
        plan, settings = sweep.read_sweep(file)
        assert plan.metric.count("/") == 1
        assert sweep.search_space(settings).keys() == settings.keys()
