"""The reward that PPO sees: the reward model's score of a sample minus that of the post's reference summary.

Texts come as the engine hands them over: outputs that ended carry the end-of-sequence text, cut ones do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reward_model.scorer import RewardScorer


class ReferenceReward:
    """Called by `trlx.train` as its `reward_fn`, on the main rank only.

    Args:
        load: makes the scorer, on the first call, so that only the rank which scores holds a reward model.
        response_text: reference summary → text after the prompt.
        relative: True subtracts the reference's score, computed once for each sample id; False returns the plain score.
    """

    def __init__(self, load: Callable[[], RewardScorer], response_text: Callable[[str], str], relative: bool = True):
        self._load, self._response_text, self.relative = load, response_text, relative
        self._scorer: RewardScorer | None = None
        # By sample id and reference: two files may number their posts alike.
        self.reference_scores: dict[tuple[str, str], float] = {}

    def __call__(
        self,
        prompts: Sequence[str],
        outputs: Sequence[str],
        tokenizer: Any,
        sample_id: Sequence[str],
        reference: Sequence[str],
        **_: Any,
    ) -> list[float]:
        """One score a sample.

        Args:
            prompts, outputs: texts. tokenizer: the policy's, for its end-of-sequence text.
            sample_id: names the post, so that its reference is scored once. reference: its clean summary.
        """
        if self._scorer is None:
            self._scorer = self._load()
        eos = str(tokenizer.eos_token)
        ended = [output.endswith(eos) for output in outputs]
        scores = self._scorer.score(prompts, [output.removesuffix(eos) for output in outputs], ended)
        if not self.relative:
            return scores
        self._score_references(prompts, sample_id, reference)
        keys = zip(sample_id, reference, strict=True)
        return [score - self.reference_scores[key] for score, key in zip(scores, keys, strict=True)]

    def _score_references(self, prompts: Sequence[str], sample_id: Sequence[str], reference: Sequence[str]) -> None:
        """Score the references that were not met before."""
        new = {
            (name, summary): (prompt, self._response_text(summary))
            for prompt, name, summary in zip(prompts, sample_id, reference, strict=True)
            if (name, summary) not in self.reference_scores
        }
        if new and self._scorer is not None:
            asked, responses = zip(*new.values(), strict=True)
            self.reference_scores.update(zip(new, self._scorer.score(asked, responses), strict=True))
