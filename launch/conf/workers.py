"""What a `.conf` file says of its workers, as options of a Ray job."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from launch.conf.keys import Workers
from launch.ray_jobs.options import read_resources
from trlx.utils.errors import BadKey, UserError
from trlx.utils.strict import show

Options = dict[str, Any]


def job_options(training: Workers, output_dir: str | None) -> Options:
    """Options of the Ray job: name of `RayOptions` → value. Raises: BadKey."""
    require_positive(training, ("num_training_workers",))
    return said(
        {
            "num_workers": training.num_training_workers,
            "resources_per_worker": _resources(training),
            "storage": None if output_dir is None else str(Path(output_dir) / "ray"),
        }
    )


def _resources(training: Workers) -> str | None:
    """What a worker takes, as the option of the job has it; `device` says whether a GPU is among it."""
    given = training.resources_per_worker
    try:
        resources = read_resources(json.dumps(given or {}))
    except UserError as error:
        fault = str(error).removeprefix("--resources_per_worker: ")
        raise BadKey("Training.resources_per_worker", f"'Training.resources_per_worker': {fault}") from error
    for name, gpu in (("device", _gpu_of_device(training)), ("accelerate_mode", _gpu_of_mode(training))):
        if gpu is None:
            continue
        if not gpu and resources["GPU"]:
            raise BadKey(
                f"Training.{name}",
                f"'Training.{name}' says CPU, and 'Training.resources_per_worker' takes a GPU: change one of them",
            )
        resources["GPU"] = float(gpu)
    asked = {name: amount for name, amount in resources.items() if amount or name == "CPU"}
    return json.dumps(asked) if given is not None or resources["GPU"] else None


def _gpu_of_device(training: Workers) -> bool | None:
    if training.device is None:
        return None
    known = {"cpu": False, "gpu": True, "cuda": True}
    if training.device.lower() not in known:
        raise BadKey("Training.device", f"'Training.device' must be CPU or GPU, not {show(training.device)}")
    return known[training.device.lower()]


def _gpu_of_mode(training: Workers) -> bool | None:
    mode = training.accelerate_mode
    if mode is None:
        return None
    known = {"CPU_DDP": False, "GPU_DDP": True}
    if mode not in known:
        raise BadKey(
            "Training.accelerate_mode",
            f"'Training.accelerate_mode' must be CPU_DDP or GPU_DDP, not {show(mode)}: on Ray every worker has the "
            "whole model; DeepSpeed's sharding is with the `deepspeed` and `accelerate` launchers",
        )
    return known[mode]


def said(options: Options) -> Options:
    """Without those that the file does not say."""
    return {name: value for name, value in options.items() if value is not None}


def require_positive(training: Any, names: tuple[str, ...]) -> None:
    """Raises: BadKey for a key of `Training` that is 0 or below, or infinite."""
    for name in names:
        value = getattr(training, name)
        if value is not None and not 0 < value < math.inf:
            key = f"Training.{name}"
            raise BadKey(key, f"'{key}' must be above 0, not {show(value)}")
