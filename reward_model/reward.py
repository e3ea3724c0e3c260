"""The reward that training sees: the reward models' score of a sample minus that of the post's reference summary.

    reward = combine over members i of (score_i(sample) − score_i(reference)) − length_penalty · max(0, tokens − free)

Each member is compared with itself before members are combined (`reward_model.ensemble` says why). Texts come as the
engine hands them over: outputs that ended carry the end-of-sequence text, cut ones do not. References are scored once,
and their scores travel in the engine's checkpoints: scored again beside other texts they would differ in the last bits.
Left out: a charge for the reference's length, which would be a constant of the post.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from reward_model.encoding import CutPrompt
from reward_model.ensemble import EnsembleScorer, Scorer, reference_std, scale_factors
from reward_model.reward_options import RewardOptions
from reward_model.scorer import RewardScorer
from trlx.utils.digest import model_digest


class ReferenceReward:
    """Called by `trlx.train` as its `reward_fn`, on the main rank only.

    Args:
        load: makes the scorer, on the first call, so that only the rank which scores holds reward models.
        response_text: reference summary → text after the prompt.
        relative: True subtracts the reference's score, computed once for each sample id; False returns the plain score.
        length_penalty: reward points taken off for each response token over `length_free`.
        length_free: response tokens, EOS among them, that cost nothing.
        models: names the models by their content, so that a checkpoint's scores are not taken for those of others.
    """

    def __init__(
        self,
        load: Callable[[], Scorer | EnsembleScorer],
        response_text: Callable[[str], str],
        relative: bool = True,
        length_penalty: float = 0.0,
        length_free: int = 0,
        models: Callable[[], str] = str,
    ):
        self._load, self._response_text, self.relative = load, response_text, relative
        self.length_penalty, self.length_free = length_penalty, length_free
        self._scorer: EnsembleScorer | None = None
        self._models = models
        # Each member's score, by a digest of sample id and reference: two files may number their posts alike.
        self.reference_scores: dict[str, tuple[float, ...]] = {}

    @property
    def scorer(self) -> EnsembleScorer:
        """The scorer, loaded when it is first asked for."""
        if self._scorer is None:
            loaded = self._load()
            self._scorer = loaded if isinstance(loaded, EnsembleScorer) else EnsembleScorer([loaded])
        return self._scorer

    @functools.cached_property
    def models(self) -> str:
        """The models' name by content; weights are read once for it."""
        return self._models()

    def resume_state(self) -> dict[str, Any]:
        """For a checkpoint, JSON-able: the reference scores so far, and of which models they are."""
        scores = {key: list(row) for key, row in self.reference_scores.items()}
        return {"models": self.models if scores else "", "reference_scores": scores}

    def load_resume_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `resume_state` gave; scores of other models are left aside."""
        known = state["reference_scores"]
        if known and state["models"] == self.models:
            self.reference_scores = {key: tuple(row) for key, row in known.items()}

    def __call__(
        self,
        prompts: Sequence[str],
        outputs: Sequence[str],
        tokenizer: Any,
        sample_id: Sequence[str],
        reference: Sequence[str],
        **_: Any,
    ) -> list[float]:
        """One reward a sample.

        Args:
            prompts, outputs: texts. tokenizer: the policy's, for its end-of-sequence text and for lengths.
            sample_id: names the post, so that its reference is scored once. reference: its clean summary.
        """
        eos = str(tokenizer.eos_token)
        ended = [output.endswith(eos) for output in outputs]
        rows = self.scorer.member_scores(prompts, [output.removesuffix(eos) for output in outputs], ended)
        if self.relative:
            self._score_references(prompts, sample_id, reference)
            known = [self.reference_scores[_key(*pair)] for pair in zip(sample_id, reference, strict=True)]
            rows = [_minus(row, its_reference) for row, its_reference in zip(rows, known, strict=True)]
        rewards = self.scorer.combine(rows)
        if self.length_penalty == 0:
            return rewards
        return [r - self._length_cost(output, tokenizer) for r, output in zip(rewards, outputs, strict=True)]

    def _length_cost(self, output: str, tokenizer: Any) -> float:
        tokens = len(tokenizer(output, add_special_tokens=False)["input_ids"])
        return self.length_penalty * max(0, tokens - self.length_free)

    def _score_references(self, prompts: Sequence[str], sample_id: Sequence[str], reference: Sequence[str]) -> None:
        """Score the references that were not met before."""
        new = {
            _key(name, summary): (prompt, self._response_text(summary))
            for prompt, name, summary in zip(prompts, sample_id, reference, strict=True)
            if _key(name, summary) not in self.reference_scores
        }
        if new:
            asked, responses = zip(*new.values(), strict=True)
            self.reference_scores.update(zip(new, self.scorer.member_scores(asked, responses), strict=True))


def _key(sample_id: str, reference: str) -> str:
    return hashlib.blake2b(f"{sample_id}\0{reference}".encode("utf-8", "replace"), digest_size=12).hexdigest()


def _minus(row: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    return tuple(score - its_reference for score, its_reference in zip(row, other, strict=True))


def load_scorer(
    options: RewardOptions,
    folders: Sequence[str],
    device: torch.device | str,
    dtype: torch.dtype,
    max_length: int,
    cut_prompt: CutPrompt | None = None,
) -> EnsembleScorer:
    """The reward models of the options, loaded and combined as they say.

    Args:
        options: how they are combined. folders: from `reward_options.reward_folders`.
        device, dtype: of all of them. max_length: prompt + response + EOS in tokens.
        cut_prompt: how a prompt is shortened, as of `RewardScorer`.

    Raises: UserError as `RewardScorer.load`.
    """
    size = options.reward_batch_size
    label = options.reward_label
    members = [RewardScorer.load(folder, device, dtype, max_length, size, cut_prompt, label) for folder in folders]
    stds = [reference_std(folder) for folder in folders]
    if len(folders) > 1 and not all(stds):
        unknown = folders[stds.index(None)]
        print(f"[reward] {unknown} has no results.json with its spread: members' scores are not rescaled", flush=True)
    return EnsembleScorer(members, options.reward_combine, options.reward_std_weight, scale_factors(stds))


def make_reward(
    options: RewardOptions,
    folders: Sequence[str],
    device: torch.device | str,
    dtype: torch.dtype,
    max_length: int,
    response_text: Callable[[str], str],
    cut_prompt: CutPrompt | None = None,
) -> ReferenceReward:
    """The `reward_fn` that the options describe; nothing is loaded before its first call.

    Args: as of `load_scorer`; response_text: reference summary → text after the prompt (`tasks.text.response_text`).
    """
    return ReferenceReward(
        lambda: load_scorer(options, folders, device, dtype, max_length, cut_prompt),
        response_text,
        options.reward_relative,
        options.length_penalty,
        options.length_free,
        lambda: f"{dtype}, {max_length}, {options.reward_label}: {', '.join(map(_content, folders))}",
    )


def _content(folder: str) -> str:
    """A digest of a folder's model; the name of one on the hub."""
    return model_digest(folder) if Path(folder).is_dir() else folder
