"""Two machines, one process each, started by the commands that train.sh builds: they join and add up.

The machines are network namespaces with their own addresses where that is allowed, else two launchers on loopback.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launch.local import (
    Machine,
    Node,
    accelerate_launcher,
    free_port,
    stage_environment,
    trainer_command,
    without_deepspeed,
)
from launch.pipeline.hosts import Host, RemoteShell, check_hosts, read_hostfile
from launch.running import run_together
from tests.launch.pipeline import namespaces

WORKER = str(Path(__file__).with_name("two_nodes_worker.py"))
ONE = Machine(processes=1, deepspeed=True, reason="")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(without_deepspeed()), reason=without_deepspeed() or "DeepSpeed can run"),
]


@dataclass
class Lab:
    """Two machines, and how to run something on them."""

    folder: Path
    hosts: list[Host]
    shell: RemoteShell
    apart: bool  # in namespaces

    def run(self, command: Callable[[Node], list[str]]) -> list[dict[str, Any]]:
        """What the worker of each rank noted, after both machines ran their commands."""
        port = free_port()
        nodes = [Node(rank, 2, self.hosts[0].name, port, self.folder / "hosts") for rank in range(2)]
        lines = [self.shell.on(host, command(node)) for host, node in zip(self.hosts, nodes, strict=True)]
        log = self.folder / "log"
        code = run_together(lines, self.shell.environment, log, [host.name for host in self.hosts], grace=5)
        assert code == 0, log.read_text()[-3000:]
        return [json.loads((self.folder / f"rank_{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("two")
    environment = {**stage_environment(ONE), "DS_WORD": "two words", "HF_TOKEN": "secret", "OMP_NUM_THREADS": "1"}
    if namespaces.why_not():
        print(f"on loopback: {namespaces.why_not()}")
        shell = namespaces.local_shell(folder / "shell")
        yield _lab(folder, ("127.0.0.2", "127.0.0.3"), RemoteShell(str(shell), environment), False)
        return
    with namespaces.two_namespaces() as names:
        shell = namespaces.write_shell(folder / "shell", names)
        environment["GLOO_SOCKET_IFNAME"] = namespaces.INTERFACE
        yield _lab(folder, namespaces.ADDRESSES, RemoteShell(str(shell), environment), True)


def _lab(folder: Path, addresses: tuple[str, str], shell: RemoteShell, apart: bool) -> Lab:
    (folder / "hosts").write_text("".join(f"{address} slots=1\n" for address in addresses))
    return Lab(folder, read_hostfile(str(folder / "hosts")), shell, apart)


def require_joined(lab: Lab, seen: list[dict[str, Any]]) -> None:
    assert [one["world"] for one in seen] == [2, 2] and [one["sum"] for one in seen] == [11.0, 11.0]
    assert [one["word"] for one in seen] == ["two words"] * 2 and [one["secret"] for one in seen] == [None] * 2
    if lab.apart:
        assert [one["addresses"] for one in seen] == [[address] for address in namespaces.ADDRESSES]


def test_both_machines_pass_the_check(lab: Lab) -> None:
    check_hosts(lab.hosts, lab.shell, lab.folder / "run", timeout=60)


def test_deepspeeds_launcher_joins_them(lab: Lab) -> None:
    require_joined(lab, lab.run(lambda node: trainer_command(ONE, WORKER, [str(lab.folder)], node)))


def test_accelerates_launcher_joins_them_without_pdsh(lab: Lab) -> None:
    launcher = "configs/tiny/accelerate.yaml"
    worker = [WORKER, str(lab.folder)]
    require_joined(lab, lab.run(lambda node: [*accelerate_launcher(ONE, launcher, node), *worker]))
