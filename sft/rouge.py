"""ROUGE of greedily generated summaries, measured at each evaluation of SFT on a fixed sample of posts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm
from transformers import PreTrainedModel

from evaluation.rouge_scores import ROUGE_TYPES, rouge_f1
from launch.stage import gather_objects
from tasks.records import Post
from trlx.generation.sampling import generate_texts
from trlx.utils.distributed import is_main_rank

METRICS = (*ROUGE_TYPES, "eos_rate", "response_length")


class GeneratedRouge:
    """Calling it with the unwrapped model gives rouge1, rouge2, rougeL (mean F1, 0 to 1), eos_rate and response_length.

    The posts are shared out over the ranks and every rank generates by itself, so unequal lengths cannot deadlock.

    Args:
        posts: prompts already cut to leave room for `max_new_tokens`.
        rank, world_size: of this process.
        batch_size: prompts generated at once.
    """

    def __init__(
        self, posts: Sequence[Post], tokenizer: Any, max_new_tokens: int, batch_size: int, rank: int, world_size: int
    ):
        self.posts = list(posts)[rank :: max(world_size, 1)]
        self.tokenizer = tokenizer
        self.gen_kwargs = {"max_new_tokens": max_new_tokens, "do_sample": False}
        self.batch_size = batch_size

    def __call__(self, model: PreTrainedModel) -> dict[str, float]:
        bar = tqdm(total=len(self.posts), desc="generating", leave=False, disable=not is_main_rank())
        with bar:
            made = generate_texts(
                model,
                self.tokenizer,
                [post.prompt for post in self.posts],
                self.gen_kwargs,
                self.batch_size,
                bar.update,
            )
        scores = rouge_f1([one.text.strip() for one in made], [post.summary for post in self.posts])
        columns = {
            **scores,
            "eos_rate": [float(one.ended) for one in made],
            "response_length": [float(one.tokens) for one in made],
        }
        shares = gather_objects(columns)
        return {name: mean([value for share in shares for value in share[name]]) for name in columns}


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0
