"""A disk that fills up while a stage trains, and what the readers take without a word.

What was written before stays whole, and the run goes on from it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from case import options_of
from harness import PPO, SFT, Result, Scripts
from tiny_stage import posts

from launch.checks import ppo_checkpoint_bytes, stage_checkpoint_bytes
from launch.outputs import last_whole_checkpoint
from trlx.data.default_configs import default_ppo_config
from trlx.utils.disk import size_of
from trlx.utils.pretrained import meta_model

FOUR_STEPS = ["--max_steps", "4", "--batch_size", "2", "--save_steps", "1", "--eval_steps", "4", "--rouge_samples", "0"]
# The second checkpoint's weights find the disk full, as safetensors says it.
FULL_AT_THE_SECOND = """
import transformers.modeling_utils as library
from safetensors import SafetensorError
write, calls = library.safe_save_file, []
def write_or_not(*arguments, **keywords):
    calls.append(1)
    if len(calls) == 2:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    return write(*arguments, **keywords)
library.safe_save_file = write_or_not
"""
# A disk of its own of SIZE bytes at FOLDER, which the check before the run is told to be large; at the end the names
# of what is whole on it go to REPORT. Exit code 77 where this system allows no such thing.
SMALL_DISK = """
import atexit, ctypes, json, os, pathlib, shutil, types
library, user, group = ctypes.CDLL(None), os.getuid(), os.getgid()
pathlib.Path("FOLDER").mkdir()
if library.unshare(0x10020000):  # a user's and a mount namespace
    os._exit(77)
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
    pathlib.Path("/proc/self", name).write_text(text)
if library.mount(b"none", b"FOLDER", b"tmpfs", 0, b"size=SIZE"):
    os._exit(77)
shutil.disk_usage = lambda path: types.SimpleNamespace(total=10**12, used=0, free=10**12)
@atexit.register
def report():
    folder = pathlib.Path("FOLDER")
    whole = [path for path in folder.glob("*/*.json") if path.name in ("manifest.json", "trainer_state.json")]
    kept = {path.parent.name: sum(f.stat().st_size for f in path.parent.rglob("*") if f.is_file()) for path in whole}
    pathlib.Path("REPORT").write_text(json.dumps(kept))
"""
FIRST = {SFT: "checkpoint-1", PPO: "checkpoint_1"}
FULL = "No space left on device: free some space there, or write elsewhere (--root, --out)"


def said(result: Result) -> str:
    """The one line among the bars of the training."""
    assert result.code == 2 and "Traceback" not in result.err, result.err
    (line,) = [line for line in result.err.splitlines() if line.startswith("error: ")]
    return line


def test_a_full_disk_leaves_the_last_checkpoint(scripts: Scripts, root: Path) -> None:
    command = [SFT, *options_of(SFT, root), *FOUR_STEPS]
    line = said(scripts.run(root, *command, setup=FULL_AT_THE_SECOND))
    assert line == f"error: {root}/new: {FULL}"
    checkpoint = last_whole_checkpoint(root / "new")
    assert checkpoint is not None and checkpoint.name == "checkpoint-1"
    resumed = scripts.run(root, *command, "--resume")
    assert resumed.code == 0 and "resuming from" in resumed.out, resumed.err
    assert (root / "new" / "config.json").is_file()


@pytest.mark.parametrize("script", [SFT, PPO])
def test_a_disk_that_is_really_full(script: str, scripts: Scripts, root: Path, tmp_path: Path) -> None:
    more = FOUR_STEPS if script == SFT else ["--train.checkpoint_interval", "1", "--train.eval_interval", "4"]
    setup = SMALL_DISK.replace("FOLDER", f"{root}/new").replace("SIZE", "1m").replace("REPORT", f"{tmp_path}/kept")
    result = scripts.run(root, script, *options_of(script, root), *more, setup=setup)
    if result.code == 77:
        pytest.skip("this system allows no disk of one's own")
    assert said(result).startswith(f"error: {root}/new") and said(result).endswith(FULL)
    assert list(json.loads((tmp_path / "kept").read_text())) == [FIRST[script]]


def test_what_is_taken_without_a_word_and_how_large_a_checkpoint_is(
    scripts: Scripts, root: Path, tmp_path: Path
) -> None:
    """A byte-order mark, Windows' line ends, a line end that is missing; a post that cannot fit is counted."""
    rows = [json.dumps(row) for row in posts(6, 11)]
    rows.append(json.dumps({**posts(1, 3)[0], "label": "word " * 400}))
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    options = [*options_of(SFT, root), "--data", str(path), *FOUR_STEPS[2:], "--max_steps", "1"]
    result = scripts.run(root, SFT, *options)
    assert result.code == 0, result.err
    assert "6 training and 6 validation posts; 1 + 1 too long for 200 tokens left out" in result.out
    parameters = sum(weight.numel() for weight in meta_model(root / "base").parameters())
    expected = stage_checkpoint_bytes(parameters, parameters, deepspeed=False, half=False)
    assert expected <= size_of(root / "new" / "checkpoint-1") <= 1.25 * expected


def test_how_large_a_checkpoint_of_ppo_is(scripts: Scripts, root: Path) -> None:
    options = [*options_of(PPO, root), "--train.total_steps", "1"]
    result = scripts.run(root, PPO, *options)
    assert result.code == 0, result.err
    config = default_ppo_config().evolve(model={"model_path": f"{root}/ckpts/sft", "num_layers_unfrozen": 1})
    expected = ppo_checkpoint_bytes(config)
    rollouts = size_of(*(root / "new" / "checkpoint_1").glob("rollouts_*"))
    assert expected <= size_of(root / "new" / "checkpoint_1") - rollouts <= 1.25 * expected
