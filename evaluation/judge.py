"""One summarizer judged on a list of posts: what its summaries are worth to the reward models, to ROUGE and to gold.

A reward model sees what the policy wrote and the prompt it read, as in PPO: prompts are cut once and used by all
models, references are scored once, and a response without EOS gets none. Summaries, rewards and samples go through
`Progress`, chunk by chunk, so that an interrupted evaluation goes on where it was. Left out: several summaries a post
(`evaluation.frontier` samples them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from evaluation.decoding import GREEDY, up_to
from evaluation.degeneration import faults
from evaluation.progress import Progress, digest
from evaluation.results import Outcome, References
from evaluation.rouge_scores import rouge_both
from evaluation.samples import SampleRow
from evaluation.summaries import Summaries
from reward_model.scorer import RewardScorer
from tasks.form import response_text
from tasks.records import Post
from tasks.task import Task
from tasks.text import title_of
from trlx.utils.errors import UserError

_SCORED_AT_ONCE = 128  # how much is scored again after an interruption, at most


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
        return up_to(self.max_new_tokens, GREEDY)


@dataclass(frozen=True)
class Bench:
    """What every summarizer is measured with.

    Args:
        scorer: the reward model of the run. second: one that nothing was trained against, or None.
        scorer_facts: what tells their states, JSON-able; work done with others is done again.
    """

    task: Task
    scorer: RewardScorer
    second: RewardScorer | None
    scorer_facts: Any
    progress: Progress

    def references(self, posts: Sequence[Post]) -> References:
        """Rewards and, where the task knows it, gold score of the reference summaries."""
        summaries = [post.summary for post in posts]
        written = Summaries([response_text(text) for text in summaries], [True] * len(posts), [])
        return References(
            texts=summaries,
            rewards=self._rewards("reference", self.scorer, posts, written),
            second=self._second_rewards("reference", posts, written),
            gold=gold_scores(self.task, posts, summaries, written.ended),
        )

    def measure(
        self, name: str, path: str, kind: str, posts: Sequence[Post], written: Summaries, about: dict[str, Any]
    ) -> Outcome:
        """Everything about the summaries of one model or baseline; `posts` as it read them."""
        predictions = [text.strip() for text in written.texts]
        rouge = rouge_both(predictions, [post.summary for post in posts])
        return Outcome(
            name=name,
            path=path,
            kind=kind,
            predictions=predictions,
            ended=list(written.ended),
            tokens=list(written.tokens),
            rewards=self._rewards(name, self.scorer, posts, written),
            second=self._second_rewards(name, posts, written),
            rouge=rouge.plain,
            rouge_stemmed=rouge.stemmed,
            gold=gold_scores(self.task, posts, predictions, written.ended),
            faults=[
                faults(text, ended, self.task.form.split_prompt(post.prompt)[1], title_of(post.prompt))
                for text, ended, post in zip(predictions, written.ended, posts, strict=True)
            ],
            about=about,
        )

    def _second_rewards(self, name: str, posts: Sequence[Post], written: Summaries) -> list[float] | None:
        return None if self.second is None else self._rewards(name, self.second, posts, written, "second reward model")

    def _rewards(
        self,
        name: str,
        scorer: RewardScorer,
        posts: Sequence[Post],
        written: Summaries,
        judge: str = "reward model",
    ) -> list[float]:
        """One reward a post, from responses as written; similar lengths together, longest first."""
        texts = [[post.prompt, text] for post, text in zip(posts, written.texts, strict=True)]

        def score(_: int, rows: Sequence[int]) -> list[float]:
            prompts, responses = zip(*(texts[i] for i in rows), strict=True)
            found = scorer.score(prompts, responses, [written.ended[i] for i in rows])
            require_finite(found, f"the {judge} of {name}", [posts[i].id for i in rows])
            return found

        order = sorted(range(len(texts)), key=lambda i: len(texts[i][0]) + len(texts[i][1]), reverse=True)
        chunks = [order[start : start + _SCORED_AT_ONCE] for start in range(0, len(order), _SCORED_AT_ONCE)]
        depends_on = [self.scorer_facts, digest(texts), list(written.ended)]
        with tqdm(total=len(posts), desc=f"{name}: {judge}", unit="post") as bar:
            return self.progress.complete(f"{name}@{judge.replace(' ', '_')}", depends_on, chunks, score, bar.update)


def require_finite(scores: Sequence[float], what: str, ids: Sequence[str] | None = None) -> None:
    """Refuse scores that no mean could be made of, before they are kept.

    Args:
        what: gave them, for the message. ids: of the posts.

    Raises: UserError naming the first such post.
    """
    bad = [place for place, score in enumerate(scores) if not math.isfinite(score)]
    if bad:
        where = f" of post {ids[bad[0]]}" if ids else ""
        raise UserError(
            f"{what} gives {scores[bad[0]]}{where}: its weights are damaged or overflow; try --reward_dtype float32, "
            "or train it anew"
        )


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


def sample_rows(posts: Sequence[Post], references: References, outcome: Outcome) -> list[SampleRow]:
    """The CSV rows of one summarizer."""
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
            tokens=outcome.tokens[i],
            faults=" ".join(outcome.faults[i].names),
            rouge1_stemmed=outcome.rouge_stemmed["rouge1"][i],
            rouge2_stemmed=outcome.rouge_stemmed["rouge2"][i],
            rougeL_stemmed=outcome.rouge_stemmed["rougeL"][i],
            second_pred=outcome.second[i] if outcome.second else None,
            second_truth=references.second[i] if references.second else None,
        )
        for i, post in enumerate(posts)
    ]
