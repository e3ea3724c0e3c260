"""The options of `python -m launch plan`, with the pipeline's own sizes (`configs/*.yaml`) as defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trlx.utils.errors import UserError
from trlx.utils.ranges import AT_LEAST_1, POSITIVE, SHARE, require_ranges

STAGES = ("sft", "reward_model", "ppo", "evaluation")
_COUNTS = (
    *("max_length", "response", "sft_batch", "pairs", "ppo_batch", "chunk", "rollouts", "ppo_epochs"),
    *("eval_batch", "reward_batch"),
)
RANGES = {**dict.fromkeys(_COUNTS, AT_LEAST_1), "frozen_fraction": SHARE}


@dataclass
class PlanOptions:
    """Options of the planner. Batches are those of one rank and optimizer step, as in the stages' own options.

    Args:
        policy: folder or hub id of the model that SFT and PPO train; only its config is read.
        reward: the same of the reward model.
        gpus: COUNTxSIZE, as in 4x24GB or 1x80GB; by default the GPUs of this machine, or its CPU.
        cpus: to plan for CPU processes instead, as in 2x16GB.
        host_memory: of the machine, which offloading may use, as in 256GB; by default this machine's.
        precision: of the passes; auto is bf16 on GPUs and fp32 on CPUs.
        stages: which, separated by commas: sft, reward_model, ppo, evaluation.
        max_length: longest prompt + response in tokens.
        response: tokens of the longest response.
        sft_batch: samples of an SFT step.
        pairs: pairs of a reward model's step.
        frozen_fraction: of the reward model's blocks that do not train; 0 trains its embeddings too.
        ppo_batch: samples of a PPO step.
        num_layers_unfrozen: top blocks of the policy that PPO trains; -1 for all.
        critic: a head on the policy, or a copy of the reward model.
        chunk: responses written at once.
        rollouts: responses of a phase.
        ppo_epochs: passes over a phase's rollouts.
        eval_batch: summaries written at once.
        reward_batch: texts scored at once.
        tflops: what one device attains in large products, in 10¹² operations a second.
        bandwidth: of a device's memory, GB a second.
        link: between devices, and to the host's memory, GB a second.
        calibrate: measure such rates here, on one device, in a few seconds; those that are given stay.
        out: a folder for the accelerate and DeepSpeed files and plan.json.
        require: end with code 2 when a stage does not fit.
    """

    policy: str = "EleutherAI/gpt-neo-1.3B"
    reward: str = "EleutherAI/gpt-neo-125M"
    gpus: str | None = None
    cpus: str | None = None
    host_memory: str | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    stages: str = ",".join(STAGES)
    max_length: int = 550
    response: int = 50
    sft_batch: int = 16
    pairs: int = 4
    frozen_fraction: float = 0.7
    ppo_batch: int = 4
    num_layers_unfrozen: int = 8
    critic: Literal["head", "reward"] = "head"
    chunk: int = 16
    rollouts: int = 128
    ppo_epochs: int = 4
    eval_batch: int = 16
    reward_batch: int = 32
    tflops: float | None = None
    bandwidth: float | None = None
    link: float = 12.0
    calibrate: bool = False
    out: str | None = None
    require: bool = False

    @property
    def prompt(self) -> int:
        """Tokens of the longest prompt."""
        return self.max_length - self.response

    @property
    def chosen(self) -> list[str]:
        """The stages asked for, in the order they run."""
        names = [name.strip() for name in self.stages.split(",")]
        for name in names:
            if name not in STAGES:
                raise UserError(f"--stages: unknown stage '{name}': {', '.join(STAGES)}")
        return [name for name in STAGES if name in names]


def check_options(options: PlanOptions) -> None:
    """Raises: UserError for sizes that make no sense."""
    require_ranges(options, RANGES)
    for name in ("tflops", "bandwidth", "link"):
        if getattr(options, name) is not None:
            require_ranges(options, {name: POSITIVE})
    if options.prompt < 1:
        raise UserError(f"--response {options.response} leaves no room in --max_length {options.max_length}")
    _ = options.chosen
