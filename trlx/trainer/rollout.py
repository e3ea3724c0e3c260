"""Collecting rollouts: prompts, sampled continuations, scores, and one pass for everything PPO needs of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from trlx.data.method_configs import PPOConfig
from trlx.data.rollout import Rollouts
from trlx.functional.masking import masked_sum
from trlx.generation.sampling import Generated
from trlx.models.policy import PolicyOutput
from trlx.pipeline.offline_pipeline import PromptBatch, PromptPipeline
from trlx.pipeline.sampler import PromptSampler
from trlx.trainer.engine import Engine, synchronise
from trlx.trainer.scoring import RewardFn, Texts, decode, score_all_ranks
from trlx.utils.moments import RunningMoments

GenerateFn = Callable[[Tensor, Tensor], Generated]


class RolloutCollector:
    """Turns prompts into `Rollouts`, chunk by chunk.

    Args:
        engine: holds the policy. generate: continues (ids, mask) with the settings of rollouts, on the device.
        sampler: deals this rank its prompts. moments: of all scores so far, kept up to date here.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        engine: Engine,
        tokenizer: PreTrainedTokenizerBase,
        method: PPOConfig,
        reward_fn: RewardFn,
        pipeline: PromptPipeline,
        sampler: PromptSampler,
        generate: GenerateFn,
        temperature: float,
    ):
        self.accelerator, self.engine, self.tokenizer, self.method = accelerator, engine, tokenizer, method
        self.reward_fn, self.pipeline, self.sampler = reward_fn, pipeline, sampler
        self.generate, self.temperature = generate, temperature
        self.moments = RunningMoments()
        self.ref_mean, self.ref_std = method.ref_mean, method.ref_std

    def collect(self, count: int) -> tuple[Rollouts, dict[str, float], list[Texts]]:
        """At least `count` rollouts for this rank, in whole chunks, with their statistics over all ranks and texts."""
        chunks: list[Rollouts] = []
        stats: list[dict[str, float]] = []
        texts: list[Texts] = []
        bar = tqdm(
            total=count, desc="rollouts", leave=False, disable=not self.accelerator.is_main_process, mininterval=1.0
        )
        while sum(len(chunk) for chunk in chunks) < count:
            prompts = self.pipeline.batch(self.sampler.take(self.method.chunk_size))
            chunk, chunk_stats, chunk_texts = self._chunk(prompts)
            chunks.append(chunk)
            stats.append(chunk_stats)
            texts.append(chunk_texts)
            bar.update(len(chunk))
        bar.close()
        averaged = {name: sum(part[name] for part in stats) / len(stats) for name in stats[0]}
        averaged["rollout_scores/running_mean"] = self.moments.mean
        averaged["rollout_scores/running_std"] = self.moments.std
        return Rollouts.join(chunks), averaged, texts

    def _chunk(self, prompts: PromptBatch) -> tuple[Rollouts, dict[str, float], Texts]:
        device, start = self.accelerator.device, time.perf_counter()
        query, query_mask = prompts.input_ids.to(device), prompts.attention_mask.to(device)
        made = self.generate(query, query_mask)
        synchronise(device)
        generated = time.perf_counter()
        texts = decode(self.tokenizer, query, query_mask, made, prompts.metadata)
        scores, all_scores = score_all_ranks(self.accelerator, self.reward_fn, self.tokenizer, texts)
        scored = time.perf_counter()
        output = self.policy_pass(query, query_mask, made)
        synchronise(device)
        rollouts = Rollouts(
            query=query,
            query_mask=query_mask.bool(),
            response=made.response,
            response_mask=made.response_mask,
            logprobs=output["logprobs"],
            ref_logprobs=_present(output["ref_logprobs"]),
            values=output["values"],
            scores=self._shape_scores(scores, all_scores, made.ended.cpu()).to(device),
            trunk=output["trunk"],
        )
        times = {"generate": generated - start, "score": scored - generated, "time": time.perf_counter() - start}
        return rollouts, self._statistics(made, output, all_scores, times), texts

    @torch.no_grad()
    def policy_pass(self, query: Tensor, query_mask: Tensor, made: Generated) -> PolicyOutput:
        """One forward of policy and reference over prompts and responses, through the wrapped module."""
        self.engine.model.eval()
        return self.engine.model(
            input_ids=torch.cat([query, made.response], dim=1),
            attention_mask=torch.cat([query_mask, made.response_mask.long()], dim=1),
            response_length=made.response.shape[1],
            temperature=self.temperature,
            with_reference=True,
        )

    def _shape_scores(self, scores: Tensor, all_scores: Tensor, ended: Tensor) -> Tensor:
        """Clip, scale, and replace the scores of cut responses, in this order."""
        limit = self.method.cliprange_reward or float("inf")
        scores = scores.clamp(-limit, limit)
        self.moments.update(all_scores.clamp(-limit, limit))
        if self.ref_mean is None or self.ref_std is None:  # the first chunk's, of all ranks
            self.ref_mean, self.ref_std = self.moments.mean, self.moments.std
        if self.method.scale_reward == "running":
            scores = scores / self.moments.std
        elif self.method.scale_reward == "ref":
            scores = scores / self.ref_std
        if self.method.missing_eos_penalty is not None:
            scores = torch.where(ended, scores, torch.full_like(scores, self.method.missing_eos_penalty))
        return scores

    def _statistics(
        self, made: Generated, output: PolicyOutput, all_scores: Tensor, times: dict[str, float]
    ) -> dict[str, float]:
        mask = made.response_mask
        gap = (output["logprobs"] - _present(made.logprobs)).abs()
        sums = [masked_sum(_present(output["entropy"]), mask), masked_sum(gap, mask), made.ended.sum(), mask.sum()]
        local = torch.stack([value.double() for value in sums])
        entropy, gap_sum, ended, tokens = self.accelerator.reduce(local, "sum").tolist()
        responses = len(all_scores)
        return {
            "rollout_scores/mean": all_scores.mean().item(),
            "rollout_scores/std": all_scores.std().item() if len(all_scores) > 1 else 0.0,
            "policy/entropy": entropy / tokens,
            "rollout/eos_rate": ended / responses,
            "rollout/response_length": tokens / responses,
            "rollout/sampling_logprob_gap": gap_sum / tokens,
            "time/rollout_generate": times["generate"],
            "time/rollout_score": times["score"],
            "time/rollout_time": times["time"],
        }

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on as if it had never stopped."""
        return {
            "prompt_position": self.sampler.position,
            "moments": vars(self.moments).copy(),
            "ref_mean": self.ref_mean,
            "ref_std": self.ref_std,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampler.position = state["prompt_position"]
        self.moments = RunningMoments(**state["moments"])
        self.ref_mean, self.ref_std = state["ref_mean"], state["ref_std"]


def _present(value: Tensor | None) -> Tensor:
    if value is None:
        raise RuntimeError("a pass with the reference gives every output")
    return value
