"""Fine-tuning on the model's own best samples: reward-ranked fine-tuning, rejection sampling.

The algorithm, an epoch at a time (Gulcehre et al. 2023, "Reinforced Self-Training (ReST)", arXiv 2308.08998): every
`n_improve_steps` epochs `grow` samples responses to all prompts and scores them; every epoch `improve` keeps those
above a threshold of their prompt's, which rises from epoch to epoch; the epoch then is supervised fine-tuning on them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from trlx.data.configs import TRLConfig
from trlx.data.rft_config import RFTConfig
from trlx.generation.records import Generated
from trlx.pipeline.dialogue_store import DialogStore, Seq2SeqStore
from trlx.pipeline.dialogues import DialogMessage
from trlx.pipeline.offline_pipeline import PromptPipeline
from trlx.trainer import register_trainer
from trlx.trainer.accelerate_sft_trainer import AccelerateSFTTrainer
from trlx.trainer.scoring import Texts, score_all_ranks
from trlx.utils.errors import UserError

__all__ = ["AccelerateRFTTrainer", "RFTConfig"]

# Numbers of a logged distribution at most.
_SHOWN = 512


@dataclass
class Sample:
    """A response to a prompt, as it was sampled."""

    tokens: tuple[int, ...]  # (R,) ids, EOS included
    score: float


@register_trainer
class AccelerateRFTTrainer(AccelerateSFTTrainer):
    """Trains on the best of its own samples; reward_fn is called as PPO calls it, once a round.

    Attributes:
        generations: this rank's samples of all rounds, by the index of their prompt.
        store: what this epoch trains on, the same on every rank.
    """

    def __init__(self, config: TRLConfig, *args: Any, **options: Any):
        if not isinstance(config.method, RFTConfig):
            raise UserError(f"{type(self).__name__} needs method.name RFTConfig, not {config.method.name}")
        super().__init__(config, *args, **options)
        self.method: RFTConfig = self.config.method  # type: ignore[assignment]
        if self.reward_fn is None:
            raise UserError("RFT needs a reward_fn")
        if not self.generate_kwargs.get("do_sample") and self.method.n_generations_per_prompt > 1:
            raise UserError("RFT compares samples: set method.gen_kwargs.do_sample to true, or they are all the same")
        self.prompt_pipeline: PromptPipeline | None = None
        self.generations: dict[int, list[Sample]] = {}
        self.grown_in: int | None = None  # the epoch of the last round

    def add_prompt_pipeline(self, pipeline: PromptPipeline) -> None:
        self.prompt_pipeline = pipeline

    def prepare_learning(self) -> None:
        """How many steps an epoch has depends on what is kept, so the configuration alone says when to end."""
        self.n_inner_epochs = 1
        self.total_steps = self.config.train.total_steps

    def start_epoch(self) -> None:
        if self.store is None:
            self.make_experience()

    def post_epoch_callback(self) -> None:
        self.store = None

    def make_experience(self, *_: Any, **__: Any) -> None:
        """Sample when a round is due, and put what this epoch trains on into `store`. Every rank must call it."""
        if self.prompt_pipeline is None:
            raise UserError("there are no prompts to sample from: call add_prompt_pipeline first")
        if self.epoch % self.method.n_improve_steps == 0 and self.grown_in != self.epoch:
            self.grow(self.prompt_pipeline)
            self.grown_in = self.epoch
        self.improve(self.prompt_pipeline)

    @torch.no_grad()
    def grow(self, pipeline: PromptPipeline) -> None:
        """Sample `n_generations_per_prompt` responses to each of this rank's prompts; score those of all ranks.

        A response whose score is not finite is left out. Raises: UserError when none has a finite one.
        """
        count, world = self.method.n_generations_per_prompt, self.accelerator.num_processes
        mine = range(self.accelerator.process_index, len(pipeline), world)
        queue = [index for index in mine for _ in range(count)]
        size = max(count, self.config.train.batch_size)
        longest = math.ceil(len(pipeline) / world) * count  # any rank's queue
        texts = [Texts([], [], [], {name: [] for name in pipeline.metadata_names})]
        responses: list[tuple[int, ...]] = []
        with self.responder.whole():  # once for the round: some ranks have fewer batches than others
            for start in range(0, longest, size):
                self.stopper.between_batches()
                if start >= len(queue):
                    break
                batch = pipeline.batch(queue[start : start + size])
                moved = batch.to(self.accelerator.device)
                made = self.responder.rollout(moved.input_ids, moved.attention_mask, with_logprobs=False)
                texts.append(self.responder.texts(batch, made))
                responses += _rows(made)
        reward_fn: Any = self.limited(self.reward_fn)
        joined = Texts.join(texts)
        scores, all_scores = score_all_ranks(self.accelerator, reward_fn, self.tokenizer, joined, finite=False)
        usable = torch.tensor(all_scores.finite)
        if not usable.any():
            raise UserError(f"reward_fn returned no finite score for any of {len(usable)} responses: mend it")
        for index, tokens, score, good in zip(queue, responses, scores.totals.tolist(), scores.finite, strict=True):
            if good:
                self.generations.setdefault(index, []).append(Sample(tokens, score))
        fresh = all_scores.totals[usable]
        stats = {
            "rollout_scores/mean": fresh.mean(),
            "rollout_scores/std": fresh.std(correction=0),
            "rollout_scores/not_finite": float((~usable).sum()),
        }
        self.tracker.log(stats, self.iter_count)

    def improve(self, pipeline: PromptPipeline) -> None:
        """Keep the samples above this epoch's threshold, from all ranks, for training on."""
        percentile = self.method.percentile(self.epoch)
        kept: list[tuple[int, Sample]] = []
        thresholds: dict[int, float] = {}
        for index, samples in self.generations.items():
            thresholds[index] = float(np.quantile([sample.score for sample in samples], percentile))
            kept += [(index, sample) for sample in select(samples, thresholds[index])]
        everyone = gather_object([(kept, thresholds, {i: _scores(own) for i, own in self.generations.items()})])
        kept = sorted((pair for part in everyone for pair in part[0]), key=lambda pair: pair[0])
        thresholds = {index: value for part in everyone for index, value in part[1].items()}
        scores = {index: values for part in everyone for index, values in part[2].items()}
        if not kept:
            warnings.warn(
                f"epoch {self.epoch} has nothing to train on: the samples of a prompt all score alike", stacklevel=2
            )
        store = Seq2SeqStore if self.is_seq2seq else DialogStore
        self.store = store((self._dialog(pipeline, *pair) for pair in kept), self.tokenizer)
        if self.batch_index == 0:  # a resumed epoch has logged them before
            self.tracker.log(_statistics(kept, thresholds, scores), self.iter_count)

    def _dialog(self, pipeline: PromptPipeline, index: int, sample: Sample) -> list[DialogMessage]:
        return [DialogMessage(False, tuple(pipeline.token_ids[index])), DialogMessage(True, sample.tokens)]

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"grown_in": self.grown_in}

    def load_state_dict(self, state: Mapping[str, Any], tensors: dict[str, Tensor] | None) -> None:
        super().load_state_dict(state, tensors)
        self.grown_in, self.store = state["grown_in"], None
        self.generations = unpack(tensors) if tensors else {}

    def state_tensors(self) -> dict[str, Tensor] | None:
        return pack(self.generations)


