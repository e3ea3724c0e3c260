"""Bytes of every phase of every stage on one device, part by part: what must fit.

The terms, P weights of which T train on N ranks, w bytes a weight (4, or 2 where DeepSpeed trains in 16 bit):

| part | plain, DDP | ZeRO-2 | ZeRO-3 | because |
|---|---|---|---|---|
| weights | 4P (autocast's copies: activations) | wP | wP/N, and up to 10⁹ gathered | ZeRO-3 cuts them up |
| masters | 0, the weights are float32 | 4T/N | 4T/N | Adam's small steps vanish in 16 bit |
| optimizer | 8T | 8T/N | 8T/N | Adam's two moments, float32 |
| gradients | 4T | wT/N, 4T/N in the step | as ZeRO-2 | ZeRO drops what other ranks own |
| buffers | 4T where there are ranks (DDP's buckets) | w · bucket | w · bucket | gradients are sent in buckets |

With the optimizer offloaded its moments, masters and float32 gradients lie in the host's memory. Activations and logits
are `passes`. PPO adds the frozen reference (copies of what trains), the critic, the trunk's output kept for a phase's
rollouts, the keys and values while responses are written, and on the first device the reward model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from launch.plan.counting import Linear, Sampling, Trained
from launch.plan.passes import PolicyPasses
from launch.plan.shapes import Alive, Count
from trlx.generation.decoding import SLICE_TOKENS

PARTS = (
    *("weights", "reference", "critic", "reward model", "masters", "optimizer", "gradients", "buffers"),
    *("activations", "logits", "keys and values", "trunk kept"),
)
FLOAT = 4
ADAM = 8  # bytes of two float32 moments
GATHERED = 10**9  # DeepSpeed's stage3_max_live_parameters
DEFAULT_BUCKET = 5 * 10**8  # numbers in DeepSpeed's reduce_bucket_size, taken whole however small the model
SMALL_BUCKET = 5 * 10**7  # what the written JSON files ask for


@dataclass(frozen=True)
class Setting:
    """How a stage is run.

    Args:
        zero: DeepSpeed's stage, 2 or 3; 0 is plain PyTorch, DDP on several ranks.
        offload: optimizer, and with ZeRO-3 the weights, in the host's memory.
        checkpointing: activations are computed again in the backward pass.
        microbatch: rows (of a reward model: pairs) of one pass. accumulation: passes of an optimizer step.
        ranks: processes that train. reward_apart: the reward model has a device of its own.
        precision: of the passes: fp32, bf16 or fp16.
        gpu: whether devices are GPUs.
    """

    zero: int = 0
    offload: bool = False
    checkpointing: bool = False
    microbatch: int = 1
    accumulation: int = 1
    ranks: int = 1
    reward_apart: bool = False
    precision: str = "fp32"
    gpu: bool = False

    @property
    def autocast(self) -> bool:
        """Whether weights stay float32 and operations cast them."""
        return self.zero == 0 and self.precision != "fp32"

    @property
    def width(self) -> int:
        """Bytes of a weight in the passes' model."""
        return FLOAT if self.zero == 0 or self.precision == "fp32" else 2


@dataclass(frozen=True)
class Phase:
    """One moment's bytes on a device by part (`PARTS`), and in the host's memory for this rank."""

    name: str
    parts: dict[str, int]
    host: int = 0

    @property
    def bytes(self) -> int:
        """On the device."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class StageMemory:
    """A stage's phases under a setting."""

    stage: str
    setting: Setting
    phases: list[Phase] = field(default_factory=list)

    @property
    def worst(self) -> Phase:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: phase.bytes)

    @property
    def host(self) -> int:
        """Bytes of all ranks in the host's memory."""
        return max(phase.host for phase in self.phases) * self.setting.ranks


