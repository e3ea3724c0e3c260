"""What a `.conf` file says of its workers, as options of a Ray job."""

from __future__ import annotations

import itertools
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
    """What a worker takes, as the option of the job has it; `device` and `accelerate_mode` may add a GPU."""
    given = training.resources_per_worker
    try:
        resources = read_resources(json.dumps(given or {}))
    except UserError as error:
        fault = str(error).removeprefix("--resources_per_worker: ")
        raise BadKey("Training.resources_per_worker", f"'Training.resources_per_worker': {fault}") from error
    named = any(name.lower() == "gpu" for name in given or {})
    words = {
        "device": _gpu_of_device(training),
        "accelerate_mode": _gpu_of_mode(training),
        "resources_per_worker": bool(resources["GPU"]) if named else None,
    }
    resources["GPU"] = float(_agreed({name: gpu for name, gpu in words.items() if gpu is not None}))
    asked = {name: amount for name, amount in resources.items() if amount or name == "CPU"}
    return json.dumps(asked) if given is not None or resources["GPU"] else None


def _agreed(words: dict[str, bool]) -> bool:
    """Whether a worker takes a GPU, as every key that speaks of it says. Raises: BadKey for two that differ."""
    for (name, gpu), (other, its) in itertools.pairwise(words.items()):
        if gpu != its:
            kinds = {True: "GPU", False: "CPU"}
            raise BadKey(
                f"Training.{name}",
                f"'Training.{name}' says {kinds[gpu]}, and 'Training.{other}' says {kinds[its]}: change one of them",
            )
    return any(words.values())


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
