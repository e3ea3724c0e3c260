"""Seconds of a stage's parts: what its passes do (`effort`), by the rates of one device.

Beside the passes: Adam's bytes, and what ranks and the host send each other. Responses are written a token at a time,
each at the cost of the last one. Left out: data loading, turning ids into texts, logging, evaluation and saving.
"""

from __future__ import annotations

import torch

from launch.plan.calibrate import Rates, calibrate
from launch.plan.counting import Sampling, Trained
from launch.plan.effort import Speed
from launch.plan.job import Job
from launch.plan.memory import ADAM, FLOAT, Setting, rows_read
from launch.plan.shapes import Count
from trlx.utils.errors import UserError

# Where nothing is said or measured. A recent GPU's half precision as training attains it, and one CPU core.
GPU_GUESS = Rates(tflops=60.0, bandwidth=700.0, packed=700.0, moved=700.0, call=5e-6)
CPU_GUESS = Rates(tflops=0.05, bandwidth=6.0, packed=3.0, moved=3.0, call=5e-6)
HOST_BANDWIDTH = 20e9  # bytes a second of the CPU's Adam
CLIPPING = 3 * FLOAT  # bytes a weight: the norm reads gradients, clipping reads and writes them
FUSED = 7 * FLOAT  # Adam in one pass: weight, gradient and two moments read, all but the gradient written
# Adam an operation at a time, as torch spells it out: decay, two moments of which the second takes two operations, its
# root divided and shifted in two more, and the step.
SPELT_OUT = 20 * FLOAT
PER_THOUSAND = 1000


def speed_of(job: Job) -> Speed:
    """As the options say, as measured here, or a guess. Raises: UserError when there is no such device to measure."""
    options, gpu = job.options, job.fleet.gpu
    rates = GPU_GUESS if gpu else CPU_GUESS
    source = "a guess: --tflops and --bandwidth, or --calibrate on such a machine, make it better"
    if options.calibrate:
        if gpu and not torch.cuda.is_available():
            raise UserError(
                "--calibrate measures this machine, which has no GPU: leave it out, or give --tflops and --bandwidth"
            )
        rates = calibrate("cuda" if gpu else "cpu", job.precision)
        source = f"measured here on {'a GPU' if gpu else 'the CPU'}"
    if options.tflops or options.bandwidth:
        source = "as given" if options.tflops and options.bandwidth else f"partly as given, else {source}"
    tflops, bandwidth = options.tflops or rates.tflops, options.bandwidth or rates.bandwidth
    source = f"{tflops:.3g} TFLOP/s, {bandwidth:.3g} GB/s: {source}"
    share = bandwidth / rates.bandwidth  # the other rates of memory go with it
    return to_speed(
        Rates(tflops, bandwidth, share * rates.packed, share * rates.moved, rates.call), options.link, source
    )


def to_speed(rates: Rates, link: float, source: str) -> Speed:
    """Rates of a device. Args: link: GB a second."""
    memory = rates.bandwidth * 1e9, link * 1e9, source, rates.packed * 1e9, rates.moved * 1e9
    return Speed(rates.tflops * 1e12, *memory, rates.call)


def thousand_samples(job: Job, stage: str, setting: Setting, speed: Speed) -> float:
    """Seconds of a thousand samples (pairs, rollouts with all training on them, summaries), all ranks together."""
    options = job.options
    samples = {
        "evaluation": setting.microbatch,
        "ppo": _chunks(job) * options.chunk * setting.ranks,
    }.get(stage, setting.microbatch * setting.accumulation * setting.ranks)
    return PER_THOUSAND / samples * sum(stage_seconds(job, stage, setting, speed).values())


def stage_seconds(job: Job, stage: str, setting: Setting, speed: Speed) -> dict[str, float]:
    """Seconds by part: of an optimizer step (SFT, reward model), a phase (PPO), a batch of summaries (evaluation)."""
    if stage == "ppo":
        return _ppo_phase(job, setting, speed)
    if stage == "evaluation":
        rows = setting.microbatch
        return {
            "write": write_seconds(job.writing[1], job, setting, rows, speed),
            "score": job.scoring[1].seconds(min(rows, job.options.reward_batch), speed) * _batches(rows, job),
        }
    trained = job.sft(setting.autocast) if stage == "sft" else job.reward_training(setting.autocast)
    return step_seconds(trained, setting, setting.zero > 0, speed)


def _batches(rows: int, job: Job) -> float:
    return max(1.0, rows / job.options.reward_batch)


def step_seconds(trained: Trained, setting: Setting, fused: bool, speed: Speed) -> dict[str, float]:
    """Of one optimizer step. Args: fused: as in `training_phases`."""
    passing = trained.training(setting.checkpointing).passing.seconds(setting.microbatch, speed)
    adding = 3.0 * FLOAT * trained.weights.trained / speed.bandwidth  # onto the gradients that are there
    passes = setting.accumulation * passing + (setting.accumulation - 1) * adding
    return {"passes": passes, "optimizer": _exchange(trained.weights, setting, fused, speed)}


def _exchange(weights: Count, setting: Setting, fused: bool, speed: Speed) -> float:
    """Gradients and weights sent, moments read and written, of one optimizer step."""
    others = (setting.ranks - 1) / setting.ranks
    share = weights.trained / (setting.ranks if setting.zero else 1)
    sent = 2.0 * setting.width * weights.trained * others
    if setting.zero == 3:  # gathered for each forward and backward pass
        sent += 2.0 * setting.width * weights.numbers * setting.accumulation
    if not setting.offload:
        return sent / speed.link + (CLIPPING + (FUSED if fused else SPELT_OUT)) * share / speed.bandwidth
    moved = 2.0 * setting.width * share * (1 if setting.zero == 2 else 2)
    return (sent + moved) / speed.link + (2.0 * ADAM + 3.0 * FLOAT) * share * setting.ranks / HOST_BANDWIDTH


def write_seconds(sampling: Sampling, job: Job, setting: Setting, rows: int, speed: Speed) -> float:
    """Responses to so many prompts: the prompts' pass gives the first token, a step each of the others."""
    options = job.options
    at_once = rows_read(setting.gpu, rows, options.prompt)
    reading = rows / at_once * sampling.read.seconds(at_once, speed)
    return reading + (options.response - 1) * sampling.step.seconds(rows, speed)


def _chunks(job: Job) -> int:
    return -(-job.options.rollouts // job.options.chunk)


def _ppo_phase(job: Job, setting: Setting, speed: Speed) -> dict[str, float]:
    """Rollouts of one rank and all steps on them."""
    options, policy, chunks = job.options, job.ppo(setting.autocast), _chunks(job)
    write = write_seconds(policy.sampling, job, setting, options.chunk, speed)
    if setting.zero == 3:  # weights are gathered once a chunk
        write += policy.trained.weights.tensor_bytes / speed.link
    texts = options.chunk * setting.ranks  # scored by one reward model, for all ranks
    score = job.scoring[1].seconds(min(texts, options.reward_batch), speed) * _batches(texts, job)
    steps = options.ppo_epochs * -(-chunks * options.chunk // options.ppo_batch)
    step = step_seconds(policy.trained, setting, True, speed)
    return {
        "write": chunks * write,
        "score": chunks * score,
        "log-probs": chunks * policy.collect.seconds(options.chunk, speed),
        "updates": steps * sum(step.values()),
    }
