"""One model judged on a list of posts: greedy summaries, their reward, ROUGE and gold score, samples for the KL.

The reward model sees what the policy wrote and the prompt it read, as in PPO: prompts are cut once and used by all
models, references are scored once, and a response without EOS gets none. Left out: sampling several summaries a post.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evaluation.kl import SampledResponse, kl_to_reference, sample_responses
from evaluation.policies import describe
from evaluation.results import Outcome, References
from evaluation.rouge_scores import rouge_f1
from evaluation.samples import SampleRow
from reward_model.scorer import RewardScorer
from tasks.records import Post
from tasks.registry import Task
from tasks.text import response_text
from trlx.generation.sampling import generate_texts

# The scorer sorts what it is given by length; a few hundred texts are enough for that and keep the bar moving.
_SCORED_AT_ONCE = 512


@dataclass(frozen=True)
class JudgeSettings:
    """How summaries are made: greedy, `max_new_tokens` at most, `batch_size` prompts at once."""

    max_prompt_tokens: int
    max_new_tokens: int
    batch_size: int
    kl_posts: int  # the first so many posts are sampled for the KL
    resamples: int
    seed: int

    @property
    def gen_kwargs(self) -> dict[str, Any]:
        return {"max_new_tokens": self.max_new_tokens, "do_sample": False}


def score_references(posts: Sequence[Post], scorer: RewardScorer, task: Task) -> References:
    """Reward and, where the task knows it, gold score of the reference summaries."""
    responses = [response_text(post.summary) for post in posts]
    rewards = scored(scorer, posts, responses, None, "scoring the ground truth")
    summaries = [post.summary for post in posts]
    return References(rewards, gold_scores(task, posts, summaries, [True] * len(posts)))


def scored(
    scorer: RewardScorer,
    posts: Sequence[Post],
    responses: Sequence[str],
    ended: Sequence[bool] | None,
    description: str,
) -> list[float]:
    """Rewards of responses (as written, leading space included), one a post."""
    ended = [True] * len(posts) if ended is None else ended
    rewards: list[float] = []
    with _bar(len(posts), description) as bar:
        for start in range(0, len(posts), _SCORED_AT_ONCE):
            part = slice(start, start + _SCORED_AT_ONCE)
            prompts = [post.prompt for post in posts[part]]
            rewards += scorer.score(prompts, responses[part], ended[part])
            bar.update(len(prompts))
    return rewards


def gold_scores(
    task: Task, posts: Sequence[Post], summaries: Sequence[str], ended: Sequence[bool]
) -> list[float] | None:
    """The task's gold score of each summary; None where the task has none or a post lacks its facts."""
    if task.gold_score is None or not all("facts" in post.extra for post in posts):
        return None
    return [
        float(task.gold_score(post.extra["facts"], summary, done))
        for post, summary, done in zip(posts, summaries, ended, strict=True)
    ]


def judge(
    name: str,
    path: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    posts: Sequence[Post],
    scorer: RewardScorer,
    task: Task,
    settings: JudgeSettings,
) -> Outcome:
    """Greedy summaries of every post and what they are worth; `posts` are cut already."""
    began = time.perf_counter()
    with _bar(len(posts), f"{name}: generating") as bar:
        made = generate_texts(
            model,
            tokenizer,
            [post.prompt for post in posts],
            settings.gen_kwargs,
            settings.batch_size,
            bar.update,
        )
    seconds = time.perf_counter() - began
    ended = [one.ended for one in made]
    predictions = [one.text.strip() for one in made]
    return Outcome(
        name=name,
        path=path,
        predictions=predictions,
        ended=ended,
        tokens=[one.tokens for one in made],
        rewards=scored(scorer, posts, [one.text for one in made], ended, f"{name}: scoring"),
        rouge=rouge_f1(predictions, [post.summary for post in posts]),
        gold=gold_scores(task, posts, predictions, ended),
        about={**describe(model), "generation_seconds": round(seconds, 2)},
    )


def kl_samples(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    posts: Sequence[Post],
    settings: JudgeSettings,
) -> list[SampledResponse]:
    """What `add_kl` needs of a model, kept so that the model itself can be let go."""
    prompts = [post.prompt for post in posts[: settings.kl_posts]]
    with _bar(len(prompts), f"{name}: sampling for the KL") as bar:
        return sample_responses(
            model,
            tokenizer,
            prompts,
            settings.max_new_tokens,
            settings.batch_size,
            settings.seed,
            bar.update,
        )


def add_kl(
    outcome: Outcome, samples: Sequence[SampledResponse], baseline: PreTrainedModel, settings: JudgeSettings
) -> None:
    """Put KL(outcome's model ‖ baseline) into the outcome."""
    with _bar(len(samples), f"{outcome.name}: KL to the baseline") as bar:
        outcome.kl = kl_to_reference(samples, baseline, settings.batch_size, settings.resamples, bar.update)


def sample_rows(posts: Sequence[Post], references: References, outcome: Outcome) -> list[SampleRow]:
    """The CSV rows of one model."""
    return [
        SampleRow(
            pred=outcome.predictions[i],
            truth=post.summary,
            post=post.prompt,
            score_pred=outcome.rewards[i],
            score_truth=references.rewards[i],
            rouge1=outcome.rouge["rouge1"][i],
            rouge2=outcome.rouge["rouge2"][i],
            rougeL=outcome.rouge["rougeL"][i],
            gold_pred=outcome.gold[i] if outcome.gold else None,
            gold_truth=references.gold[i] if references.gold else None,
            id=post.id,
            ended=outcome.ended[i],
        )
        for i, post in enumerate(posts)
    ]


def _bar(total: int, description: str) -> tqdm:
    return tqdm(total=total, desc=description, unit="post")
