"""For every test: the fast ones first, and no model hub."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Two test processes run at a time, each on one core; more threads than cores slow both down many times over.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)
