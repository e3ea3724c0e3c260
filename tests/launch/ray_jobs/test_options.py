"""What a Ray job may be asked for, and the command line that its stage gets."""

from __future__ import annotations

import importlib

import pytest

from launch.ray_jobs.options import (
    SCRIPTS,
    RayOptions,
    check_options,
    read_resources,
    split_command_line,
    stage_options,
)
from trlx.utils.errors import UserError


@pytest.mark.parametrize(
    ("text", "resources"),
    [
        ("CPU=1,GPU=0", {"CPU": 1, "GPU": 0}),
        (" cpu=0.5 , gpu=1", {"CPU": 0.5, "GPU": 1}),
        ("GPU=1", {"CPU": 1, "GPU": 1}),
        ('{"CPU": 2, "GPU": 0, "fast_disk": 1}', {"CPU": 2, "GPU": 0, "fast_disk": 1}),
        ("{}", {"CPU": 1, "GPU": 0}),
    ],
)
def test_resources_in_both_spellings(text: str, resources: dict[str, float]) -> None:
    assert read_resources(text) == resources


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2", "must look like CPU=1,GPU=0"),
        ("", "must look like CPU=1,GPU=0"),
        ("CPU=1,,GPU=0", "must look like CPU=1,GPU=0"),
        ("CPU=two", "CPU must be a number, 0 or more, not 'two'"),
        ("CPU=-1", "CPU must be a number, 0 or more, not '-1'"),
        ("CPU=inf", "CPU must be a number"),
        ("CPU=nan", "CPU must be a number"),
        ('{"CPU": true}', "CPU must be a number"),
        ('{"CPU": [1]}', "CPU must be a number"),
        ("GPU=0.5", "GPU must be 0 or 1, not 0.5"),
        ("GPU=2", "GPU must be 0 or 1, not 2"),
        ("CPU=0,GPU=0", "a worker must take something"),
        ('{"CPU": 1', "not JSON"),
    ],
)
def test_resources_that_cannot_be_meant(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_resources(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RayOptions("sft", num_workers=0), "--num_workers must be at least 1, not 0"),
        (RayOptions("sft", max_failures=-2), "--max_failures must be 0 or more, or -1 for ever, not -2"),
        (RayOptions("sft", storage="s3://bucket"), "--storage must be a folder that every machine sees"),
        (RayOptions("evaluation", num_workers=2), "--stage evaluation runs in one process"),
    ],
)
def test_options_that_cannot_be_meant(options: RayOptions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_options(options)
    check_options(RayOptions("evaluation", max_failures=-1))


def test_the_first_two_dashes_part_the_command_line() -> None:
    assert split_command_line(["--stage", "sft", "--", "--root", "--", "x"]) == (
        ["--stage", "sft"],
        ["--root", "--", "x"],
    )
    assert split_command_line(["--stage", "sft"]) == (["--stage", "sft"], [])
    assert split_command_line(["--", "--root", "x"]) == ([], ["--root", "x"])


def test_a_retry_resumes_and_replaces_nothing() -> None:
    given = ["--root", "r", "--overwrite"]
    assert stage_options("ppo", given, again=False) == given
    assert stage_options("ppo", given, again=True) == [*given, "--overwrite=false", "--resume=true"]
    assert stage_options("evaluation", [], again=True) == ["--resume=true"]  # it has no --overwrite


def test_deepspeed_is_off_unless_it_is_asked_for() -> None:
    assert stage_options("sft", ["--root", "r"], again=False) == ["--root", "r", "--deepspeed=null"]
    for asked in (["--deepspeed", "x.json"], ["--deepspeed=x.json"]):
        assert stage_options("reward_model", asked, again=False) == asked
    assert stage_options("rft", [], again=False) == []


@pytest.mark.parametrize("stage", SCRIPTS)
def test_every_script_is_there_and_knows_what_a_retry_tells_it(stage: str) -> None:
    module = vars(importlib.import_module(SCRIPTS[stage].module))
    assert callable(module["main"])
    (options,) = [
        value for name, value in module.items() if name.endswith("Options") and value.__module__ == module["__name__"]
    ]
    fields = options.__dataclass_fields__
    assert "resume" in fields
    assert ("overwrite" in fields) == SCRIPTS[stage].overwrite
    assert ("deepspeed" in fields) == SCRIPTS[stage].deepspeed
