"""What the machine lacks: a network, devices, room on the disk, permission to write."""

from __future__ import annotations

import os
from pathlib import Path

from case import Case, Spoil
from harness import JUDGE, PPO, REWARD, SFT

# A network on which the hub does not answer.
NO_HUB = """
import datasets.config
from huggingface_hub import constants
constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = False
constants.ENDPOINT = datasets.config.HF_ENDPOINT = "http://127.0.0.1:9"
"""
TWO_GPUS = """
import torch
torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 2
"""
FOUR_RANKS = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}
SMALL_DISK = """
import shutil, types
shutil.disk_usage = lambda path: types.SimpleNamespace(total=10**12, used=10**12 - 10**5, free=10**5)
"""
# Root may write everywhere; without its rights it is held to the permissions of what it owns, like anyone.
NO_RIGHTS = """
import ctypes
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0
"""
# Another run has the folder, as the system says it (tests/trlx/utils/test_lock.py has two real processes).
IN_USE = """
import types
from trlx.utils import lock
def taken(*_):
    raise BlockingIOError
lock.fcntl = types.SimpleNamespace(flock=taken, LOCK_EX=2, LOCK_NB=4)
"""
AS_ANYONE = NO_RIGHTS if os.geteuid() == 0 else ""


def given(*options: str) -> Spoil:
    return lambda root, work: list(options)


def closed(*options: str) -> Spoil:
    """The options end in a folder below one that cannot be written."""

    def spoil(root: Path, work: Path) -> list[str]:
        (work / "closed").mkdir(mode=0o555)
        return [*options, f"{work}/closed/out"]

    return spoil


def with_lock_file(root: Path, work: Path) -> list[str]:
    (root / ".new.lock").touch()
    return []


def closed_root(root: Path, work: Path) -> list[str]:
    root.chmod(0o555)
    return []


HUB_MODEL = ("EleutherAI/gpt-neo-125M", "hub cannot be reached", "name a folder on this machine")
HUB_DATA = ("CarperAI/openai_summarize_tldr", "no hub can be reached", "--data FOLDER_OR_FILE")
MODEL, DATA = HUB_MODEL[0], HUB_DATA[0]
ROOM = ("4 checkpoints of this stage will take about", "0.1 MB are free", "choose another --root or --out")
DENIED = ("closed: cannot write here (Permission denied)", "choose another")

CASES = [
    Case("no-hub", SFT, given("--model", MODEL), (*HUB_MODEL, "--model FOLDER"), NO_HUB),
    Case("hub-forbidden", REWARD, given("--model", MODEL), HUB_MODEL),
    Case("no-hub-for-ppo", PPO, given("--model.model_path", MODEL), (*HUB_MODEL, "model.model_path FOLDER"), NO_HUB),
    Case("no-hub-for-the-evaluation", JUDGE, given("--models", f"sft,base={MODEL}"), HUB_MODEL, NO_HUB),
    Case("no-hub-for-data", SFT, given("--data", DATA), HUB_DATA, NO_HUB),
    Case("no-hub-for-data-of-ppo", PPO, given("--data", DATA), HUB_DATA, NO_HUB),
    Case(
        "fewer-devices",
        JUDGE,
        given("--policy_device", "cuda:1"),
        ("no device 'cuda:1' here (0 GPUs)", "leave the option out"),
    ),
    Case(
        "fewer-devices-than-ranks",
        SFT,
        given(),
        ("4 processes were asked for on a machine with 2 GPUs", "lower --num_processes"),
        TWO_GPUS,
        FOUR_RANKS,
    ),
    Case("fewer-devices-than-ranks-of-ppo", PPO, given(), ("4 processes", "2 GPUs"), TWO_GPUS, FOUR_RANKS),
    Case("too-little-disk", SFT, given(), ROOM, SMALL_DISK),
    Case("too-little-disk-for-pairs", REWARD, given(), ROOM, SMALL_DISK),
    Case("too-little-disk-for-ppo", PPO, given(), ("checkpoints of this run", "--train.keep_checkpoints"), SMALL_DISK),
    Case("read-only-output", SFT, closed("--out"), DENIED, AS_ANYONE),
    Case("read-only-output-of-pairs", REWARD, closed("--out"), DENIED, AS_ANYONE),
    Case("read-only-output-of-ppo", PPO, closed("--train.checkpoint_dir"), DENIED, AS_ANYONE),
    Case("read-only-output-of-the-evaluation", JUDGE, closed_root, ("cannot write here", "--root"), AS_ANYONE),
    Case(
        "read-only-output-of-a-base",
        "-m tasks.scratch_model",
        lambda root, work: ["--data", f"{root}/data/sft", *closed("--out")(root, work)],
        DENIED,
        AS_ANYONE,
    ),
    Case(
        "read-only-output-to-convert",
        "-m tasks convert",
        lambda root, work: [
            "--data",
            f"{root}/data/sft",
            "--to",
            "trl-completions",
            *closed("--out")(root, work),
        ],
        ("closed", "Permission denied"),
        AS_ANYONE,
    ),
    Case("folder-in-use", SFT, with_lock_file, ("another run is writing here", "--root or --out"), IN_USE),
    Case("folder-in-use-by-ppo", PPO, with_lock_file, ("another run is writing here", "--root or --out"), IN_USE),
    Case("no-hub-to-inspect", "-m tasks inspect", given(DATA), HUB_DATA, NO_HUB),
]
