"""The cluster that a job runs on: one of this machine's own, ended with the job, or one that is up and stays so.

Left out: autoscaling. A cluster counts with the machines that it has when the job starts.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from importlib import util
from typing import Any

from tasks.run_folder import REPO
from trlx.utils.errors import MissingPackageError, UserError

# Set to 0 before Ray is imported it keeps a cluster to 127.0.0.1. Given that address Ray takes the machine's own for it
# and listens on all there are, where whoever gets through runs what he likes.
ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# Of this process and, in a cluster of its own, of the workers.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # it sends `print` to the log, also where a library captures its own output
}
# What workers take over from this process, on other machines too. No keys or tokens.
TAKEN_OVER = (
    *("OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "HF_HOME", "ACCELERATE_MIXED_PRECISION"),
    *QUIET,
)
OBJECT_STORE = 128 * 2**20  # bytes; jobs pass nothing but options through it


def require_ray() -> None:
    """Raises: MissingPackageError when Ray Train is not installed."""
    if util.find_spec("ray") is None:
        raise MissingPackageError("jobs on Ray need the package ray: pip install 'ray[train]'")


@contextlib.contextmanager
def connected(address: str | None, gpu: bool) -> Iterator[None]:
    """Within it this process is connected to a cluster; what was started here ends with it, also after an error.

    Args:
        address: of a cluster that is up, or None for one of this machine's own, on loopback, without dashboard.
        gpu: whether workers use GPUs; otherwise they see none.

    Raises: UserError when no cluster answers at the address.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if address is None:
        os.environ[ON_LOOPBACK] = "0"
    import ray

    common: dict[str, Any] = {
        "runtime_env": {"env_vars": worker_environment(gpu)},
        "logging_level": logging.ERROR,
        "log_to_driver": False,  # see `launch.ray_jobs.output`
    }
    if address is None:
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            **common,
        )
    else:
        _require_answer(address)
        try:
            ray.init(address=address, **common)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"--address {address}: {error}: {_REMEDY}") from error
    try:
        yield
    finally:
        ray.shutdown()  # of a cluster that was up before this only leaves it


_REMEDY = "name a cluster that is up (`ray start --head` starts one), or leave --address out"


def worker_environment(gpu: bool) -> dict[str, str]:
    """Environment variables of the workers. The repository must lie at the same path on every machine."""
    taken = {name: os.environ[name] for name in TAKEN_OVER if name in os.environ}
    path = os.pathsep.join(filter(None, (str(REPO), os.environ.get("PYTHONPATH"))))
    hidden = {} if gpu else {"CUDA_VISIBLE_DEVICES": ""}
    return {**taken, **hidden, "PYTHONPATH": path}


def _require_answer(address: str) -> None:
    """Ray waits long for an address where nobody listens, or ends the process; so knock first."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--address must be ray://HOST:PORT or HOST:PORT, not '{address}'")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--address {address}: nobody answers there ({error}): {_REMEDY}") from error


def require_room(workers: int, resources: Mapping[str, float]) -> None:
    """Refuse what the cluster could never run; Ray would wait for ever. Raises: UserError naming what lacks."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    lacking = what_lacks(nodes, workers, resources)
    if lacking:
        raise UserError(f"{lacking}: lower --num_workers or --resources_per_worker")


def what_lacks(nodes: Sequence[Mapping[str, float]], workers: int, resources: Mapping[str, float]) -> str | None:
    """Why so many workers do not fit on the machines of a cluster all at once, or None.

    Args:
        nodes: name of a resource → what one machine has of it, whether in use or not.
        resources: name → what one worker takes; a worker lies on one machine.
    """
    for name, amount in resources.items():
        has = sum(node.get(name, 0) for node in nodes)
        if workers * amount > has:
            return f"{workers} workers of {amount:g} {name} need {workers * amount:g} {name}, Ray has {has:g}"
    needed = {name: amount for name, amount in resources.items() if amount > 0}
    places = sum(min(math.floor(node.get(name, 0) / amount) for name, amount in needed.items()) for node in nodes)
    if places < workers:
        asked = ", ".join(f"{amount:g} {name}" for name, amount in needed.items())
        return f"{workers} workers of {asked} each do not fit on Ray's {len(nodes)} machines, which hold {places}"
    return None
