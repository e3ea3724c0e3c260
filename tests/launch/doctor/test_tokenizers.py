"""Tokenizers of the stages against each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from launch.doctor.options import Models
from launch.doctor.tokenizers import tokenizer_findings


@pytest.fixture
def folders(finished: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the policy's and the reward model's folders, to be damaged."""
    for name in ("sft", "reward_model"):
        shutil.copytree(finished / "ckpts" / name, tmp_path / name)
    return tmp_path / "sft", tmp_path / "reward_model"


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def swap_two_tokens(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(content))


def look(start: Path, policy: Path | None = None, judge: Path | None = None) -> list[tuple[str, str]]:
    policies = {"start": str(start)} | ({"best": str(policy)} if policy else {})
    found = tokenizer_findings(Models(policies, {"judge": str(judge)} if judge else {}))
    return [(one.status, one.seen) for one in found]


def test_tokenizers_of_one_base_model_agree(finished: Path) -> None:
    sft, judge = finished / "ckpts" / "sft", finished / "ckpts" / "reward_model"
    assert [status for status, _ in look(sft, sft, judge)] == ["ok", "ok", "ok"]


def test_another_vocabulary_fails_for_a_policy_and_warns_for_a_reward_model(
    finished: Path, folders: tuple[Path, Path]
) -> None:
    for folder in folders:
        swap_two_tokens(folder)
    (_, (status, seen), (judged, told)) = look(finished / "ckpts" / "sft", *folders)
    assert (status, judged) == ("fail", "warn")
    assert seen.startswith("2 tokens are not those of the first policy") and told.startswith("2 tokens")


def test_another_end_of_text_fails(finished: Path, folders: tuple[Path, Path]) -> None:
    for folder in folders:
        change(folder / "tokenizer_config.json", eos_token="a")
    assert [status for status, _ in look(finished / "ckpts" / "sft", *folders)] == ["ok", "fail", "fail"]


def test_an_end_of_text_that_the_config_does_not_name_warns(folders: tuple[Path, Path]) -> None:
    change(folders[0] / "config.json", eos_token_id=7)
    assert look(folders[0])[0][0] == "warn"
    change(folders[0] / "config.json", eos_token_id=[7, 0])
    assert look(folders[0])[0][0] == "ok"


def test_a_reward_model_that_pads_with_eos_fails(finished: Path, folders: tuple[Path, Path]) -> None:
    change(folders[1] / "config.json", pad_token_id=0)
    (_, (status, seen)) = look(finished / "ckpts" / "sft", judge=folders[1])
    assert status == "fail" and "its pad token is EOS" in seen


def test_a_folder_without_a_tokenizer_is_a_failure_and_the_others_are_still_looked_at(
    finished: Path, folders: tuple[Path, Path]
) -> None:
    (folders[0] / "tokenizer_config.json").unlink()
    found = look(folders[0], finished / "ckpts" / "sft", folders[1])
    assert [status for status, _ in found] == ["fail", "ok", "ok"]