def training_phases(
    trained: Trained, setting: Setting, fused: bool, bucket: int, extra: dict[str, int] | None = None
) -> list[Phase]:
    """Forward and backward, and the optimizer's step.

    Args:
        fused: one pass of the optimizer over everything (PPO). Else it takes room for its denominator: on a CPU two
            copies of the largest weight, on a GPU, where it handles all weights at once, of all that train.
        bucket: numbers in ZeRO's buffer. extra: what else lies on the device, by part.
    """
    fixed, host = fixed_parts(trained.weights, setting, bucket)
    fixed = add_parts(fixed, extra or {})
    numbers = trained.weights.trained
    training = trained.training(setting.checkpointing)
    alive = training.passing.at(setting.microbatch)
    if setting.zero == 0:
        step = gradients = FLOAT * numbers
        if setting.accumulation == 1 and training.first is not None:  # none is there when the pass begins
            gradients = max(training.first.at(setting.microbatch).total - alive.total, 0)
    else:
        share = 0 if setting.offload else numbers // setting.ranks
        gradients, step = setting.width * share, FLOAT * share
    scratch = 0
    if setting.zero == 0 and not fused:
        scratch = FLOAT * (numbers if setting.gpu else 2 * trained.largest)
    passing = add_parts(fixed, {"gradients": gradients}, alive_parts(alive))
    stepping = add_parts(fixed, {"gradients": step, "optimizer": scratch})
    return [Phase("forward and backward", passing, host), Phase("optimizer step", stepping, host)]


