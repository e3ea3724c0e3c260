"""Seconds of a thousand samples, roughly: good for comparing settings, within a factor of two for a calendar.

Operations are 2 a weight and token in a forward pass, 4 in a backward pass through weights that train, 2 through those
that do not but lie above some that do. Responses are written a token at a time, each reading all weights once:
whichever is longer, memory or arithmetic, counts. Left out: attention's own products, data loading, reading texts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from launch.plan.job import Job
from launch.plan.memory import ADAM, FLOAT, Setting
from launch.plan.shapes import Count

# Where nothing is said or measured. A recent GPU's half precision as training attains it, and one CPU core.
GPU_TFLOPS, GPU_BANDWIDTH = 60.0, 700.0
CPU_TFLOPS, CPU_BANDWIDTH = 0.05, 8.0
HOST_BANDWIDTH = 20e9  # bytes a second of the CPU's Adam
HALF_RATE_TOKENS = 256  # tokens of a pass at which a device reaches half its rate
PER_THOUSAND = 1000


@dataclass(frozen=True)
class Speed:
    """Of one device, per second: operations, bytes of its memory, bytes to other devices and the host.

    Args:
        source: where the first two are from, for people.
    """

    operations: float
    bandwidth: float
    link: float
    source: str

    def compute(self, operations: float, tokens: int) -> float:
        """Seconds of a pass over so many tokens."""
        return operations / self.operations * (1 + HALF_RATE_TOKENS / tokens)


def speed_of(job: Job) -> Speed:
    """As the options say, as measured here, or a guess."""
    options, gpu = job.options, job.fleet.gpu
    tflops, bandwidth = (GPU_TFLOPS, GPU_BANDWIDTH) if gpu else (CPU_TFLOPS, CPU_BANDWIDTH)
    source = "a guess: --tflops and --bandwidth, or --calibrate on such a machine, make it better"
    if options.calibrate:
        tflops, bandwidth = calibrate(job.precision if torch.cuda.is_available() else "fp32")
        device = "a GPU" if torch.cuda.is_available() else "the CPU"
        source = f"measured here on {device}"
    if options.tflops or options.bandwidth:
        source = "as given" if options.tflops and options.bandwidth else f"partly as given, else {source}"
    tflops, bandwidth = options.tflops or tflops, options.bandwidth or bandwidth
    return Speed(
        tflops * 1e12, bandwidth * 1e9, options.link * 1e9, f"{tflops:.3g} TFLOP/s, {bandwidth:.3g} GB/s: {source}"
    )


def calibrate(precision: str, seconds: float = 0.5) -> tuple[float, float]:
    """(TFLOP/s of a large product, GB/s read from memory by a matrix and one vector), on the first GPU or the CPU."""
    cuda = torch.cuda.is_available()
    device, dtype = ("cuda" if cuda else "cpu"), (torch.float32 if precision == "fp32" else torch.bfloat16)
    size = 8192 if cuda else 1024
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    product = _each(lambda: matrix @ matrix, cuda, seconds)
    wide = torch.randn(4 * size, 4 * size, device=device, dtype=dtype)
    vector = torch.randn(4 * size, 1, device=device, dtype=dtype)
    reading = _each(lambda: wide @ vector, cuda, seconds)
    return 2 * size**3 / product / 1e12, wide.nbytes / reading / 1e9


def _each(work: object, cuda: bool, seconds: float) -> float:
    assert callable(work)
    work()
    began, rounds = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work()
        if cuda:
            torch.cuda.synchronize()
        rounds += 1
    return (time.perf_counter() - began) / rounds


def thousand_samples(job: Job, stage: str, setting: Setting, speed: Speed) -> float:
    """Seconds of a thousand samples (pairs, rollouts with all training on them, summaries), all ranks together."""
    options = job.options
    if stage == "evaluation":
        return PER_THOUSAND / setting.microbatch * _write(job, job.writing[0], setting.microbatch, speed)
    if stage == "ppo":
        return PER_THOUSAND / (options.rollouts * setting.ranks) * _ppo_phase(job, setting, speed)
    pair = 2 if stage == "reward_model" else 1
    trained = job.sft(setting.autocast) if stage == "sft" else job.reward_training(setting.autocast)
    batch = setting.microbatch * setting.accumulation
    tokens = pair * options.max_length
    seconds = _step(trained.weights, trained.weights.trained, tokens, setting, speed)
    return PER_THOUSAND / (batch * setting.ranks) * seconds


def _step(weights: Count, trained: int, tokens: int, setting: Setting, speed: Speed) -> float:
    """One optimizer step, over rows of so many tokens."""
    rows = setting.microbatch * setting.accumulation * tokens
    forward = 2.0 * weights.numbers
    operations = (forward * (2 if setting.checkpointing else 1) + 4.0 * trained) * rows
    return speed.compute(operations, setting.microbatch * tokens) + _exchange(weights, setting, speed)


def _exchange(weights: Count, setting: Setting, speed: Speed) -> float:
    """Gradients and weights sent, moments read and written, of one optimizer step."""
    others = (setting.ranks - 1) / setting.ranks
    share = weights.trained / (setting.ranks if setting.zero else 1)
    sent = 2.0 * setting.width * weights.trained * others
    if setting.zero == 3:  # gathered for each forward and backward pass
        sent += 2.0 * setting.width * weights.numbers * setting.accumulation
    adam = 2.0 * (ADAM + FLOAT) * share + FLOAT * share
    if not setting.offload:
        return sent / speed.link + adam / speed.bandwidth
    moved = 2.0 * setting.width * share * (1 if setting.zero == 2 else 2)
    return (sent + moved) / speed.link + adam * setting.ranks / HOST_BANDWIDTH


def _write(job: Job, weights: Count, rows: int, speed: Speed) -> float:
    """Responses to so many prompts."""
    options = job.options
    reading = weights.tensor_bytes / speed.bandwidth
    token = max(reading, speed.compute(2.0 * weights.numbers * rows, rows * HALF_RATE_TOKENS))
    prompts = rows * options.prompt
    return speed.compute(2.0 * weights.numbers * prompts, prompts) + options.response * token


def _ppo_phase(job: Job, setting: Setting, speed: Speed) -> float:
    """Rollouts of one rank and all steps on them."""
    options, policy = job.options, job.ppo(setting.autocast)
    weights, rows = policy.trained.weights, options.rollouts
    tokens = rows * options.max_length
    chunks = -(-rows // options.chunk)
    seconds = chunks * _write(job, weights, options.chunk, speed)
    scored = tokens * setting.ranks  # by one reward model, for all ranks
    seconds += speed.compute(2.0 * job.scoring[0].numbers * scored, options.reward_batch * options.max_length)
    top = _above_trunk(weights, policy.trunk_row)
    seconds += speed.compute(2.0 * 2.0 * top * tokens, options.chunk * options.max_length)
    steps = options.ppo_epochs * -(-rows // options.ppo_batch)
    unlike = Count(top, top, weights.tensor_bytes, 0)
    row = _step(unlike, weights.trained, options.max_length, setting, speed)
    return seconds + steps * (row - _exchange(unlike, setting, speed) + _exchange(weights, setting, speed))


def _above_trunk(weights: Count, trunk_row: int) -> int:
    """Weights that a pass runs: those that train where the trunk's output is kept, else all."""
    return weights.trained if trunk_row else weights.numbers
