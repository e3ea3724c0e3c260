"""Where numbers and samples are written."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from trlx.trainer.tracker import Tracker
from trlx.utils.errors import UserError
from trlx.utils.metrics import METRICS_FILE, MetricsWriter, read_metrics

TABLE = pd.DataFrame({"prompt": ["a|b\nc"], "reward": [1.5]})


def test_scalars_of_every_kind_become_strict_json(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, None, True, {})
    values = {"f": 1.5, "i": 2, "t": torch.tensor(0.5), "n": np.float32(0.25), "one": torch.tensor([3.0])}
    odd = {
        "nan": float("nan"),
        "inf": torch.tensor(float("inf")),
        "text": "x",
        "texts": ["x"],
        "none": None,
        "empty": [],
    }
    tracker.log({**values, **odd}, step=7)
    (line,) = (tmp_path / METRICS_FILE).read_text().splitlines()
    read = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert read.pop("time") > 1e9
    assert read == {"step": 7, "f": 1.5, "i": 2, "t": 0.5, "n": 0.25, "one": 3.0, "nan": None, "inf": None}


def test_distributions_are_kept_as_lists(tmp_path: Path) -> None:
    values = {"list": [1, 2.5], "tensor": torch.tensor([[1, 2], [3, 4]]), "array": np.array([0.5, np.nan])}
    Tracker(tmp_path, None, True, {}).log({**values, "mixed": [1, "x"]}, step=1)
    (line,) = read_metrics(tmp_path)
    assert {name: line.get(name) for name in (*values, "mixed")} == {
        "list": [1.0, 2.5],
        "tensor": [1.0, 2.0, 3.0, 4.0],
        "array": [0.5, None],
        "mixed": None,
    }


def test_lines_are_appended_and_a_torn_last_one_is_left_out(tmp_path: Path) -> None:
    MetricsWriter(tmp_path).write({"a": 1}, 1)
    MetricsWriter(tmp_path).write({"a": 2}, 2)  # a resumed run
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 3, "a"')
    assert [(line["step"], line["a"]) for line in read_metrics(tmp_path)] == [(1, 1), (2, 2)]
    assert read_metrics(tmp_path / "nowhere") == []


def test_tables_are_kept_whole(tmp_path: Path) -> None:
    Tracker(tmp_path, None, True, {}).log_table("samples", TABLE, step=3)
    assert pd.read_csv(tmp_path / "eval" / "step_000003.csv").equals(TABLE)


def test_tensorboard_gets_scalars_and_text(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = Tracker(tmp_path, "tensorboard", True, {})
    tracker.log({"losses/total_loss": 0.5, "scores_dist": [1.0, 2.0, float("inf")], "no": [float("nan")]}, step=4)
    tracker.log_table("samples", TABLE, step=4)
    tracker.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (point,) = events.Scalars("losses/total_loss")
    assert (point.step, point.value) == (4, 0.5)
    assert "samples/text_summary" in events.Tags()["tensors"]
    assert events.Tags()["histograms"] == ["scores_dist"]
    assert events.Histograms("scores_dist")[0].histogram_value.num == 2
    assert read_metrics(tmp_path)[0]["losses/total_loss"] == 0.5


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path / "logs", "tensorboard", False, {})
    tracker.log({"a": 1}, 1)
    tracker.log_table("samples", TABLE, 1)
    tracker.close()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_wandb_is_said_once_and_the_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.warns(UserWarning, match="wandb is not installed") as said:
        tracker = Tracker(tmp_path, "wandb", True, {})
    assert len(said) == 1
    tracker.log({"a": 1}, 1)
    assert read_metrics(tmp_path)[0]["a"] == 1


class FakeWandB(ModuleType):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.options: list[dict[str, Any]] = []
        self.logged: list[tuple[dict[str, Any], int]] = []
        self.finished = False

    def init(self, **options: Any) -> "FakeWandB":
        self.options.append(options)
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((values, step))

    def Table(self, dataframe: pd.DataFrame) -> str:
        return f"table of {len(dataframe)}"

    def Histogram(self, numbers: list[float]) -> str:
        return f"histogram of {len(numbers)}"

    def finish(self) -> None:
        self.finished = True


def test_wandb_gets_numbers_distributions_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = FakeWandB()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("debug", raising=False)
    tracker = Tracker(tmp_path, "wandb", True, {"project": "p", "name": "n"})
    tracker.log({"a": torch.tensor(1.0), "b": [1, 2, 3]}, 2)
    tracker.log_table("samples", TABLE, 2)
    tracker.close()
    assert wandb.options == [{"project": "p", "name": "n"}]
    assert wandb.logged == [({"a": 1.0}, 2), ({"b": "histogram of 3"}, 2), ({"samples": "table of 1"}, 2)]
    assert wandb.finished


def test_debug_leaves_wandb_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = FakeWandB()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("debug", "1")
    tracker = Tracker(tmp_path, "wandb", True, {})
    tracker.log({"a": 1}, 1)
    assert wandb.options == [] and read_metrics(tmp_path)[0]["a"] == 1


def test_a_missing_tensorboard_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        Tracker(tmp_path, "tensorboard", True, {})


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train.tracker must be tensorboard, wandb or null, not 'csv'"):
        Tracker(tmp_path, "csv", True, {})
