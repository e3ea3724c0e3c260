"""Proximal policy optimisation with a KL penalty to a frozen reference.

`batches` and `make_experience` are the algorithm; `loss` is the objective.

Left out: dense rewards, separate critics, value branches, adapters, early stopping by KL.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from trlx.data.configs import TRLConfig
from trlx.data.method_configs import PPOConfig
from trlx.data.rollout import Rollouts
from trlx.functional.advantages import gae
from trlx.functional.kl import k3, kl_shaped_rewards, update_kl_coef
from trlx.functional.masking import masked_moments, masked_sum, mean_and_variance, whiten
from trlx.functional.ppo import explained_variance, policy_loss_sum, value_loss_sum
from trlx.generation.sampling import Generated, check_gen_kwargs
from trlx.models.policy import CausalLMPolicy
from trlx.pipeline.offline_pipeline import PromptPipeline
from trlx.pipeline.sampler import PromptSampler
from trlx.trainer import register_trainer
from trlx.trainer.accelerate_base_trainer import AccelerateRLTrainer
from trlx.trainer.engine import synchronise
from trlx.trainer.rollout import RolloutCollector
from trlx.trainer.token_stats import TokenStats
from trlx.utils.errors import UserError

# How far the first pass over fresh rollouts may be from them: |log ratio|, mean over tokens. The rows are the same but
# batched differently; 16-bit arithmetic makes that visible.
RATIO_TOLERANCE = {"no": 1e-4, "bf16": 5e-2, "fp16": 1e-2}
# The reference runs the same rows in the same batch with the same weights: at the start the KL is this close to 0.
KL_TOLERANCE = 1e-5


@register_trainer
class AcceleratePPOTrainer(AccelerateRLTrainer):
    """PPO. Attributes people read besides the base's: kl_coef, mean_kl, rollouts, collector."""

    model: CausalLMPolicy

    def __init__(self, config: TRLConfig, **options: Any):
        if not isinstance(config.method, PPOConfig):
            raise UserError(f"AcceleratePPOTrainer needs method.name PPOConfig, not {config.method.name}")
        super().__init__(config, **options)
        if self.reward_fn is None:
            raise UserError("PPO needs a reward_fn")
        check_gen_kwargs(self.gen_kwargs)
        check_gen_kwargs(self.experience_kwargs)
        self.kl_coef, self.mean_kl = self.method.init_kl_coef, 0.0
        self.rollouts: Rollouts | None = None
        self.collector: RolloutCollector | None = None
        self.phase = self.inner_epoch = self.batch_index = 0

    @property
    def method(self) -> PPOConfig:
        """The method's settings."""
        return self.config.method  # type: ignore[return-value]

    @property
    def policy(self) -> PreTrainedModel:
        return self.model.base_model

    @property
    def experience_kwargs(self) -> dict[str, Any]:
        """Generation options of rollouts."""
        return self.method.gen_experience_kwargs or self.method.gen_kwargs

    @property
    def temperature(self) -> float:
        """Of the distribution that rollouts are sampled from."""
        return float(self.experience_kwargs.get("temperature") or 1.0)

    @property
    def eval_batch_size(self) -> int:
        return self.method.chunk_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over a phase's rollouts."""
        per_rank = math.ceil(self.method.num_rollouts / self.method.chunk_size) * self.method.chunk_size
        return math.ceil(per_rank / self.config.train.batch_size)

    def get_arch(self, config: TRLConfig) -> CausalLMPolicy:
        if self.method.num_value_layers_unfrozen:
            raise UserError("method.num_value_layers_unfrozen is not available yet: leave it at 0")
        return CausalLMPolicy(self.load_base_model(), config.model.num_layers_unfrozen, self.method.cache_trunk)

    def add_prompt_pipeline(self, pipeline: PromptPipeline) -> None:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        sampler = PromptSampler(len(pipeline), self.config.train.seed, rank, world)
        self.collector = RolloutCollector(
            self.accelerator,
            self.engine,
            self.tokenizer,
            self.method,
            self.reward_fn,  # type: ignore[arg-type]
            pipeline,
            sampler,
            self.generate_experience,
            self.temperature,
        )
        planned = self.config.train.epochs * self.method.ppo_epochs * self.steps_per_epoch
        self.total_steps = min(self.config.train.total_steps, planned)

    def generate_experience(self, input_ids: Tensor, attention_mask: Tensor) -> Generated:
        """Continue prompts with the settings of rollouts, keeping the log-probabilities seen while sampling."""
        return self._continue(input_ids, attention_mask, self.experience_kwargs, with_logprobs=True)

    def batches(self) -> Iterator[list[Rollouts]]:
        """The algorithm: collect, train several passes, adapt the KL coefficient, again."""
        while self.phase < self.config.train.epochs:
            if self.rollouts is None:
                self.rollouts = self.make_experience(self.method.num_rollouts, self.iter_count)
                self.inner_epoch = self.batch_index = 0
            while self.inner_epoch < self.method.ppo_epochs:
                for index, batch in enumerate(self._one_pass(self.rollouts)):
                    if index >= self.batch_index:  # a resumed run skips what it has done
                        self.batch_index = index + 1
                        yield batch
                self.inner_epoch, self.batch_index = self.inner_epoch + 1, 0
            samples = len(self.rollouts) * self.accelerator.num_processes
            self.kl_coef = update_kl_coef(
                self.kl_coef, self.mean_kl, self.method.target, self.method.horizon, n=samples
            )
            self.rollouts, self.phase = None, self.phase + 1

    def make_experience(self, num_rollouts: int, iter_count: int = 0) -> Rollouts:
        """A phase's rollouts, with rewards, returns and advantages.

        Args:
            num_rollouts: of this rank, at least. iter_count: the step to log under.
        """
        if self.collector is None:
            raise UserError("there are no prompts to roll out: call add_prompt_pipeline first")
        r, stats, texts = self.collector.collect(num_rollouts)
        mask = r.response_mask
        r.rewards, kl = kl_shaped_rewards(r.scores, r.logprobs, r.ref_logprobs, mask, self.kl_coef)
        advantages, returns = gae(r.rewards, r.values, mask, self.method.gamma, self.method.lam)
        moments = self.accelerator.reduce(torch.stack(masked_moments(advantages, mask)), "sum")
        r.advantages, r.returns = whiten(advantages, mask, *mean_and_variance(*moments)), returns
        stats |= self._phase_statistics(kl, returns, r)
        self.tracker.log(stats, iter_count)
        if self.config.train.rollout_logging_dir is not None:
            self._export(texts, r)
        return r

    def _one_pass(self, rollouts: Rollouts) -> Iterator[list[Rollouts]]:
        """One shuffled pass; the order depends on seed, phase, pass and rank alone, so it can be replayed."""
        key = [self.config.train.seed, self.phase, self.inner_epoch, self.accelerator.process_index]
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        return rollouts.batches(self.steps_per_epoch, self.n_minibatches, generator)

    def train_step(self, batch: list[Rollouts]) -> dict[str, float]:
        """One optimizer step over microbatches whose loss shares add up to the mean over all ranks' real tokens."""
        tokens = torch.stack([part.response_mask.sum() for part in batch]).sum()
        total = self.accelerator.reduce(tokens, "sum").clamp(min=1)
        collected = TokenStats()
        clock = {"forward": 0.0}
        start = time.perf_counter()

        def share(part: Rollouts) -> Tensor:
            before = time.perf_counter()
            loss = self.loss(part, collected) / total
            synchronise(self.accelerator.device)
            clock["forward"] += time.perf_counter() - before
            return loss

        rates = [float(rate) for rate in self.scheduler.get_last_lr()]  # those that this step uses
        self.engine.model.train()  # every dropout is 0; this lets gradient checkpointing work
        norm = self.engine.optimizer_step(batch, share)
        synchronise(self.accelerator.device)
        backward = time.perf_counter() - start - clock["forward"]
        stats = collected.reduce(self.accelerator, spread=("values", "old_values", "returns"))
        self._check_start(stats)
        width = sum(part.response_mask.numel() for part in batch)
        return {
            **stats,
            "losses/total_loss": stats["losses/policy_loss"] + self.method.vf_coef * stats["losses/value_loss"],
            "gradient_norm": norm,
            "padding_percentage": 1.0 - tokens.item() / width,
            "time/forward": clock["forward"],
            "time/backward": backward,
            **{f"learning_rate_group_{i}": rate for i, rate in enumerate(rates)},
        }

    def loss(self, part: Rollouts, collected: TokenStats) -> Tensor:
        """Sum over a microbatch's real tokens of the clipped policy loss and the weighted clipped value loss."""
        advantages, returns, mask = part.advantages, part.returns, part.response_mask
        if advantages is None or returns is None:
            raise RuntimeError("rollouts are trained on only once their advantages are there")
        output = self.engine.model(
            input_ids=part.input_ids,
            attention_mask=part.attention_mask,
            response_length=part.response.shape[1],
            temperature=self.temperature,
            trunk=part.trunk,
        )
        logprobs, values = output["logprobs"], output["values"]
        policy, ratio, clipped = policy_loss_sum(logprobs, part.logprobs, advantages, mask, self.method.cliprange)
        value, value_clipped = value_loss_sum(values, part.values, returns, mask, self.method.cliprange_value)
        count = mask.sum().clamp(min=1)
        log_ratio = (logprobs - part.logprobs).detach()
        collected.add(
            mask,
            losses__policy_loss=(policy / count).expand_as(values),
            losses__value_loss=(value / count).expand_as(values),
            values=values,
            old_values=part.values,
            returns=returns,
            values__values_error=(values - returns).square(),
            values__values_mape_error=(values - returns).abs() / returns.abs().clamp(min=1e-2),
            values__clipfrac=value_clipped,
            policy__approx_kl=ratio - 1.0 - log_ratio,
            policy__clipfrac=clipped,
            policy__log_ratio_gap=log_ratio.abs(),
            ratio=ratio,
        )
        return policy + self.method.vf_coef * value

    def _phase_statistics(self, kl: Tensor, returns: Tensor, r: Rollouts) -> dict[str, float]:
        """KL to the reference over response tokens, and the critic's fit, all ranks; sets `mean_kl`."""
        mask = r.response_mask
        sums = [
            masked_sum(kl, mask),
            masked_sum(k3(r.logprobs, r.ref_logprobs), mask),
            mask.sum(),
            kl.new_tensor(len(r)),
        ]
        total = self.accelerator.reduce(torch.stack([value.double() for value in sums]), "sum")
        k1_sum, k3_sum, tokens, responses = total.tolist()
        explained = self.accelerator.reduce(explained_variance(r.values, returns, mask), "mean").item()
        self.mean_kl = k1_sum / responses
        if self.iter_count == 0 and abs(self.mean_kl) > KL_TOLERANCE:
            self._doubt(f"policy and reference differ before the first step: KL {self.mean_kl:.2e} nats")
        return {
            "policy/kl": self.mean_kl,
            "policy/kl_k3": k3_sum / responses,
            "policy/sqrt_kl": math.sqrt(max(self.mean_kl, 0.0)),
            "policy/kl_per_token": k1_sum / tokens,
            "values/explained_variance": explained,
            "kl_ctl_value": self.kl_coef,
            "rollout/phase": float(self.phase),
        }

    def _check_start(self, stats: Mapping[str, float]) -> None:
        if self.iter_count > 0:
            return
        tolerance = RATIO_TOLERANCE.get(self.accelerator.mixed_precision, max(RATIO_TOLERANCE.values()))
        gap = stats["policy/log_ratio_gap"]
        if gap > tolerance:
            self._doubt(
                f"before the first step the training pass is {gap:.2e} nats a token away from the rollout pass "
                f"(more than {tolerance:.0e}): this model's forward depends on how rows are batched and padded"
            )

    def _doubt(self, message: str) -> None:
        """A broken invariant: an error in float32, where it is exact; in 16 bit it is watched and said."""
        if self.accelerator.mixed_precision == "no":
            raise RuntimeError(message)
        warnings.warn(message, stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "phase": self.phase,
            "inner_epoch": self.inner_epoch,
            "batch_index": self.batch_index,
            "kl_coef": self.kl_coef,
            "mean_kl": self.mean_kl,
            "collector": self.collector.state_dict() if self.collector else None,
        }

    def rollout_tensors(self) -> dict[str, Tensor] | None:
        return None if self.rollouts is None else self.rollouts.tensors()

    def load_state_dict(self, state: Mapping[str, Any], rollouts: dict[str, Tensor] | None) -> None:
        super().load_state_dict(state, rollouts)
        self.phase, self.inner_epoch, self.batch_index = state["phase"], state["inner_epoch"], state["batch_index"]
        self.kl_coef, self.mean_kl = state["kl_coef"], state["mean_kl"]
        if self.collector is not None and state["collector"] is not None:
            self.collector.load_state_dict(state["collector"])
        self.rollouts = Rollouts(**rollouts).to(self.accelerator.device) if rollouts else None

    def _export(self, texts: list[Any], r: Rollouts) -> None:
        """Write this phase's rollouts of this rank below `rollout_logging_dir`, one JSON line a response."""
        folder = Path(self.config.train.rollout_logging_dir or ".")
        folder.mkdir(parents=True, exist_ok=True)
        kl = masked_sum(r.logprobs - r.ref_logprobs, r.response_mask, dim=1).tolist()
        rows = [row for part in texts for row in zip(part.prompts, part.outputs, strict=True)]
        path = folder / f"phase_{self.phase:05d}_rank_{self.accelerator.process_index}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for (prompt, output), score, nats in zip(rows, r.scores.tolist(), kl, strict=True):
                line = {"prompt": prompt, "output": output, "score": score, "kl": nats, "step": self.iter_count}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
