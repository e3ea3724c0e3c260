"""Whether a job fits on a cluster, what its workers take over, and addresses where there is none."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.local import free_port
from launch.ray_jobs.cluster import connected, what_lacks, worker_environment
from tasks.run_folder import REPO
from trlx.utils.errors import UserError


@pytest.mark.parametrize(
    ("nodes", "workers", "resources", "lacking"),
    [
        ([{"CPU": 2.0}], 2, {"CPU": 1.0, "GPU": 0.0}, None),
        ([{"CPU": 2.0}], 3, {"CPU": 1.0, "GPU": 0.0}, "3 workers of 1 CPU need 3 CPU, Ray has 2"),
        ([{"CPU": 8.0}], 1, {"CPU": 1.0, "GPU": 1.0}, "1 workers of 1 GPU need 1 GPU, Ray has 0"),
        ([{"CPU": 2.0}, {"CPU": 2.0}], 1, {"CPU": 3.0}, "1 workers of 3 CPU each do not fit on Ray's 2 machines"),
        # the GPUs lie where there are no cores for them
        ([{"CPU": 4.0}, {"CPU": 1.0, "GPU": 2.0}], 2, {"CPU": 2.0, "GPU": 1.0}, "which hold 0"),
        ([{"CPU": 4.0, "GPU": 2.0}, {"CPU": 2.0, "GPU": 1.0}], 3, {"CPU": 2.0, "GPU": 1.0}, None),
        ([], 1, {"CPU": 1.0}, "Ray has 0"),
        ([{"CPU": 1.0}], 1, {"CPU": 1.0, "disk": 1.0}, "1 workers of 1 disk need 1 disk, Ray has 0"),
    ],
)
def test_what_lacks(nodes: list, workers: int, resources: dict, lacking: str | None) -> None:
    found = what_lacks(nodes, workers, resources)
    assert found is None if lacking is None else lacking in str(found)


@given(
    nodes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=3),
    workers=st.integers(1, 4),
    cpu=st.integers(0, 2),
    gpu=st.integers(0, 1),
)
def test_it_lacks_nothing_exactly_when_some_placement_works(nodes: list, workers: int, cpu: int, gpu: int) -> None:
    if cpu == gpu == 0:
        return
    placements = itertools.product(range(len(nodes)), repeat=workers)
    works = any(
        all(placed.count(i) * cpu <= node[0] and placed.count(i) * gpu <= node[1] for i, node in enumerate(nodes))
        for placed in placements
    )
    have = [{"CPU": float(node[0]), "GPU": float(node[1])} for node in nodes]
    assert (what_lacks(have, workers, {"CPU": float(cpu), "GPU": float(gpu)}) is None) == works


def test_workers_find_the_repository_see_no_gpu_unasked_and_get_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    on_cpus = worker_environment(gpu=False)
    assert on_cpus["PYTHONPATH"] == f"{REPO}{os.pathsep}/elsewhere"
    assert on_cpus["CUDA_VISIBLE_DEVICES"] == "" and on_cpus["HF_HUB_OFFLINE"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(gpu=True)
    assert "secret" not in on_cpus.values()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("somewhere", "must be ray://HOST:PORT or HOST:PORT, not 'somewhere'"),
        ("ray://host:", "must be ray://HOST:PORT or HOST:PORT"),
        ("ray://127.0.0.1:PORT", r"nobody answers there .*`ray start --head` starts one"),
        ("127.0.0.1:PORT", "nobody answers there"),
    ],
)
def test_an_address_where_no_cluster_is(address: str, message: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(UserError, match=message), connected(address.replace("PORT", str(free_port())), gpu=False):
        pass