def fixed_parts(weights: Count, setting: Setting, bucket: int) -> tuple[dict[str, int], int]:
    """(what lies on the device all the time, by part; bytes in the host's memory for this rank)."""
    share = weights.trained if setting.zero == 0 else -(-weights.trained // setting.ranks)
    states = {"masters": 0 if setting.zero == 0 else FLOAT * share, "optimizer": ADAM * share}
    host = sum(states.values()) + FLOAT * share if setting.offload else 0
    parts = {"optimizer": 0, "masters": 0} if setting.offload else dict(states)
    parts["weights"] = weights.bytes
    if not setting.gpu:  # what of the buffer is never written takes no memory there
        bucket = min(bucket, weights.trained)
    if setting.zero == 3:
        own = weights.tensor_bytes // setting.ranks
        parts["weights"] = weights.buffer_bytes + (0 if setting.offload else own)
        parts["buffers"] = min(weights.tensor_bytes, GATHERED * setting.width) + setting.width * bucket
        host += own if setting.offload else 0
    elif setting.zero == 2:
        parts["buffers"] = setting.width * bucket
    else:
        parts["buffers"] = FLOAT * weights.trained if setting.ranks > 1 else 0
    return parts, host


def evaluating_phase(weights: Count, setting: Setting, bucket: int, passing: dict[str, int]) -> Phase:
    """An evaluation between a Trainer stage's steps under ZeRO-3, for which each rank fetches the model whole.

    Args:
        passing: bytes of its passes, by part.
    """
    fixed, host = fixed_parts(weights, setting, bucket)
    fixed["buffers"] += _beyond_gathered(weights, setting)
    return Phase("evaluation", add_parts(fixed, passing), host)


def finished_phase(weights: Count, reward: tuple[Count, Linear], setting: Setting, bucket: int, rows: int) -> Phase:
    """The end of reward model training: beside what trained, each rank scores with the finished model, in float32.

    Args:
        reward: that model, and its pass over texts, of which so many `rows` at once.
    """
    fixed, host = fixed_parts(weights, setting, bucket)
    scoring = {"reward model": reward[0].bytes, **alive_parts(reward[1].at(rows))}
    return Phase("final scores", add_parts(fixed, scoring), host)


def _beyond_gathered(weights: Count, setting: Setting) -> int:
    """What the whole model takes more than the most that ZeRO-3 gathers by itself."""
    return max(weights.tensor_bytes - GATHERED * setting.width, 0)


@dataclass(frozen=True)
class PPOSizes:
    """What a PPO phase is made of; tokens and rows of one rank."""

    prompt: int
    rollouts: int
    chunk: int
    batch: int
    reward_batch: int


def ppo_phases(
    policy: PolicyPasses, reward: tuple[Count, Linear] | None, setting: Setting, sizes: PPOSizes, bucket: int
) -> list[Phase]:
    """Writing responses, scoring them, policy and reference over them, and training.

    Args:
        reward: the reward model where it lies on this device, and its pass over texts.
    """
    ours = {
        "reference": policy.reference.bytes,
        "critic": policy.critic.bytes if setting.zero != 3 else 0,  # cut up with the rest
        "weights": -policy.critic.bytes - policy.reference.bytes if setting.zero != 3 else 0,
        "reward model": reward[0].bytes if reward else 0,
    }
    if setting.zero == 3:
        ours["reference"] = 0
    fixed, host = fixed_parts(policy.trained.weights, setting, bucket)
    fixed = add_parts(fixed, ours)
    if setting.zero == 3:  # gathered whole, once for a phase's rollouts
        fixed["buffers"] += _beyond_gathered(policy.trained.weights, setting)
    chunk, kept = policy.trunk_row * sizes.chunk, policy.trunk_row * sizes.rollouts
    phases = [Phase("rollout: write", add_parts(fixed, writing(policy.sampling, setting, sizes)), host)]
    finish = {"keys and values": policy.sampling.cache_row * sizes.chunk, "trunk kept": chunk}
    phases[0].parts["trunk kept"] = phases[0].parts.get("trunk kept", 0) + kept
    # Once written, the trunk's pieces are put together while the cache is still there.
    phases.append(Phase("rollout: gather", add_parts(fixed, finish, {"trunk kept": kept}), host))
    if reward:
        scoring = alive_parts(reward[1].at(min(sizes.reward_batch, sizes.chunk)))
        phases.append(Phase("rollout: score", add_parts(fixed, {"trunk kept": kept}, scoring), host))
    collecting = alive_parts(policy.collect.at(sizes.chunk))
    phases.append(Phase("rollout: log-probs", add_parts(fixed, {"trunk kept": kept}, collecting), host))
    # A batch's states are put side by side once more.
    during = {**ours, "trunk kept": kept + policy.trunk_row * sizes.batch}
    training = training_phases(policy.trained, setting, True, bucket, during)
    return [*phases, *(Phase(f"train: {phase.name}", phase.parts, phase.host) for phase in training)]


def rows_read(gpu: bool, rows: int, prompt: int) -> int:
    """Prompts of so many tokens that are read at once: on a CPU, slices of `SLICE_TOKENS` tokens."""
    return rows if gpu else min(rows, max(1, SLICE_TOKENS // prompt))


def writing(sampling: Sampling, setting: Setting, sizes: PPOSizes) -> dict[str, int]:
    """Bytes while responses are written: the cache, and the prompts' pass or a token's, whichever is more."""
    rows = rows_read(setting.gpu, sizes.chunk, sizes.prompt)
    alive = max(sampling.read.at(rows), sampling.step.at(sizes.chunk), key=lambda one: one.total)
    return {"keys and values": sampling.cache_row * sizes.chunk, **alive_parts(alive)}


def evaluation_phases(
    policy: tuple[Count, Sampling], reward: tuple[Count, Linear] | None, setting: Setting, sizes: PPOSizes
) -> list[Phase]:
    """Writing summaries with one policy in memory, and scoring them."""
    fixed = {"weights": policy[0].bytes, "reward model": reward[0].bytes if reward else 0}
    phases = [Phase("write", add_parts(fixed, writing(policy[1], setting, sizes)))]
    if reward:
        phases.append(Phase("score", add_parts(fixed, alive_parts(reward[1].at(sizes.reward_batch)))))
    return phases


def alive_parts(alive: Alive) -> dict[str, int]:
    """A pass's bytes by part."""
    return {"logits": alive.logits, "activations": alive.other}


def add_parts(*several: dict[str, int]) -> dict[str, int]:
    """Parts added up by name."""
    return {name: total for name in PARTS if (total := sum(parts.get(name, 0) for parts in several))}
