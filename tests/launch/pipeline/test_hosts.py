"""Hostfiles and machines that cannot be used: found out before anything starts, in one line each."""

import json
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.pipeline import hosts as hosts_module
from launch.pipeline.hosts import Host, RemoteShell, check_hosts, handed_on, read_hostfile
from launch.pipeline.options import parse
from launch.pipeline.plan import make_plan
from tasks.run_folder import REPO
from trlx.utils.errors import UserError


def hostfile(folder: Path, text: str) -> str:
    (folder / "hosts").write_text(text)
    return str(folder / "hosts")


def test_deepspeeds_format_is_read(tmp_path: Path) -> None:
    hosts = read_hostfile(hostfile(tmp_path, "# two of them\nworker-1 slots=4\n\n  10.0.0.2   slots=4  # new\n"))
    assert [(host.name, host.slots) for host in hosts] == [("worker-1", 4), ("10.0.0.2", 4)]
    assert hosts[1].place.endswith("hosts, line 4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no machine"),
        ("# none\n", "names no machine"),
        ("a slots=2\nb\n", "line 2: 'b' is not `NAME slots=N`"),
        ("a slots=two\n", "line 1: 'a slots=two' is not"),
        ("a slots=-1\n", "line 1: 'a slots=-1' is not"),
        ("-oProxyCommand=x slots=2\n", "line 1: .* is not"),  # ssh would take it for an option
        ("a;reboot slots=2\n", "line 1: .* is not"),
        ("a slots=2 max=4\n", "line 1: .* is not"),
        ("a slots=2\nb slots=0\n", "line 2: slots=0 means no process on b"),
        ("a slots=2\nb slots=2\na slots=2\n", "line 3: a is a once more"),
        (f"{socket.gethostname()} slots=2\nlocalhost slots=2\n", "line 2: localhost is .* once more"),
        ("a slots=2\nb slots=3\n", "line 2: slots=3, and a has 2"),
        ("localhost slots=1\nb slots=1\n", "line 1: the other machines cannot reach localhost"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_hostfile(hostfile(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_hostfile(str(tmp_path / "hosts"))


def answering(folder: Path, body: str) -> str:
    """A remote shell that is a script."""
    path = folder / "shell"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def checked(folder: Path, body: str, slots: int = 1, timeout: float = 20) -> None:
    host = Host("worker-1", slots, "hosts, line 1")
    check_hosts([host], RemoteShell(answering(folder, body), {}), folder / "run", timeout)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sleep 30", r"line 1: worker-1 gave no answer within 0.5 s: is it up\?"),
        ("echo 'Connection refused' >&2; exit 255", r"line 1: worker-1 cannot be reached \(Connection refused\)"),
        ('[ "$2" = true ] || { echo "No such file" >&2; exit 1; }', r"needs this repository and its Python .*No such"),
        ("""echo '{"devices": 2, "what": "2 GPUs", "sees": false}'""", "does not see .*: choose a --root on a disk"),
        ("""echo '{"devices": 2, "what": "2 GPUs", "sees": true}'""", "slots=3, and worker-1 has 2 GPUs: lower"),
    ],
)
def test_a_machine_that_cannot_take_part_is_one_line(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        checked(tmp_path, body, slots=3, timeout=0.5 if "sleep" in body else 20)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["shell"]  # what all were to see is gone


def test_a_machine_with_everything_may_take_part(tmp_path: Path) -> None:
    checked(tmp_path, """echo '{"devices": 2, "what": "2 GPUs", "sees": true}'""", slots=2)


def test_a_remote_shell_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--remote_shell: cannot run no-such-shell"):
        check_hosts([Host("w", 1, "hosts, line 1")], RemoteShell("no-such-shell -x", {}), tmp_path, 5)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise UserError("cannot write here")

    monkeypatch.setattr(hosts_module, "require_writable", refuse)
    with pytest.raises(UserError, match="cannot write here"):
        checked(tmp_path, "true")


def test_the_line_for_another_machine_survives_its_shell(tmp_path: Path) -> None:
    shell = RemoteShell("ssh -tt", {"DS_WORD": "two words; $HOME 'x'", "HF_TOKEN": "t", "SHELL": "/bin/x"})
    program = [sys.executable, "-c", "import json, os, sys; print(json.dumps([os.environ['DS_WORD'], sys.argv[1:]]))"]
    ssh, option, name, line = shell.on(Host("worker-1", 1, ""), [*program, "a b", "$(id)", "'"])
    assert [ssh, option, name] == ["ssh", "-tt", "worker-1"]
    assert (
        line.startswith(f"cd {shlex.quote(str(REPO))} && exec env ") and "HF_TOKEN" not in line and "/bin/x" not in line
    )
    code, said = hosts_module._ask(["sh", "-c", line], {}, 60)
    assert code == 0 and json.loads(said) == ["two words; $HOME 'x'", ["a b", "$(id)", "'"]]
    here = Host("localhost", 1, "")
    assert shell.on(here, ["x"]) == ["x"]


def test_no_secret_leaves_this_machine() -> None:
    told = ["HF_HUB_OFFLINE", "NCCL_DEBUG", "TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS", "PATH"]
    kept = ["HF_TOKEN", "HF_API_KEY", "TORCH_PASSWORD", "DS_SECRET_X", "WANDB_API_KEY", "HOME"]
    assert [handed_on(name) for name in told] == [True] * 5 and [handed_on(name) for name in kept] == [False] * 6


def test_every_machine_gets_its_own_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.local.without_deepspeed", lambda: "")
    path = hostfile(tmp_path, "worker-1 slots=4\nworker-2 slots=4\n")
    root = str(tmp_path / "run")
    accelerate = str(REPO / "configs" / "default_accelerate_config.yaml")
    made = make_plan(parse(["mul_mach", "--hostfile", path, "--root", root, "--accelerate", accelerate]))
    sft, ppo, evaluation = (made.commands(stage) for stage in ("sft", "ppo", "evaluation"))
    for rank, command in enumerate(sft):
        text = " ".join(command)
        assert f"--hostfile {root}/hostfile --no_ssh --node_rank {rank}" in text and "--master_addr worker-1" in text
    for rank, command in enumerate(ppo):
        text = " ".join(command)
        assert f"--num_machines 2 --machine_rank {rank} --main_process_ip worker-1" in text
        assert "--deepspeed_multinode_launcher standard --num_processes 8" in text
    for commands in (sft, ppo):  # they meet at one port
        ports = {command[index + 1] for command in commands for index, part in enumerate(command) if "_port" in part}
        assert len(commands) == 2 and len(ports) == 1
    assert len(evaluation) == 1
    assert [line[:5] for line in made.started("sft", {})] == [
        ["ssh", "-tt", "-o", "BatchMode=yes", f"worker-{number}"] for number in (1, 2)
    ]
    assert "--hostfile" in made.go_on("ppo") and f"--root {root} --from ppo" in made.go_on("ppo")
