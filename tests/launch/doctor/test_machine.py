"""Packages, devices, disk, hub and compiler: what is said where something is amiss."""

from __future__ import annotations

import itertools
import os
import shutil
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch
from huggingface_hub import constants

from launch.doctor import devices, surroundings, versions
from launch.doctor.devices import bandwidth_findings, device_findings
from launch.doctor.surroundings import deepspeed_findings, disk_findings, hub_findings
from launch.doctor.versions import version_findings

Usage = namedtuple("Usage", "total used free")
PROJECT = """[project]
requires-python = "{python}"
dependencies = ["torch{torch}", "PyYAML[x]>=1 ; python_version > '3'", "not-here-at-all>=2"]
[project.optional-dependencies]
more = ["numpy<1", "another-one-not-here"]
"""


def project(folder: Path, python: str = ">=3", torch: str = ">=1", pins: str = "") -> Path:
    (folder / "pyproject.toml").write_text(PROJECT.format(python=python, torch=torch))
    (folder / "requirements.txt").write_text(pins)
    return folder


def test_this_environment_is_within_the_projects_ranges() -> None:
    assert [one.status for one in version_findings()[:2]] == ["ok", "ok"]


def test_packages_out_of_range_fail_with_the_command_that_mends_them(tmp_path: Path) -> None:
    found = {one.name: one for one in version_findings(project(tmp_path, python=">=9", torch=">99"))}
    assert {name for name, one in found.items() if one.status == "fail"} == {
        "python",
        "torch",
        "numpy",
        "not-here-at-all",
    }
    assert found["torch"].remedy == 'pip install "torch>99"'
    assert found["not-here-at-all"].seen.startswith("not installed")  # extras that are not here are nobody's fault


def test_another_version_than_the_tested_one_warns(tmp_path: Path) -> None:
    own = torch.__version__.split("+")[0]
    pins = f"# a comment\ntorch=={own}  # the same\nnumpy==0.0.1\nnot-here-at-all==1\n-e .\n"
    last = version_findings(project(tmp_path, pins=pins))[-1]
    assert last.status == "warn" and last.seen.startswith("1 of 2 installed packages are those of requirements.txt")
    assert "(tested: ==0.0.1)" in last.seen


def test_little_memory_and_too_many_threads_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = psutil.virtual_memory()._replace(available=10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    found = {one.name: one for one in device_findings()}
    assert found["memory"].status == found["processor"].status == "warn"
    assert "OMP_NUM_THREADS=" in found["processor"].remedy


def test_a_rate_is_the_bytes_over_the_shortest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_seconds", lambda copy: 2**26 / 0.5e9)
    slow = bandwidth_findings()[0]
    assert (slow.status, slow.seen) == ("warn", "0.5 GB/s")


def test_the_shortest_time_is_taken_and_the_first_one_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.1, 1, 4, 4, 6, 6, 9, 9, 12, 12, 15])
    monkeypatch.setattr(devices.time, "perf_counter", lambda: next(clock))
    assert devices._seconds(lambda: None) == 2


def test_a_disk_too_small_for_the_model_fails_and_without_one_warns(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(finished / "ckpts" / "sft")
    assert disk_findings(str(tmp_path / "not" / "yet"), model)[0].status == "ok"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 1000))
    small = disk_findings(str(tmp_path), model)[0]
    assert small.status == "fail" and "0.0 MB free" in small.seen
    assert disk_findings(str(tmp_path), None)[0].status == "warn"


def test_a_slow_flush_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(surroundings.time, "perf_counter", lambda: next(clock))
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    slow = disk_findings(str(tmp_path), None)[1]
    assert (slow.status, slow.seen) == ("warn", "1000.0 ms for 4 KB to be on the disk")
    assert len(flushed) == surroundings.FLUSHES and not list(tmp_path.iterdir())


def test_a_hub_out_of_reach_is_no_more_than_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://me:secret@hub.example:8443")
    for there, status in ((True, "ok"), (False, "warn")):
        monkeypatch.setattr(surroundings, "reachable", lambda url, patience, there=there: there)
        (found,) = hub_findings()
        assert found.status == status and "hub.example" in found.seen and "secret" not in str(found)


def test_a_hub_that_is_forbidden_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(surroundings, "reachable", lambda *_: pytest.fail("asked"))
    assert [one.status for one in hub_findings()] == ["ok"]


def test_without_deepspeed_or_its_operations_there_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(surroundings, "without_deepspeed", lambda: "")
    assert [one.status for one in deepspeed_findings()] == ["ok", "warn"]
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "operation.so").touch()
    assert deepspeed_findings()[-1].seen == "compiled: operation"
    monkeypatch.setattr(surroundings, "without_deepspeed", lambda: "no compiler")
    assert [(one.status, one.seen) for one in deepspeed_findings()] == [("warn", "no compiler")]


def test_requirements_are_read_with_comments_and_markers() -> None:
    lines = ["# all", "", "a==1 ; python_version < '3'", "b[x]>=2  # why", "-e ."]
    assert [one.name for one in versions._requirements(lines)] == ["b"]
