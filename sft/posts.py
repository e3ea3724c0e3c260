"""Posts as SFT reads them: encoded once, those that cannot fit counted and left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from launch.stage_trainer import Rows
from tasks.records import Post
from tasks.text import encode_sample, truncate_prompt
from trlx.utils.distributed import is_main_rank
from trlx.utils.errors import UserError


def encode_posts(posts: Sequence[Post], tokenizer: Any, max_length: int) -> tuple[Rows, int]:
    """Token ids of every post that fits.

    Args:
        posts: with reference summaries.
        tokenizer: of the model to train.
        max_length: prompt + summary + EOS in tokens; prompts are cut to fit, summaries never.

    Returns: (rows of `prompt_ids` and `response_ids`, number of posts left out as too long).
    Raises: UserError when none fits.
    """
    items, lengths = [], []
    reason = ""
    for post in tqdm(posts, desc="encoding", leave=False, disable=not is_main_rank()):
        try:
            sample = encode_sample(tokenizer, post.prompt, post.summary, max_length)
        except UserError as error:
            reason = str(error)
            continue
        items.append({"prompt_ids": sample.prompt_ids, "response_ids": sample.response_ids})
        lengths.append(len(sample.prompt_ids) + len(sample.response_ids))
    if not items:
        raise UserError(f"none of {len(posts)} posts can be trained on: {reason}")
    return Rows(items, lengths), len(posts) - len(items)


def cut_prompts(posts: Sequence[Post], tokenizer: Any, max_tokens: int) -> list[Post]:
    """The posts with prompts cut to `max_tokens`. Raises: UserError when a prompt's fixed parts alone are longer."""
    return [Post(p.id, truncate_prompt(p.prompt, tokenizer, max_tokens), p.summary, p.post, p.extra) for p in posts]
