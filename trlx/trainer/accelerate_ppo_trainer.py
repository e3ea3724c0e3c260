"""Proximal policy optimisation with a KL penalty to a frozen reference.

The algorithm, a phase at a time: `make_experience` collects rollouts and their KL-shaped rewards (1, 2), `start_epoch`
derives advantages (3), the base's `batches` trains several passes on `loss` (4), beside that of pretraining texts where
there are some (4b), `post_epoch_callback` adapts the KL coefficient (5).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from trlx.data.configs import TRLConfig
from trlx.data.kl_controllers import make_kl_controller
from trlx.data.limits import require_ptx
from trlx.data.method_configs import PPOConfig
from trlx.data.ppo_types import PPORLBatch, PPORLElement
from trlx.functional.advantages import gae
from trlx.functional.kl import k3, kl_shaped_rewards
from trlx.functional.masking import masked_moments, masked_sum, mean_and_variance, whiten
from trlx.functional.ppo import explained_variance
from trlx.models.modeling_ppo import AutoModelForCausalLMWithHydraValueHead, AutoModelForSeq2SeqLMWithHydraValueHead
from trlx.models.policy import HydraValueHeadModel
from trlx.pipeline.offline_pipeline import PromptBatch, PromptPipeline
from trlx.pipeline.ppo_pipeline import PPORolloutStorage
from trlx.pipeline.sampler import PromptSampler
from trlx.pipeline.text_blocks import pack
from trlx.trainer import register_trainer
from trlx.trainer.accelerate_base_trainer import AccelerateRLTrainer, Loss
from trlx.trainer.ptx import PretrainingLoss
from trlx.trainer.rollout import Chunk, RolloutCollector
from trlx.trainer.rollout_log import RolloutLog
from trlx.trainer.scoring import NotFiniteScores
from trlx.trainer.skipping import SkippedRollouts, all_finite
from trlx.trainer.step import Term
from trlx.utils.errors import UserError
from trlx.utils.logging import tqdm
from trlx.utils.moments import RunningMoments

# How far the first pass over fresh rollouts may be from them: |log ratio|, mean over tokens. The rows are the same but
# batched differently; 16-bit arithmetic makes that visible.
RATIO_TOLERANCE = {"no": 1e-4, "bf16": 5e-2, "fp16": 1e-2}
# The reference runs the same rows in the same batch with the same weights: at the start the KL is this close to 0.
KL_TOLERANCE = 1e-5


@register_trainer
class AcceleratePPOTrainer(AccelerateRLTrainer):
    """PPO. Attributes people read besides the base's: kl_ctl, mean_kl, running_moments, ref_mean, ref_std, ref_model,
    prompt_iterator, store (a `PPORolloutStorage`).
    """

    def __init__(self, config: TRLConfig, *args: Any, **options: Any):
        if not isinstance(config.method, PPOConfig):
            raise UserError(f"{type(self).__name__} needs method.name PPOConfig, not {config.method.name}")
        self.method: PPOConfig = config.method
        super().__init__(config, *args, **options)
        self.method = self.config.method  # type: ignore[assignment]
        tokenizer = self.tokenizer
        self.store = PPORolloutStorage(
            tokenizer.pad_token_id, tokenizer.padding_side, tokenizer.eos_token_id, self.accelerator.device
        )
        self.kl_ctl = make_kl_controller(self.method.init_kl_coef, self.method.target, self.method.horizon)
        self.mean_kl, self.running_moments = 0.0, RunningMoments()
        self.prompt_iterator: Iterator[PromptBatch] | None = None
        self.sampler: PromptSampler | None = None
        self.collector: RolloutCollector | None = None
        self.rollout_log = RolloutLog(self.config, self.accelerator.process_index)
        self.ptx: PretrainingLoss | None = None
        self.skipped_rollouts = SkippedRollouts(self.config.train.max_skipped_steps)

    def get_arch(self, config: TRLConfig) -> HydraValueHeadModel:
        seq2seq = config.model.model_arch_type == "seq2seq"
        kind = AutoModelForSeq2SeqLMWithHydraValueHead if seq2seq else AutoModelForCausalLMWithHydraValueHead
        if config.model.peft_config is not None and config.model.num_layers_unfrozen >= 0:
            warnings.warn("model.num_layers_unfrozen has no effect with peft_config: the adapters train", stacklevel=2)
        model = kind(
            self.load_base_model(),
            num_layers_unfrozen=config.model.num_layers_unfrozen,
            num_value_layers_unfrozen=self.method.num_value_layers_unfrozen,
            critic_path=config.model.critic_path,
            cache_trunk=self.method.cache_trunk,
        )
        if config.model.critic_path is None:
            model.load_saved_heads(config.model.model_path)
        return model

    @property
    def policy(self) -> PreTrainedModel:
        return self.unwrapped_model.base_model

    @property
    def ref_model(self) -> Any:
        """The reference as a function: ref_model(input_ids, attention_mask=...).logits."""
        return partial(self.unwrapped_model.forward_hydra, return_dict=True)

    @property
    def ref_mean(self) -> float | None:
        """Mean of the first chunk's scores, or the configured one."""
        return self.collector.ref_mean if self.collector else self.method.ref_mean

    @property
    def ref_std(self) -> float | None:
        """Standard deviation of the first chunk's scores, or the configured one."""
        return self.collector.ref_std if self.collector else self.method.ref_std

    @property
    def eval_batch_size(self) -> int:
        return self.method.chunk_size

    def add_prompt_pipeline(self, pipeline: PromptPipeline) -> None:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        self.sampler = PromptSampler(len(pipeline), self.config.train.seed, rank, world)
        self.prompt_iterator = map(pipeline.batch, iter(partial(self.sampler.take, self.method.chunk_size), None))
        self.collector = RolloutCollector(
            self.responder,
            self.engine,
            self.method,
            self.limited(self.reward_fn),  # type: ignore[arg-type]
            self.prompt_iterator,
            self.running_moments,
        )

    def add_ptx_texts(self, texts: Sequence[str]) -> None:
        """Take the pretraining texts whose loss is mixed in. Raises: UserError as `require_ptx` and `pack`."""
        require_ptx(self.config, there=True)
        train, step = self.config.train, self.config.train.batch_size * self.accelerator.num_processes
        blocks = pack(texts, self.tokenizer, train.seq_length, least=step)
        self.ptx = PretrainingLoss(self.method.ptx_coef, blocks, self.engine, train.seed)

    def prepare_learning(self) -> None:
        require_ptx(self.config, there=self.ptx is not None)
        self.n_inner_epochs = self.method.ppo_epochs
        chunks = math.ceil(self.method.num_rollouts / self.method.chunk_size)
        steps = math.ceil(chunks * self.method.chunk_size / self.config.train.batch_size)
        planned = self.config.train.epochs * self.n_inner_epochs * steps
        self.total_steps = min(self.config.train.total_steps, planned)

    def make_experience(self, num_rollouts: int = 1024, iter_count: int = 0) -> None:
        """Push a phase's rollouts, with rewards, to the store.

        Args:
            num_rollouts: of this rank, at least; whole chunks are collected. iter_count: the step to log under.
        """
        if self.reward_fn is None:
            raise UserError("PPO needs a reward_fn, or a make_experience of your own")
        if self.collector is None:
            raise UserError("there are no prompts to roll out: call add_prompt_pipeline first")
        chunks: list[Chunk] = []
        elements: list[PPORLElement] = []
        collected = 0
        bar = tqdm(total=num_rollouts, desc="rollouts", leave=False, disable=not self.accelerator.is_main_process)
        while collected < num_rollouts:
            self.stopper.between_batches()
            chunk = self._collect(self.collector)  # 1
            if chunk is None:
                continue
            rewards, kl = kl_shaped_rewards(
                chunk.scores,
                chunk.logprobs,
                chunk.ref_logprobs,
                chunk.response_mask,
                self.kl_ctl.value,
                self.method.kl_penalty,
            )  # 2
            elements += chunk.elements(rewards)
            self.rollout_log.add(chunk, kl)
            chunks.append(chunk)
            collected += len(chunk.query)
            bar.update(len(chunk.query))
        bar.close()
        self.push_to_store(elements)
        self.tracker.log(self._phase_statistics(chunks), iter_count)
        self.rollout_log.write(self.epoch, iter_count)

    def _collect(self, collector: RolloutCollector) -> Chunk | None:
        """The next chunk; None, on every rank, where it holds what is not finite. Raises: UserError after too many."""
        why = "a log-probability, value or scaled score is not finite"
        try:
            chunk = collector.collect()
            if all_finite(self.accelerator, chunk.logprobs, chunk.ref_logprobs, chunk.values, chunk.scores):
                self.skipped_rollouts.kept()
                return chunk
        except NotFiniteScores as error:
            why = str(error)
        self.skipped_rollouts.dropped(why, self.iter_count)
        return None

    def push_to_store(self, data: Iterable[PPORLElement]) -> None:
        """Hand a phase's rollouts to the store; for users to filter or change them on the way."""
        self.store.push(data)

    def start_epoch(self) -> None:
        """Collect rollouts unless there are some, and derive what `loss` needs of them."""
        if len(self.store) == 0:
            self.make_experience(self.method.num_rollouts, self.iter_count)
        known = [float(len(self.store)), float(any(element.advantages is None for element in self.store))]
        ranks = self.accelerator.gather(torch.tensor([known], device=self.accelerator.device)).tolist()
        counts = [int(count) for count, _ in ranks]
        if len(set(counts)) > 1 or 0 in counts:
            raise UserError(f"push_to_store must leave rollouts in the store, equally many on every rank, not {counts}")
        if any(missing for _, missing in ranks):
            self._derive_advantages()

    def _derive_advantages(self) -> None:
        """3: advantages by GAE, whitened over the real tokens of the whole phase on all ranks; returns."""
        r = self.store.whole()
        advantages, returns = gae(r.rewards, r.values, r.response_mask, self.method.gamma, self.method.lam)
        moments = self.accelerator.reduce(torch.stack(masked_moments(advantages, r.response_mask)), "sum")
        mean, variance = mean_and_variance(*moments)
        self.store.set_advantages(whiten(advantages, r.response_mask, mean, variance), returns)
        explained = self.accelerator.reduce(explained_variance(r.values, returns, r.response_mask), "mean").item()
        # As they are before whitening: afterwards their mean is 0 and their deviation 1, whatever happens.
        spread = {"advantages/mean": mean.item(), "advantages/std": variance.sqrt().item()}
        self.tracker.log({"values/explained_variance": explained, **spread}, self.iter_count)

    def create_train_dataloader(self) -> Iterable[PPORLBatch]:
        key = [self.config.train.seed, self.epoch, self.inner_epoch, self.accelerator.process_index]
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        return self.store.create_loader(self.config.train.batch_size, shuffle=True, generator=generator)

    def loss_weight(self, batch: PPORLBatch) -> Tensor:
        return batch.response_mask.sum()  # type: ignore[union-attr]

    def loss(self, batch: PPORLBatch) -> Loss:
        """4: the clipped policy loss and the weighted clipped value loss; see `PPOConfig.loss`."""
        mask, advantages, returns = batch.response_mask, batch.advantages, batch.returns
        if mask is None or advantages is None or returns is None:
            raise RuntimeError("PPO's loss needs a batch of the store, with masks, advantages and returns")
        output = self.model(
            query=batch.query_tensors,
            query_mask=batch.query_mask,
            response=batch.response_tensors,
            response_mask=mask,
            temperature=self.temperature,
            trunk=batch.trunk,
            response_pass=True,
        )
        loss, stats = self.method.loss(
            logprobs=output["logprobs"],
            values=output["values"],
            old_logprobs=batch.logprobs,
            old_values=batch.values,
            advantages=advantages,
            returns=returns,
            mask=mask,
        )
        return loss, stats | {"padding_percentage": 1.0 - mask.float().mean()}

    def loss_terms(self, microbatches: list[Any]) -> list[Term]:
        """4b: before the PPO loss that of pretraining texts; see `run_step`.

        Texts give the critic no gradient (or one of 0, under DeepSpeed).
        """
        terms = super().loss_terms(microbatches)
        return terms if self.ptx is None else [self.ptx.term([len(part) for part in microbatches]), *terms]

    @property
    def temperature(self) -> float:
        """Of the distribution that rollouts are sampled from."""
        return float(self.generate_experience_kwargs.get("temperature") or 1.0)

    def check_step(self, stats: dict[str, float]) -> None:
        """Before the first step ratio must be 1; after any, `target_kl` may end the phase."""
        gap = stats.get("policy/log_ratio_gap", 0.0)
        tolerance = RATIO_TOLERANCE.get(self.accelerator.mixed_precision, max(RATIO_TOLERANCE.values()))
        own = all(element.ref_logprobs is not None for element in self.store)  # not made by an override
        if self.iter_count == 1 and gap > tolerance and own:
            self._doubt(
                f"before the first step the training pass is {gap:.2e} nats a token away from the rollout pass "
                f"(more than {tolerance:.0e}): this model's forward depends on how rows are batched and padded"
            )
        limit = self.method.target_kl
        self.phase_over = limit is not None and stats.get("policy/approx_kl", 0.0) > limit

    def post_epoch_callback(self) -> None:
        """5: adapt the KL coefficient to the phase's KL, and make room for the next phase's rollouts."""
        if math.isfinite(self.mean_kl):  # it may be an override's
            self.kl_ctl.update(self.mean_kl, n_steps=len(self.store) * self.accelerator.num_processes)
        self.store.clear_history()

    def _phase_statistics(self, chunks: list[Chunk]) -> dict[str, float]:
        """Of the rollouts, over all ranks; sets `mean_kl`: Σ_t k1 of a response in nats, response tokens only."""
        sums = torch.stack([_kl_sums(chunk) for chunk in chunks]).sum(dim=0)
        k1_sum, k3_sum, tokens, responses = self.accelerator.reduce(sums, "sum").tolist()
        self.mean_kl = k1_sum / responses
        if self.iter_count == 0 and abs(self.mean_kl) > KL_TOLERANCE:
            self._doubt(f"policy and reference differ before the first step: KL {self.mean_kl:.2e} nats")
        averaged = {name: sum(chunk.stats[name] for chunk in chunks) / len(chunks) for name in chunks[0].stats}
        return averaged | {
            "rollout_scores/running_mean": float(self.running_moments.mean),
            "rollout_scores/running_std": float(self.running_moments.std),
            "policy/kl": self.mean_kl,
            "policy/kl_k3": k3_sum / responses,
            "policy/sqrt_kl": math.sqrt(max(self.mean_kl, 0.0)),
            "policy/kl_per_token": k1_sum / tokens,
            "kl_ctl_value": self.kl_ctl.value,
            "rollout/phase": float(self.epoch),
            "rollout/skipped_chunks": float(self.skipped_rollouts.total),
        }

    def _doubt(self, message: str) -> None:
        """A broken invariant: an error in float32, where it is exact; in fewer bits it is watched and said.

        So too with adapters, which may begin as something else than nothing (virtual tokens, or trained ones).
        """
        exact = self.accelerator.mixed_precision == "no" and torch.get_float32_matmul_precision() == "highest"
        if exact and self.config.model.peft_config is None:
            raise RuntimeError(message)
        warnings.warn(message, stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "kl_coef": self.kl_ctl.value,
            "mean_kl": self.mean_kl,
            "moments": vars(self.running_moments).copy(),
            "prompt_position": self.sampler.position if self.sampler else 0,
            "collector": self.collector.state_dict() if self.collector else None,
            "rollout_log": self.rollout_log.state_dict(),
            "skipped_rollouts": self.skipped_rollouts.state_dict(),
            "ptx_position": self.ptx.sampler.position if self.ptx else 0,
        }

    def load_state_dict(self, state: Mapping[str, Any], tensors: dict[str, Tensor] | None) -> None:
        super().load_state_dict(state, tensors)
        self.kl_ctl.value, self.mean_kl = state["kl_coef"], state["mean_kl"]
        vars(self.running_moments).update(state["moments"])
        self.rollout_log.load_state_dict(state["rollout_log"])
        self.skipped_rollouts.load_state_dict(state.get("skipped_rollouts", {}))
        if self.ptx is not None:
            self.ptx.sampler.position = state.get("ptx_position", 0)
        if self.sampler is not None and self.collector is not None and state["collector"] is not None:
            self.sampler.position = state["prompt_position"]
            self.collector.load_state_dict(state["collector"])
        self.store.load_state(tensors, self.accelerator.device)

    def state_tensors(self) -> dict[str, Tensor] | None:
        return self.store.state()


def _kl_sums(chunk: Chunk) -> Tensor:
    """(Σ k1, Σ k3, tokens, responses) of a chunk, float64."""
    mask = chunk.response_mask
    each = [
        masked_sum(chunk.logprobs - chunk.ref_logprobs, mask),
        masked_sum(k3(chunk.logprobs, chunk.ref_logprobs), mask),
        mask.sum(),
        mask.new_tensor(len(mask), dtype=torch.long),
    ]
    return torch.stack([value.double() for value in each])
