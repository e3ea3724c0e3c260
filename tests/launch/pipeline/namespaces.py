"""Two "machines" on one: network namespaces with an address each, joined by a cable, and a shell to run things there.

What is not simulated: disks and users of their own, a slow or lossy network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ADDRESSES = ("10.213.7.1", "10.213.7.2")
INTERFACE = "cable0"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


def why_not() -> str:
    """Why there can be no namespaces here, or an empty string."""
    if shutil.which("ip") is None:
        return "no `ip` (package iproute2)"
    try:
        with two_namespaces():
            return ""
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        return f"network namespaces are not allowed here ({said.decode().strip()})"


@contextlib.contextmanager
def two_namespaces() -> Iterator[tuple[str, str]]:
    """The names of two namespaces with `ADDRESSES`, which reach each other and nothing else."""
    names = (f"first-{os.getpid()}", f"second-{os.getpid()}")
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", INTERFACE, "netns", names[0], "type", "veth", "peer", "name", INTERFACE, "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", INTERFACE)
            for device in ("lo", INTERFACE):
                _ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=20)


def write_shell(path: Path, names: tuple[str, str]) -> Path:
    """A stand-in for ssh: `SHELL ADDRESS LINE` has a shell read the line in the namespace of that address.

    Like ssh it starts from an environment of its own, and fails with 255 where it reaches nobody.
    """
    cases = "\n".join(f"  {address}) ns={name} ;;" for address, name in zip(ADDRESSES, names, strict=True))
    path.write_text(
        "#!/bin/sh\n"
        f'case "$1" in\n{cases}\n  *) echo "no route to $1" >&2; exit 255 ;;\nesac\n'
        'exec env -i HOME="$HOME" PATH=/usr/bin:/bin:/usr/sbin:/sbin ip netns exec "$ns" sh -c "$2"\n'
    )
    path.chmod(0o755)
    return path


def local_shell(path: Path) -> Path:
    """The same without namespaces: both addresses are this machine."""
    path.write_text('#!/bin/sh\nexec env -i HOME="$HOME" PATH=/usr/bin:/bin:/usr/sbin:/sbin sh -c "$2"\n')
    path.chmod(0o755)
    return path
