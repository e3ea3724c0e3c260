"""What lies around the run: the root's disk, the model hub, the compiler that DeepSpeed needs."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from importlib import util
from pathlib import Path
from urllib.parse import urlsplit

from launch.checks import stage_checkpoint_bytes
from launch.doctor.finding import Finding, judge, ok
from launch.local import look_around, stage_environment, without_deepspeed
from trlx.utils.disk import gigabytes, nearest_folder, require_writable
from trlx.utils.hub import reachable
from trlx.utils.pretrained import meta_model

CHECKPOINTS = 4  # of a stage at once: the best, the newest, the one before it, the one being written
COMFORTABLE = 10 * 10**9  # bytes free, where no model tells how many are needed
FLUSHES = 9
SLOW_FLUSH = 0.25  # seconds, beyond which checkpoints of many files take minutes
HUB_PATIENCE = 3.0


def disk_findings(root: str, model: str | None) -> list[Finding]:
    """Room below the root for a stage's checkpoints, and the time of a small flush.

    Args:
        root: need not exist; then the closest folder above it counts. model: that will train; None where unknown.

    Raises: UserError when nothing can be written there, or the model cannot be read.
    """
    require_writable(root, "--root")
    return [_room(nearest_folder(root), model), _flush(nearest_folder(root))]


def _room(folder: Path, model: str | None) -> Finding:
    free = shutil.disk_usage(folder).free
    seen = f"{gigabytes(free)} free in {folder}"
    if model is None:
        return judge(free >= COMFORTABLE, "disk", seen, "checkpoints of a 1B model take 50 GB: free some space", "warn")
    weights = sum(weight.numel() for weight in meta_model(model).parameters())
    needed = CHECKPOINTS * stage_checkpoint_bytes(weights, weights, deepspeed=True, half=False)
    seen += f"; {CHECKPOINTS} checkpoints of {model} take {gigabytes(needed)}"
    return judge(free >= needed, "disk", seen, "free some space there, or choose another --root")


def _flush(folder: Path) -> Finding:
    """The median time that 4 KB take to be on the disk."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FLUSHES):
            begun = time.perf_counter()
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    median = statistics.median(times)
    remedy = "every checkpoint is flushed: a local disk as --root saves that time"
    return judge(median <= SLOW_FLUSH, "flush", f"{1000 * median:.1f} ms for 4 KB to be on the disk", remedy, "warn")


def hub_findings() -> list[Finding]:
    """Whether models and data can be fetched; never more than a warning."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return [ok("hub", "HF_HUB_OFFLINE is set: models and data come from folders and the cache")]
    there = reachable(constants.ENDPOINT, HUB_PATIENCE)
    host = urlsplit(constants.ENDPOINT).hostname  # alone: an address may hold a password
    seen = f"{host} {'answers' if there else 'cannot be reached'}"
    return [judge(there, "hub", seen, "name models and data by folders, or see HF_ENDPOINT and proxies", "warn")]


def deepspeed_findings() -> list[Finding]:
    """Whether the launchers will use DeepSpeed, and whether its operation is compiled."""
    lacking = without_deepspeed()
    if lacking:
        remedy = "stages run as one process; `pip install -e .[deepspeed]` and a C++ compiler bring DeepSpeed"
        return [Finding("warn", "DeepSpeed", lacking, remedy)]
    findings = [ok("DeepSpeed", "installed, with a C++ compiler")]
    if util.find_spec("ninja") is None and shutil.which("ninja") is None:
        findings.append(Finding("warn", "ninja", "not installed", "its operations cannot be built: pip install ninja"))
    return [*findings, _operation()]


def _operation() -> Finding:
    folder = Path(stage_environment(look_around(processes=1))["TORCH_EXTENSIONS_DIR"])
    built = sorted({path.stem for path in folder.glob("**/*.so")}) if folder.is_dir() else []
    seen = f"compiled: {', '.join(built)}" if built else "none compiled yet"
    remedy = "the first start of several processes will wait about a minute, or `python -m launch.build_ops` now"
    return judge(bool(built), "DeepSpeed operations", seen, remedy, "warn")