def select(samples: Iterable[Sample], threshold: float) -> list[Sample]:
    """A prompt's samples with a score above the threshold, each response once.

    Where so many share the best score that the threshold is that score, they are kept, if there are worse ones: else
    a reward of 0 or 1 would teach nothing once most samples earn it.
    """
    samples = list(samples)
    best, worst = max(sample.score for sample in samples), min(sample.score for sample in samples)
    chosen = [sample for sample in samples if sample.score > threshold or worst < best == sample.score]
    return list({sample.tokens: sample for sample in chosen}.values())


def _rows(made: Generated) -> list[tuple[int, ...]]:
    return [tuple(ids[mask].tolist()) for ids, mask in zip(made.response, made.response_mask, strict=True)]


def _scores(samples: Iterable[Sample]) -> list[float]:
    return [sample.score for sample in samples]


def _statistics(
    kept: list[tuple[int, Sample]], thresholds: Mapping[int, float], scores: Mapping[int, list[float]]
) -> dict[str, Any]:
    """Under trlX's names; those that it logs as histograms are lists of numbers."""
    counts = dict.fromkeys(thresholds, 0)
    for index, _ in kept:
        counts[index] += 1
    all_scores = [score for values in scores.values() for score in values]
    return {
        "scores_per_single_prompt": scores[min(scores)],
        "thresholds": _shown(list(thresholds.values())),
        "scores_mean": float(np.mean(all_scores)),
        "scores_dist": _shown(all_scores),
        "len_samples_selected": len(kept),
        "samples_per_single_prompt": _shown(list(counts.values())),
    }


def _shown(numbers: list[float] | list[int]) -> list[float]:
    """The numbers in order; of many, some evenly spaced in that order, which are distributed alike."""
    ordered = sorted(float(number) for number in numbers)
    if len(ordered) <= _SHOWN:
        return ordered
    return [ordered[place] for place in np.linspace(0, len(ordered) - 1, _SHOWN).round().astype(int)]


def pack(generations: Mapping[int, list[Sample]]) -> dict[str, Tensor] | None:
    """Samples as flat tensors, for a checkpoint; None for none."""
    flat = [(index, sample) for index, samples in generations.items() for sample in samples]
    if not flat:
        return None
    return {
        "prompts": torch.tensor([index for index, _ in flat]),
        "lengths": torch.tensor([len(sample.tokens) for _, sample in flat]),
        "tokens": torch.tensor([token for _, sample in flat for token in sample.tokens], dtype=torch.long),
        "scores": torch.tensor([sample.score for _, sample in flat], dtype=torch.float64),
    }


def unpack(packed: Mapping[str, Tensor]) -> dict[int, list[Sample]]:
    """The samples that `pack` packed."""
    generations: dict[int, list[Sample]] = {}
    rows = packed["tokens"].split(packed["lengths"].tolist())
    for index, tokens, score in zip(packed["prompts"].tolist(), rows, packed["scores"].tolist(), strict=True):
        generations.setdefault(index, []).append(Sample(tuple(tokens.tolist()), score))
    return generations
