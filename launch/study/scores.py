"""What the policies of a study are worth on posts that neither their training nor their selection has seen.

Greedy summaries of the test posts: reward of the model trained against, gold, length; and the KL to SFT from samples.
The best checkpoints were picked by numbers on the validation posts, which therefore flatter them; these do not. Left
out: what the evaluation of a run measures besides (`trlx_inference_gptneo.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from evaluation.judge import gold_scores
from evaluation.kl import kl_to_reference, sample_responses
from evaluation.policies import load_policy
from evaluation.statistics import mean_interval
from launch.study.parts import Inputs, StudyOptions
from reward_model.scorer import RewardScorer
from tasks.encoding import cut_prompts
from tasks.form import response_text
from tasks.records import Post
from tasks.registry import get_task
from trlx.generation.sampling import generate_texts
from trlx.models.loading import load_policy_tokenizer

TASK = "miniature"
# More new tokens than the miniature has elsewhere: a policy that is paid for length shall have room for it.
MAX_LENGTH, MAX_NEW_TOKENS, BATCH, RESAMPLES, SEED = 256, 64, 32, 2_000, 42
CPU = torch.device("cpu")


@dataclass
class Bench:
    """The test posts of a run and the reward models that judge, each loaded once.

    Args:
        reward_models: name → folder; every policy is scored by all of them.
    """

    study: StudyOptions
    reward_models: Mapping[str, Path]

    @cached_property
    def tokenizer(self) -> Any:
        """That of SFT, which all policies share."""
        return load_policy_tokenizer(str(self.study.run.sft))

    @cached_property
    def posts(self) -> list[Post]:
        """The first of the test posts, cut as in training."""
        posts = get_task(TASK).load_posts(str(self.study.run.root / "data"), "test", limit=self.study.posts)
        return cut_prompts(posts, get_task(TASK).form, self.tokenizer, MAX_LENGTH - MAX_NEW_TOKENS)

    @cached_property
    def sft(self) -> PreTrainedModel:
        return load_policy(str(self.study.run.sft), torch.float32, CPU)

    @cached_property
    def scorers(self) -> dict[str, RewardScorer]:
        return {
            name: RewardScorer.load(folder, CPU, torch.float32, MAX_LENGTH, 2 * BATCH, get_task(TASK).form.cut)
            for name, folder in self.reward_models.items()
        }

    @cached_property
    def references(self) -> dict[str, list[float]]:
        """Scores of the reference summaries by each reward model."""
        return {name: self._score(name, [response_text(post.summary) for post in self.posts]) for name in self.scorers}

    def facts(self, policies: Sequence[Path]) -> dict[str, Any]:
        """What the scores of these policies depend on, JSON-able: models, posts, and how texts are made."""
        models = [*policies, self.study.run.sft, *self.reward_models.values()]
        settings = [MAX_LENGTH, MAX_NEW_TOKENS, BATCH, RESAMPLES, SEED]
        counts = {"posts": self.study.posts, "kl_posts": self.study.kl_posts, "settings": settings}
        return counts | Inputs(models, ["test.jsonl"]).facts(self.study.run)

    def measure(self, folder: Path) -> dict[str, Any]:
        """JSON-able: `intervals` of means over posts, and `by_post`, the values behind them, for paired differences.

        Args:
            folder: a policy with transformers' names of files.
        """
        model = load_policy(str(folder), torch.float32, CPU)
        made = generate_texts(
            model,
            self.tokenizer,
            [post.prompt for post in self.posts],
            {"max_new_tokens": MAX_NEW_TOKENS, "do_sample": False},
            BATCH,
        )
        texts, ended = [one.text for one in made], [one.ended for one in made]
        gold = gold_scores(get_task(TASK), self.posts, [text.strip() for text in texts], ended)
        by_post = {"gold": gold or [], "tokens": [float(one.tokens) for one in made]}
        for name in self.scorers:
            scores = self._score(name, texts, ended)
            by_post[name] = [a - b for a, b in zip(scores, self.references[name], strict=True)]
        intervals = {name: asdict(mean_interval(values, resamples=RESAMPLES)) for name, values in by_post.items()}
        return {"intervals": intervals | {"kl": self._kl(model)}, "by_post": by_post}

    def _score(self, name: str, texts: Sequence[str], ended: Sequence[bool] | None = None) -> list[float]:
        return self.scorers[name].score([post.prompt for post in self.posts], texts, ended)

    def _kl(self, model: PreTrainedModel) -> dict[str, Any] | None:
        prompts = [post.prompt for post in self.posts[: self.study.kl_posts]]
        if not prompts:
            return None
        samples = sample_responses(model, self.tokenizer, prompts, MAX_NEW_TOKENS, BATCH, SEED)
        return asdict(kl_to_reference(samples, self.sft, BATCH, RESAMPLES).k1)
