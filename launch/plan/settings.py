"""Which settings there are for a stage, which of them fit, and which of those is the fastest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from launch.plan.fleet import Fleet
from launch.plan.job import Job
from launch.plan.memory import Setting, StageMemory
from launch.plan.speed import Speed, thousand_samples
from trlx.utils.disk import gigabytes

# What to do about the part that takes most.
REMEDIES = {
    "weights": "take a smaller model or more devices (ZeRO-3 cuts the weights up)",
    "reference": "let fewer layers train (--num_layers_unfrozen): the reference copies those",
    "critic": "take --critic head, or a smaller reward model",
    "reward model": "take a smaller reward model, or one device more, which it has for itself",
    "masters": "take more devices, more host memory for offloading, or let fewer layers train",
    "optimizer": "take more devices, more host memory for offloading, or let fewer layers train",
    "gradients": "take more devices, or let fewer layers train",
    "buffers": "take larger devices: ZeRO's buffer of 5·10⁸ numbers is as large for a small model",
    "activations": "lower --max_length, or the rows at once (--chunk, --reward_batch, --eval_batch)",
    "logits": "lower --response, or the rows at once (--chunk)",
    "keys and values": "lower the rows written at once (--chunk, --eval_batch) or --max_length",
    "trunk kept": "lower --rollouts",
}


@dataclass(frozen=True)
class Choice:
    """A setting with what it needs and takes.

    Args:
        seconds: of a thousand samples. fits: on the devices and in the host's memory.
    """

    memory: StageMemory
    seconds: float
    fits: bool

    @property
    def setting(self) -> Setting:
        """How the stage is run."""
        return self.memory.setting


def settings_of(stage: str, job: Job) -> Iterator[Setting]:
    """Every setting worth trying, the largest microbatch of each first."""
    fleet, options = job.fleet, job.options
    base = Setting(precision=job.precision, gpu=fleet.gpu)
    if stage == "evaluation":
        for rows in _divisors(options.eval_batch):
            yield dataclasses.replace(base, microbatch=rows, reward_apart=fleet.gpu and fleet.devices > 1)
        return
    batch = {"sft": options.sft_batch, "reward_model": options.pairs, "ppo": options.ppo_batch}[stage]
    for ranks, apart in _ranks(stage, fleet):
        for zero, offload in _engines(fleet, ranks):
            for checkpointing in (False, True):
                for rows in _divisors(batch):
                    kind = Setting(zero, offload, checkpointing, rows, batch // rows, ranks, apart)
                    yield dataclasses.replace(kind, precision=base.precision, gpu=base.gpu)


def _ranks(stage: str, fleet: Fleet) -> list[tuple[int, bool]]:
    """(ranks that train, whether the reward model has a device for itself)."""
    shared = [(fleet.devices, False)]
    return [*shared, (fleet.devices - 1, True)] if stage == "ppo" and fleet.gpu and fleet.devices > 1 else shared


def _engines(fleet: Fleet, ranks: int) -> list[tuple[int, bool]]:
    """(ZeRO's stage, offload): on one rank ZeRO cuts nothing up."""
    engines = [(0, False)]
    if ranks > 1 or fleet.gpu:
        engines.append((2, False))
    if fleet.gpu:
        engines.append((2, True))
    if ranks > 1:
        engines += [(3, False), *([(3, True)] if fleet.gpu else [])]
    return engines


def _divisors(batch: int) -> list[int]:
    return [rows for rows in range(batch, 0, -1) if batch % rows == 0]


def choices_of(stage: str, job: Job, speed: Speed) -> list[Choice]:
    """A choice for each way of running a stage, fastest first: its fastest microbatch that fits, or its smallest."""
    best: dict[tuple[object, ...], Choice] = {}
    for setting in settings_of(stage, job):
        memory = job.memory(stage, setting)
        choice = Choice(memory, thousand_samples(job, stage, setting, speed), fits(memory, job.fleet))
        key = (setting.zero, setting.offload, setting.checkpointing, setting.ranks)
        there = best.get(key)
        if there is None or not there.fits or (choice.fits and choice.seconds < there.seconds):
            best[key] = choice
    return sorted(best.values(), key=lambda choice: choice.seconds)


def fits(memory: StageMemory, fleet: Fleet) -> bool:
    """Whether the worst phase fits a device, and all ranks' offloaded tensors the host."""
    return memory.worst.bytes <= fleet.usable and memory.host <= fleet.host_usable


def proposal(choices: list[Choice]) -> Choice | None:
    """The fastest that fits."""
    return next((choice for choice in choices if choice.fits), None)


def nearest_miss(choices: list[Choice], fleet: Fleet) -> tuple[Choice, str]:
    """The setting that lacks least, and what it lacks with the remedy, on one line."""
    missing = min(choices, key=lambda choice: max(_excess(choice, fleet)))
    worst = missing.memory.worst
    device, host = _excess(missing, fleet)
    if host > device:
        lacks = f"{gigabytes(missing.memory.host)} of host memory where {gigabytes(fleet.host_usable)} can be had"
        return missing, f"{lacks}: give more with --host_memory, or take more devices"
    part = max(worst.parts, key=lambda name: worst.parts[name])
    lacks = f"{gigabytes(worst.bytes)} in '{worst.name}' where {gigabytes(fleet.usable)} can be had"
    return missing, f"{lacks}, most of it {part} ({gigabytes(worst.parts[part])}): {REMEDIES[part]}"


def _excess(choice: Choice, fleet: Fleet) -> tuple[float, float]:
    """(of the device, of the host): needed ÷ usable."""
    return choice.memory.worst.bytes / fleet.usable, choice.memory.host / max(fleet.host_usable, 1)
