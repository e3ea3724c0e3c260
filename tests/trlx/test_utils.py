"""The small helpers that scripts import from `trlx.utils`."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import trlx.utils as utils


def test_every_promised_name_is_there() -> None:
    for name in utils.__all__:
        assert getattr(utils, name).__module__.startswith("trlx.utils.")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        utils.nothing  # noqa: B018


def test_errors_and_files_stay_quick_to_import() -> None:
    code = "import sys, trlx.utils.errors, trlx.utils.files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(rank: str) -> tuple[float, float]:
        monkeypatch.setenv("RANK", rank)
        utils.set_seed(3)
        return float(torch.rand(())), float(np.random.rand())

    assert draws("0") == draws("0")
    assert draws("0")[0] != draws("1")[0] and draws("0")[1] != draws("1")[1]
    assert int(os.environ["RANK"]) == 1  # it was read, not changed


@pytest.mark.parametrize(
    ("number", "digits", "rounded"),
    [(0.0012345, 2, 0.00123), (1234.5, 2, 1230.0), (-9.8765, 1, -9.9), (0, 2, 0), ("text", 2, "text"), (7, 0, 7)],
)
def test_significant(number: Any, digits: int, rounded: Any) -> None:
    assert utils.significant(number, digits) == rounded


def test_significant_of_tensors_and_of_what_has_no_digits() -> None:
    assert utils.significant(torch.tensor(0.5)) == 0.5
    assert np.isnan(utils.significant(float("nan")))
    assert utils.significant(torch.tensor(float("-inf"))) == float("-inf")


def test_the_clock_counts_only_ticks_with_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 12.0, 15.0, 16.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    clock = utils.Clock()
    assert clock.get_stat() == 0.0
    assert clock.tick() == 2.0
    assert clock.tick(samples=6) == 3.0
    assert clock.tick(samples=2) == 1.0
    assert clock.get_stat(n_samp=4, reset=True) == 2.0  # 4 s for 8 samples
    assert clock.get_stat() == 0.0


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Record:
    ids: Any
    name: str


def test_trees() -> None:
    tree = {"x": [1, (2, 3)], "y": Pair(4, Record(5, 6))}  # type: ignore[arg-type]
    mapped = utils.tree_map(lambda leaf: leaf * 10, tree)
    assert mapped == {"x": [10, (20, 30)], "y": Pair(40, Record(50, 60))}  # type: ignore[arg-type]
    assert type(mapped["y"]) is Pair and tree["x"] == [1, (2, 3)]


def test_tensors_move_and_the_rest_stays() -> None:
    moved = utils.to_device(Record(torch.ones(2), "name"), "meta")
    assert moved.ids.device.type == "meta" and moved.name == "name"


def test_only_numbers_are_kept() -> None:
    values = {"a": 1, "b": torch.tensor([2.0]), "c": [1], "d": "3", "e": None, "f": np.float32(0.5), "g": torch.ones(2)}
    assert utils.filter_non_scalars(values) == {"a": 1.0, "b": 2.0, "f": 0.5}


def test_a_loader_without_end_tells_its_sampler() -> None:
    class Sampler:
        told: list[int] = []  # noqa: RUF012

        def set_epoch(self, epoch: int) -> None:
            self.told.append(epoch)

    loader = utils.infinite_dataloader(DataLoader([1, 2], batch_size=1), Sampler())  # type: ignore[arg-type]
    assert [int(next(loader)) for _ in range(5)] == [1, 2, 1, 2, 1]
    assert Sampler.told == [0, 1, 2]
    with pytest.raises(ValueError, match="the dataloader is empty"):
        next(utils.infinite_dataloader([]))
    used = utils.infinite_dataloader(iter([1]))
    assert next(used) == 1
    with pytest.raises(ValueError, match="used up"):
        next(used)


def test_git_is_never_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert utils.get_git_tag() == ("unknown", "unknown")  # no repository
    monkeypatch.setenv("PATH", "")
    assert utils.get_git_tag() == ("unknown", "unknown")  # no git
    assert capfd.readouterr().err == ""


def test_print_rank_0(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    utils.print_rank_0("main", 1)
    monkeypatch.setenv("RANK", "1")
    utils.print_rank_0("other")
    assert capsys.readouterr().out == "main 1\n"
