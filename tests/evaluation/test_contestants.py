"""Who is judged where nobody is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.contestants import parse_baselines, parse_models
from tasks.run_folder import RunFolder
from trlx.utils.errors import UserError


def model(folder: Path, weights: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(len(b"{}").to_bytes(8, "little") + b"{}" + weights)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder.of(tmp_path)
    model(run.sft, b"")
    model(run.best_policy, b"")
    return run


def test_sft_and_ppo_and_what_else_there_is(run: RunFolder) -> None:
    assert list(parse_models(None, run)) == ["sft", "ppo"]
    model(run.rft_policy, b"")
    assert list(parse_models(None, run)) == ["sft", "ppo", "rft"]


def test_one_policy_is_not_judged_under_two_names(run: RunFolder) -> None:
    model(run.best_heldout_policy, b"")
    assert list(parse_models(None, run)) == ["sft", "ppo"]
    (run.best_heldout_policy / "config.json").write_text('{"another": 1}')
    assert list(parse_models(None, run)) == ["sft", "ppo", "ppo_heldout"]
    assert parse_models("ppo_heldout", run) == {"ppo_heldout": str(run.best_heldout_policy)}


@pytest.mark.parametrize("name", ["title", "reference"])
def test_names_of_baselines_are_taken(run: RunFolder, name: str) -> None:
    with pytest.raises(UserError, match="name of a baseline"):
        parse_models(f"{name}={run.sft}", run)


def test_baselines() -> None:
    assert parse_baselines("") == []
    assert parse_baselines("title, first_sentence,title") == ["title", "first_sentence"]
    with pytest.raises(UserError, match="did you mean 'first_30_words'"):
        parse_baselines("first_30_word")
