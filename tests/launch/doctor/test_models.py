"""Models that are sound pass, and each kind of damage fails at the check that is about it and at no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from launch.doctor.finding import Finding
from launch.doctor.policy import load_hydra, policy_findings
from launch.doctor.reward import reward_findings
from trlx.models.loading import load_policy_tokenizer

CPU = torch.device("cpu")


def failed(findings: Sequence[Finding]) -> list[str]:
    assert all(finding.remedy for finding in findings if finding.status != "ok")
    return [finding.name for finding in findings if finding.status == "fail"]


@pytest.fixture
def policy(finished: Path) -> tuple[Any, Any]:
    path = str(finished / "ckpts" / "sft")
    return load_hydra(path, 1, CPU), load_policy_tokenizer(path)


@pytest.mark.parametrize("unfrozen", [-1, 1, 99])
def test_a_sound_policy_passes_whatever_trains(finished: Path, unfrozen: int) -> None:
    path = str(finished / "ckpts" / "sft")
    found = policy_findings("m", load_hydra(path, unfrozen, CPU), load_policy_tokenizer(path), 0.7)
    assert [one.name for one in found] == ["padding, m", "ratio, m", "sampling, m", "KL, m"]
    assert {one.status for one in found} == {"ok"}


def test_a_policy_that_numbers_positions_from_the_left_edge_fails_at_padding(policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    model.layout._takes_positions = False
    assert "padding, m" in failed(policy_findings("m", model, tokenizer, 1.0))


def test_a_policy_that_has_moved_from_its_reference_fails_at_the_divergence_alone(policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    with torch.no_grad():
        model.bare.transformer.h[-1].mlp.c_proj.bias[0] += 1.0  # one direction: the norm after it keeps its effect
    assert failed(policy_findings("m", model, tokenizer, 1.0)) == ["KL, m"]


def test_dropout_in_the_training_pass_fails_at_the_ratio(policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    model.bare.transformer.h[-1].mlp.dropout.p = 0.5
    model.train()
    assert {"ratio, m", "sampling, m"} <= set(failed(policy_findings("m", model, tokenizer, 1.0)))


def test_a_policy_that_is_not_a_number_fails(policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    with torch.no_grad():
        next(model.frozen_head.copies.parameters()).fill_(torch.nan)
    assert failed(policy_findings("m", model, tokenizer, 1.0)) == ["KL, m"]


def test_the_random_generator_ends_as_it_was(policy: tuple[Any, Any]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    policy_findings("m", *policy, 1.0)
    assert torch.equal(torch.rand(3), expected)


def test_a_sound_reward_model_passes(loaded: tuple[Any, Any]) -> None:
    found = reward_findings("m", *loaded)
    assert [one.name for one in found] == ["padding, m", "pad token, m", "score position, m"]
    assert {one.status for one in found} == {"ok"}


def test_a_pad_token_that_is_eos_is_read_one_token_early(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    model.config.pad_token_id = tokenizer.eos_token_id
    found = reward_findings("m", model, tokenizer)
    assert failed(found) == ["pad token, m", "score position, m"]
    assert "read 1 before the last real token" in found[-1].seen


def test_a_score_that_moves_with_its_batch_fails_at_padding(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded
    forward = model.forward

    def beside(**inputs: Any) -> Any:
        output = forward(**inputs)
        output.logits = output.logits + 0.01 * inputs["input_ids"].shape[1]
        return output

    monkeypatch.setattr(model, "forward", beside)
    assert "padding, m" in failed(reward_findings("m", model, tokenizer))


def test_a_head_that_tells_no_tokens_apart_is_no_failure_but_is_told(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    torch.nn.init.zeros_(model.score.weight)
    position = reward_findings("m", model, tokenizer)[-1]
    assert (position.status, position.seen) == ("warn", "several tokens have the score of the text")
