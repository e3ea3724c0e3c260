"""Whether the hub answers, and what is done when it does not."""

import os
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from launch.local import free_port
from trlx.utils import hub


@pytest.fixture
def server() -> Iterator[int]:
    """The port of something that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_host_that_answers_and_one_that_does_not(server: int) -> None:
    assert hub.reachable(f"https://127.0.0.1:{server}")
    assert not hub.reachable(f"https://127.0.0.1:{free_port()}")


def test_the_proxy_counts_where_there_is_one(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server}")
    assert hub.reachable("https://hub.invalid")
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{free_port()}")
    assert not hub.reachable("https://hub.invalid")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert hub.reachable(f"https://127.0.0.1:{server}")


def test_a_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def look_up(address: tuple[str, int], timeout: float) -> None:
        asked.append((address, timeout))
        raise socket.gaierror

    monkeypatch.setattr(socket, "create_connection", look_up)
    assert not hub.reachable("https://hub.invalid", patience=0.5)
    assert not hub.reachable("http://hub.invalid", patience=0.5)
    assert asked == [(("hub.invalid", 443), 0.5), (("hub.invalid", 80), 0.5)]


@pytest.mark.parametrize("answers", [True, False])
def test_offline_is_settled_once(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(hub, "reachable", lambda url: asked.append(url) or answers)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    datasets = SimpleNamespace(HF_HUB_OFFLINE=False)
    monkeypatch.setitem(sys.modules, "datasets.config", datasets)
    hub.settle_offline.cache_clear()
    try:
        assert [hub.settle_offline(), hub.settle_offline()] == [not answers, not answers]
    finally:
        hub.settle_offline.cache_clear()
    assert asked == [constants.ENDPOINT]
    assert constants.HF_HUB_OFFLINE is datasets.HF_HUB_OFFLINE is (not answers)
    assert os.environ["HF_HUB_OFFLINE"] == ("0" if answers else "1")


def test_what_is_forbidden_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reachable", lambda url: pytest.fail("asked"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.settle_offline.cache_clear()
    assert hub.settle_offline()
    hub.settle_offline.cache_clear()
