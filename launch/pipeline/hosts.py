"""The machines of a run: DeepSpeed's hostfile, whether they can be reached and used, and commands that run there.

The first machine is the one that the others meet at. Each needs this repository, its Python and the run's folder at the
same paths (a disk that all share). Left out: machines with unequal slots (accelerate knows none), copying files.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.run_folder import REPO
from trlx.utils.disk import nearest_folder, require_writable
from trlx.utils.errors import UserError, one_line

LINE = re.compile(r"([A-Za-z0-9][\w.:-]*)\s+slots=(\d+)\s*(?:#.*)?")  # a name that no shell takes for an option
PROBE_SECONDS = 180.0  # importing torch on a busy machine
# What other machines are told of this one's environment, by the beginning of the name; but never a secret.
HANDED_ON = ("DS_", "GLOO_", "HF_", "NCCL_", "OMP_", "TOKENIZERS_", "TORCH_", "TRANSFORMERS_", "PYTHON", "PATH", "LD_")
SECRET = re.compile(r"TOKEN$|KEY|SECRET|PASSWORD")


@dataclass(frozen=True)
class Host:
    """A line of a hostfile."""

    name: str
    slots: int
    place: str  # file and line, for messages

    @property
    def here(self) -> bool:
        """Whether it is this machine."""
        return self.name in _own_names()


def _own_names() -> set[str]:
    addresses = {address.address for found in psutil.net_if_addrs().values() for address in found}
    return {"localhost", socket.gethostname(), socket.getfqdn(), *addresses}


def read_hostfile(path: str) -> list[Host]:
    """The machines of a file in DeepSpeed's format, in order.

    Raises: UserError naming file and line for one that cannot be read, means nothing, or comes twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"--hostfile {path}: {error.strerror}: name a file with a line `NAME slots=N` each") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--hostfile {path}: not UTF-8 text: save the file as UTF-8") from error
    hosts: list[Host] = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.strip().startswith("#"):
            hosts.append(_host(line.strip(), f"{path}, line {number}"))
    if not hosts:
        raise UserError(f"--hostfile {path}: names no machine: give a line `NAME slots=N` for each")
    _require_distinct(hosts)
    return hosts


def _host(line: str, place: str) -> Host:
    found = LINE.fullmatch(line)
    if found is None:
        raise UserError(f"{place}: '{line}' is not `NAME slots=N`, e.g. `worker-1 slots=4`")
    if int(found.group(2)) == 0:
        raise UserError(f"{place}: slots=0 means no process on {found.group(1)}: leave the machine out")
    return Host(found.group(1), int(found.group(2)), place)


def _require_distinct(hosts: Sequence[Host]) -> None:
    """Raises: UserError for a machine that comes twice, also under two names of this one, or slots that differ."""
    for index, host in enumerate(hosts):
        for earlier in hosts[:index]:
            if host.name == earlier.name or (host.here and earlier.here):
                raise UserError(f"{host.place}: {host.name} is {earlier.name} once more: give each machine one line")
        if host.slots != hosts[0].slots:
            raise UserError(
                f"{host.place}: slots={host.slots}, and {hosts[0].name} has {hosts[0].slots}: "
                "PPO runs equally many processes on every machine, so give all the same slots"
            )
    if len(hosts) > 1 and hosts[0].name in ("localhost", "127.0.0.1", "::1"):
        raise UserError(f"{hosts[0].place}: the other machines cannot reach {hosts[0].name}: write its name or address")


@dataclass(frozen=True)
class RemoteShell:
    """Runs commands on other machines.

    Args:
        shell: what runs a command there, e.g. "ssh -tt"; the machine's name and one string for its shell follow.
        environment: that the commands are to have there.
    """

    shell: str
    environment: dict[str, str]

    def on(self, host: Host, command: Sequence[str]) -> list[str]:
        """The command that runs `command` on a machine, in the repository; as it is on this one."""
        return (
            list(command) if host.here else self.line(host, f"cd {shlex.quote(str(REPO))} && exec {self._env(command)}")
        )

    def line(self, host: Host, line: str) -> list[str]:
        """The command that has a shell on another machine read a line."""
        return [*shlex.split(self.shell), host.name, line]

    def _env(self, command: Sequence[str]) -> str:
        handed = (f"{name}={value}" for name, value in sorted(self.environment.items()) if handed_on(name))
        return shlex.join(["env", *handed, *command])


def handed_on(name: str) -> bool:
    """Whether another machine is told a variable of the environment."""
    return name.startswith(HANDED_ON) and not SECRET.search(name)


def check_hosts(hosts: Sequence[Host], shell: RemoteShell, root: Path, timeout: float) -> None:
    """Find out whether every machine answers, has what a run needs, and as many devices as slots.

    Args:
        root: the run's folder, which need not exist yet. timeout: seconds in which a machine must answer at all.

    Raises: UserError naming the hostfile's line, what is wrong there, and the remedy.
    """
    require_writable(root, "--root")
    with (
        tempfile.NamedTemporaryFile(dir=nearest_folder(root), prefix=".seen-by-all-") as seen,
        ThreadPoolExecutor(len(hosts)) as pool,
    ):
        troubles = list(pool.map(lambda host: _trouble(host, shell, Path(seen.name), timeout), hosts))
    trouble = next(filter(None, troubles), None)
    if trouble is not None:
        raise UserError(trouble)


def _trouble(host: Host, shell: RemoteShell, seen: Path, timeout: float) -> str | None:
    """What keeps a machine from taking part, or None."""
    how = f"`{shell.shell} {host.name} true` must work without a question"
    if not host.here:
        code, said = _ask(shell.line(host, "true"), os.environ, timeout)
        if code is None:
            return f"{host.place}: {host.name} gave no answer within {timeout:g} s: is it up? {how}"
        if code != 0:
            return f"{host.place}: {host.name} cannot be reached ({_last(said) or f'code {code}'}): {how}"
    probe = [sys.executable, "-m", "launch.pipeline.probe", str(seen)]
    code, said = _ask(shell.on(host, probe), shell.environment, PROBE_SECONDS)
    answer = next((line for line in reversed(said.splitlines()) if line.startswith("{")), None)
    if code != 0 or answer is None:
        why = _last(said) or ("no answer" if code is None else f"code {code}")
        return f"{host.place}: {host.name} needs this repository and its Python at {REPO} ({why})"
    found = json.loads(answer)
    if not found["sees"]:
        return (
            f"{host.place}: {host.name} does not see {seen.parent}: choose a --root on a disk that all machines share"
        )
    if host.slots > found["devices"]:
        return f"{host.place}: slots={host.slots}, and {host.name} has {found['what']}: lower the slots"
    return None


def _ask(
    command: Sequence[str], environment: os._Environ[str] | dict[str, str], timeout: float
) -> tuple[int | None, str]:
    """Code and output of a command; None for the code of one that took too long."""
    try:
        ran = subprocess.run(
            command,
            env=environment,
            cwd=REPO,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, ""
    except OSError as error:
        raise UserError(
            f"--remote_shell: cannot run {command[0]} ({error.strerror}): install it or name another"
        ) from error
    return ran.returncode, "\n".join((ran.stderr, ran.stdout))


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else ""
