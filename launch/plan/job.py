"""A stage under a setting: its passes are counted once for each precision and then put together in any setting."""

from __future__ import annotations

import functools
from typing import Any

from launch.plan.counting import Trained
from launch.plan.fleet import Fleet
from launch.plan.memory import (
    DEFAULT_BUCKET,
    SMALL_BUCKET,
    Phase,
    PPOSizes,
    Setting,
    StageMemory,
    alive_parts,
    evaluating_phase,
    evaluation_phases,
    finished_phase,
    ppo_phases,
    training_phases,
    writing,
)
from launch.plan.options import PlanOptions
from launch.plan.passes import trace_ppo, trace_reward, trace_scoring, trace_sft, trace_writing
from launch.plan.shapes import on_shapes
from launch.plan.sources import config_of
from trlx.utils.blocks import count_layers
from trlx.utils.errors import UserError
from trlx.utils.pretrained import require_positions


class Job:
    """The stages of one plan.

    Attributes:
        notes: on where configs are from. precision: of the passes.
    """

    def __init__(self, options: PlanOptions, fleet: Fleet):
        self.options, self.fleet = options, fleet
        self.precision = options.precision
        if options.precision == "auto":
            self.precision = "bf16" if fleet.gpu else "fp32"
        if self.precision == "fp16" and not fleet.gpu:
            raise UserError("--precision fp16 is not for CPUs: take fp32 or bf16")
        notes = []
        for name in ("policy", "reward"):
            config, note = config_of(getattr(options, name), f"--{name}")
            require_positions(config, options.max_length, "--max_length")
            notes.append(note)
        layers, unfrozen = count_layers(self.config("policy")), options.num_layers_unfrozen
        if not -1 <= unfrozen <= layers:
            raise UserError(f"--num_layers_unfrozen {unfrozen}: {options.policy} has {layers} layers, -1 means all")
        self.notes = [note for note in notes if note]

    def config(self, name: str) -> Any:
        """A fresh config of the policy or the reward model."""
        return config_of(getattr(self.options, name), f"--{name}")[0]

    def memory(self, stage: str, setting: Setting) -> StageMemory:
        """Bytes of every phase."""
        options = self.options
        if stage in ("sft", "reward_model"):
            trained = self.sft(setting.autocast) if stage == "sft" else self.reward_training(setting.autocast)
            phases = training_phases(trained, setting, False, SMALL_BUCKET)
            if setting.zero == 3:
                phases += self._evaluating(stage, trained, setting)
        elif stage == "ppo":
            sizes = PPOSizes(options.prompt, options.rollouts, options.chunk, options.ppo_batch, options.reward_batch)
            reward = None if setting.reward_apart else self.scoring
            phases = ppo_phases(self.ppo(setting.autocast), reward, setting, sizes, DEFAULT_BUCKET)
        else:
            sizes = PPOSizes(options.prompt, 0, setting.microbatch, 0, options.reward_batch)
            reward = None if setting.reward_apart else self.scoring
            phases = evaluation_phases(self.writing, reward, setting, sizes)
        return StageMemory(stage, setting, phases)

    def _evaluating(self, stage: str, trained: Trained, setting: Setting) -> list[Phase]:
        """What ZeRO-3 does with whole weights: SFT writes summaries; pairs are scored, at last by the finished one."""
        options, weights = self.options, trained.weights
        if stage == "sft":
            passing = writing(self.writing[1], setting, PPOSizes(options.prompt, 0, options.eval_batch, 0, 0))
            return [evaluating_phase(weights, setting, SMALL_BUCKET, passing)]
        passing = alive_parts(trained.training(checkpointing=True).passing.at(1))  # scoring takes less than training
        finished = finished_phase(weights, self.scoring, setting, SMALL_BUCKET, options.reward_batch)
        return [evaluating_phase(weights, setting, SMALL_BUCKET, passing), finished]

    @functools.cache  # noqa: B019  (a job lives as long as the command)
    def sft(self, autocast: bool) -> Any:
        """Passes of supervised fine-tuning."""
        with on_shapes():
            options = self.options
            config, rows = self.config("policy"), options.sft_batch
            return trace_sft(config, options.max_length, options.response, rows, self.precision, autocast)

    @functools.cache  # noqa: B019
    def reward_training(self, autocast: bool) -> Any:
        """Passes of reward-model training."""
        with on_shapes():
            options = self.options
            config = self.config("reward")
            fraction, pairs = options.frozen_fraction, options.pairs
            return trace_reward(config, options.max_length, fraction, pairs, self.precision, autocast)

    @functools.cache  # noqa: B019
    def ppo(self, autocast: bool) -> Any:
        """Passes of PPO."""
        options = self.options
        critic = self.config("reward") if options.critic == "reward" else None
        with on_shapes():
            return trace_ppo(
                self.config("policy"),
                critic,
                options.prompt,
                options.response,
                options.num_layers_unfrozen,
                options.ppo_batch,
                options.chunk,
                self.precision,
                autocast,
                slices=not self.fleet.gpu,
            )

    @functools.cached_property
    def scoring(self) -> Any:
        """The reward model's weights and its pass, float32 as it is loaded by default."""
        with on_shapes():
            options = self.options
            return trace_scoring(self.config("reward"), options.max_length, options.reward_batch, "fp32")

    @functools.cached_property
    def writing(self) -> Any:
        """A judged policy's weights and passes."""
        with on_shapes():
            options, slices = self.options, not self.fleet.gpu
            rows, config = options.eval_batch, self.config("policy")
            return trace_writing(config, options.prompt, options.response, rows, self.precision, slices)
