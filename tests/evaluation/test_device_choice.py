"""Devices and number formats: what is chosen, and what is said, for every number of GPUs."""

from __future__ import annotations

import pytest
import torch

from evaluation.devices import choose_devices, choose_dtype
from trlx.utils.errors import UserError


@pytest.mark.parametrize(
    ("count", "reward", "policy", "said"),
    [
        (0, "cpu", "cpu", "no GPU here"),
        (1, "cuda:0", "cuda:0", "one GPU here instead of two"),
        (2, "cuda:0", "cuda:1", "one GPU each"),
        (8, "cuda:0", "cuda:1", "one GPU each"),
    ],
)
def test_by_number_of_gpus(monkeypatch: pytest.MonkeyPatch, count: int, reward: str, policy: str, said: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    devices = choose_devices()
    assert (str(devices.reward), str(devices.policy)) == (reward, policy)
    assert said in str(devices)
    assert "\n" not in str(devices)


def test_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = choose_devices(reward="cpu", policy="cuda:0")
    assert (str(devices.reward), str(devices.policy)) == ("cpu", "cuda:0")
    with pytest.raises(UserError, match="cuda:2"):
        choose_devices(policy="cuda:2")
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        choose_devices(policy="gpu")


def test_dtypes() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("auto", cpu) == torch.float32
    assert choose_dtype("bfloat16", cpu) == torch.bfloat16
    assert choose_dtype("float16", torch.device("cuda:0")) == torch.float16
    with pytest.raises(UserError, match="not for a CPU"):
        choose_dtype("float16", cpu)
    with pytest.raises(UserError, match="unknown dtype 'fp8'"):
        choose_dtype("fp8", cpu)
