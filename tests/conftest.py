"""For every test: the fast ones first, and no model hub."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Two test processes run at a time, each on one core; more threads than cores slow both down many times over.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="moments at which tests/faults kills each stage")
    parser.addoption("--kill_seed", type=int, default=1, help="of the draw of these moments")
