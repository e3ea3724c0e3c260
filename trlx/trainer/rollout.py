"""Collecting rollouts: prompts, sampled continuations, scores, and one pass for everything PPO needs of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trlx.data.method_configs import PPOConfig
from trlx.data.ppo_types import PPORLElement
from trlx.functional.masking import masked_sum
from trlx.generation.sampling import Generated
from trlx.models.policy import HydraValueHeadModel, ResponseOutput
from trlx.pipeline.offline_pipeline import PromptBatch
from trlx.trainer.engine import Engine, synchronise
from trlx.trainer.responder import Responder
from trlx.trainer.scoring import RewardFn, Scores, Texts, score_all_ranks
from trlx.utils.moments import RunningMoments


@dataclass
class Chunk:
    """Responses of one rank to a chunk of prompts; B rows, P longest prompt, R longest response."""

    query: Tensor  # (B, P) prompt ids, left-padded
    query_mask: Tensor  # (B, P) bool
    response: Tensor  # (B, R) the ids that were sampled, right-padded
    response_mask: Tensor  # (B, R) bool, EOS included
    logprobs: Tensor  # (B, R) nats, of the sampling policy
    ref_logprobs: Tensor  # (B, R) nats, of the reference
    values: Tensor  # (B, R) V of the state before each token
    scores: Tensor  # (B,) one a response, or (B, R) one a token; clipped and scaled
    trunk: Tensor | None  # (B, T, H) the frozen trunk's output
    texts: Texts
    stats: dict[str, float]

    def elements(self, rewards: Tensor) -> list[PPORLElement]:
        """One record a response, without pads. Args: rewards: (B, R) per token."""
        prompts, lengths = self.query_mask.sum(dim=1).tolist(), self.response_mask.sum(dim=1).tolist()
        width = self.query.shape[1]
        return [
            PPORLElement(
                query_tensor=self.query[i, width - prompt :],
                response_tensor=self.response[i, :length],
                logprobs=self.logprobs[i, :length],
                values=self.values[i, :length],
                rewards=rewards[i, :length],
                ref_logprobs=self.ref_logprobs[i, :length],
                trunk=None if self.trunk is None else self.trunk[i, width - prompt : width + length],
                clean=True,
            )
            for i, (prompt, length) in enumerate(zip(prompts, lengths, strict=True))
        ]


class RolloutCollector:
    """Turns batches of prompts into chunks of rollouts.

    Args:
        responder: continues and decodes. engine: holds the policy.
        prompts: endless batches of prompts of this rank.
        moments: of all scores so far, kept up to date here.
    """

    def __init__(
        self,
        responder: Responder,
        engine: Engine,
        method: PPOConfig,
        reward_fn: RewardFn,
        prompts: Iterator[PromptBatch],
        moments: RunningMoments,
    ):
        self.responder, self.engine, self.method, self.reward_fn = responder, engine, method, reward_fn
        self.accelerator, self.tokenizer = engine.accelerator, responder.trainer.tokenizer
        self.prompts, self.moments = prompts, moments
        self.ref_mean, self.ref_std = method.ref_mean, method.ref_std
        self.temperature = float(responder.experience_kwargs.get("temperature") or 1.0)

    def collect(self) -> Chunk:
        """The next chunk. Under ZeRO stage 3 the policy's weights are fetched once for it."""
        with self.responder.whole():
            return self._collect()

    def _collect(self) -> Chunk:
        prompts, start = next(self.prompts), time.perf_counter()
        query, query_mask = prompts.input_ids.to(self.accelerator.device), prompts.attention_mask.bool()
        query_mask = query_mask.to(self.accelerator.device)
        policy: HydraValueHeadModel = self.responder.trainer.unwrapped_model
        made = self.responder.rollout(query, query_mask.long(), policy.trunk.top if policy.trunk else None)
        synchronise(self.accelerator.device)
        generated = time.perf_counter()
        texts = self.responder.texts(prompts, made)
        scores, all_scores = score_all_ranks(self.accelerator, self.reward_fn, self.tokenizer, texts)
        scored = time.perf_counter()
        output = self.policy_pass(query, query_mask, made)
        synchronise(self.accelerator.device)
        times = {"generate": generated - start, "score": scored - generated, "time": time.perf_counter() - start}
        return Chunk(
            query=query,
            query_mask=query_mask,
            response=made.response,
            response_mask=made.response_mask,
            logprobs=output["logprobs"],
            ref_logprobs=_present(output["ref_logprobs"]),
            values=output["values"],
            scores=self.shape_scores(scores, all_scores, made).to(self.accelerator.device),
            trunk=output["trunk"],
            texts=texts,
            stats=self._statistics(made, output, all_scores.totals, times),
        )

    @torch.no_grad()
    def policy_pass(self, query: Tensor, query_mask: Tensor, made: Generated) -> ResponseOutput:
        """One forward of policy and reference over prompts and responses, through the wrapped module.

        It begins above the frozen trunk where decoding has kept its output.
        """
        self.engine.model.eval()
        return self.engine.model(
            query=query,
            query_mask=query_mask,
            response=made.response,
            response_mask=made.response_mask,
            temperature=self.temperature,
            trunk=made.states,
            with_reference=True,
            response_pass=True,
        )

    def shape_scores(self, scores: Scores, all_scores: Scores, made: Generated) -> Tensor:
        """Clip, scale, and replace the scores of cut responses, in this order; (B,), or (B, R) of dense ones."""
        limit = self.method.cliprange_reward or float("inf")
        shaped = scores.tensor(made.response_mask.sum(dim=1).tolist()).clamp(-limit, limit)
        self.moments.update(all_scores.clipped(limit).totals)
        if self.ref_mean is None:  # the first chunk's, of all ranks
            self.ref_mean = float(self.moments.mean)
        if self.ref_std is None:
            self.ref_std = float(self.moments.std)
        if self.method.scale_reward == "running":
            shaped = shaped / float(self.moments.std)
        elif self.method.scale_reward == "ref":
            shaped = shaped / self.ref_std
        penalty = self.method.missing_eos_penalty
        return shaped if penalty is None else _replace_cut(shaped, made, penalty)

    def _statistics(
        self, made: Generated, output: ResponseOutput, all_scores: Tensor, times: dict[str, float]
    ) -> dict[str, float]:
        mask = made.response_mask
        sums = [masked_sum(_present(output["entropy"]), mask), made.ended.sum(), mask.sum()]
        if made.logprobs is not None:
            sums.append(masked_sum((output["logprobs"] - made.logprobs).abs(), mask))
        local = torch.stack([value.double() for value in sums])
        entropy, ended, tokens, *gap = self.accelerator.reduce(local, "sum").tolist()
        return {
            "rollout_scores/mean": all_scores.mean().item(),
            "rollout_scores/std": all_scores.std().item() if len(all_scores) > 1 else 0.0,
            "policy/entropy": entropy / tokens,
            "rollout/eos_rate": ended / len(all_scores),
            "rollout/response_length": tokens / len(all_scores),
            **({"rollout/sampling_logprob_gap": gap[0] / tokens} if gap else {}),
            "time/rollout_generate": times["generate"],
            "time/rollout_score": times["score"],
            "time/rollout_time": times["time"],
        }

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on as if it had never stopped, besides the moments and the prompts."""
        return {"ref_mean": self.ref_mean, "ref_std": self.ref_std}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ref_mean, self.ref_std = state["ref_mean"], state["ref_std"]


def _replace_cut(scores: Tensor, made: Generated, penalty: float) -> Tensor:
    """The penalty instead of a cut response's score; of dense scores, on its last token instead of them all."""
    ended = made.ended.cpu()
    if scores.dim() == 1:
        return torch.where(ended, scores, torch.full_like(scores, penalty))
    last = made.response_mask.sum(dim=1).cpu() - 1
    alone = torch.zeros_like(scores).scatter(1, last.clamp(min=0).unsqueeze(1), penalty)
    return torch.where(ended.unsqueeze(1), scores, alone)


def _present(value: Tensor | None) -> Tensor:
    if value is None:
        raise RuntimeError("a pass with the reference gives every output")
    return value
