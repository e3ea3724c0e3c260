"""Running the real scripts with bad input, and what a refusal must look like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import pytest

REPO = Path(__file__).resolve().parents[2]
SFT = "sft/train_gptneo_summarize.py"
REWARD = "reward_model/train_reward_model_gptneo.py"
PPO = "trlx_gptneo_text_summarization.py"
JUDGE = "trlx_inference_gptneo.py"


@dataclass(frozen=True)
class Result:
    """What a script left: its exit code, what it printed, and the files under its root before and after."""

    code: int
    out: str
    err: str
    before: frozenset[str]
    after: frozenset[str]


def quiet_environment(**extra: str) -> dict[str, str]:
    """One thread, no GPU, no hub; no trace of a launcher that may have started the tests."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    return {**kept, **quiet, "CUDA_VISIBLE_DEVICES": "", **extra}


def tree(root: Path) -> frozenset[str]:
    """Every file and folder below `root`, files with their sizes; the cache of encoded data is no output."""
    found = ((path, path.relative_to(root)) for path in root.rglob("*"))
    return frozenset(
        f"{name} {path.stat().st_size if path.is_file() else ''}" for path, name in found if ".cache" not in name.parts
    )


class Scripts:
    """Runs scripts, each in a process of its own; a server that has imported the libraries forks them.

    Args:
        scratch: a folder for the streams of the scripts and as their current folder.
    """

    def __init__(self, scratch: Path):
        self.scratch = scratch
        self.server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPO,
            env=quiet_environment(PYTHONPATH=str(REPO)),
        )

    def run(
        self, root: Path, *command: str, setup: str = "", timeout: int = 60, env: dict[str, str] | None = None
    ) -> Result:
        """Run `python COMMAND` in a fork.

        Args:
            root: the folder whose files are listed before and after.
            command: a script below the repository with its options, or "-m", a module and its options.
            setup: Python code that the fork runs first, e.g. to take a disk's space away.
            timeout: seconds after which the fork is killed.
            env: variables besides those of `quiet_environment`.
        """
        script = command if command[0] == "-m" else (str(REPO / command[0]), *command[1:])
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            streams = {name: str(Path(folder) / name) for name in ("stdout", "stderr")}
            for path in streams.values():
                Path(path).touch()
            before = tree(root)
            order = {"command": script, "cwd": folder, "env": quiet_environment(**(env or {}))}
            code = self._ask({**order, **streams, "setup": setup, "timeout": timeout})
            out, err = (Path(path).read_text(encoding="utf-8") for path in streams.values())
            return Result(code, out, err, before, tree(root))

    def _ask(self, order: dict[str, object]) -> int:
        print(json.dumps(order), file=cast(IO[str], self.server.stdin), flush=True)
        answer = cast(IO[str], self.server.stdout).readline()
        assert answer, "the fork server ended: its stderr says why"
        return int(answer)

    def close(self) -> None:
        self.server.communicate()


def run_plainly(root: Path, *command: str, timeout: float = 120, env: dict[str, str] | None = None) -> Result:
    """`python COMMAND` as a person starts it."""
    before = tree(root)
    done = subprocess.run(
        [sys.executable, str(REPO / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        cwd=root,
        env=quiet_environment(**(env or {})),
        timeout=timeout,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr, before, tree(root))


def refused(result: Result, *words: str) -> str:
    """Check that a script was refused as it should be, and return the line.

    Exit code 2, one line of stderr that begins "error: " and has the words, and no file more or less than before.
    """
    assert result.code == 2, f"exit code {result.code}\n{result.err}"
    lines = result.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.err
    for word in words:
        assert word in lines[0], f"'{word}' is not in: {lines[0]}"
    assert result.after == result.before, sorted(result.after ^ result.before)
    return lines[0]


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripts]:
    """One fork server for a session's tests; a conftest imports it."""
    running = Scripts(tmp_path_factory.mktemp("scripts"))
    yield running
    running.close()
