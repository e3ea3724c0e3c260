"""Posts as training samples, many at once; each as its form encodes it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tasks.encoding.cutting import fit, named
from tasks.form import TextForm, response_text
from tasks.records import Post
from trlx.pipeline.batch_tokenizer import BatchTokenizer, in_threads
from trlx.pipeline.token_store import TokenBlock
from trlx.utils.errors import UserError

PARTS = ("prompt_ids", "response_ids")


@dataclass(frozen=True)
class EncodedPosts:
    """Some posts that follow each other in the data.

    Args:
        block: `PARTS` of those that fit. left_out: why the others do not, a line each.
    """

    block: TokenBlock
    left_out: list[str]


def encode_posts(
    posts: Iterable[Post], form: TextForm, tokenizer: Any, max_length: int, *, workers: int | None = None
) -> Iterator[EncodedPosts]:
    """Token ids of prompt and response (with EOS) of every post that fits into `max_length` tokens, in order.

    The posts are read while others are encoded, a few hundred ahead, so they may be a stream of any length.

    Args:
        form: of their texts. tokenizer: transformers', or a `BatchTokenizer`. workers: threads; None for one a core.

    Raises: UserError when the tokenizer has no EOS token, and what reading the posts raises.
    """
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no EOS token: set eos_token in its tokenizer_config.json")
    batched = tokenizer if isinstance(tokenizer, BatchTokenizer) else BatchTokenizer(tokenizer)
    return in_threads(functools.partial(_encode, form=form, tokenizer=batched, max_length=max_length), posts, workers)


def _encode(posts: list[Post], form: TextForm, tokenizer: BatchTokenizer, max_length: int) -> EncodedPosts:
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    responses = [t.ids + end for t in tokenizer.encode([response_text(post.summary) for post in posts])]
    rooms = [max_length - len(ids) for ids in responses]
    has_room = [number for number, room in enumerate(rooms) if room > 0]
    fitted = fit([posts[number].prompt for number in has_room], [rooms[number] for number in has_room], form, tokenizer)
    prompts = dict(zip(has_room, fitted, strict=True))
    items, left_out = [], []
    for number, (post, response) in enumerate(zip(posts, responses, strict=True)):
        prompt = prompts.get(number) or _too_long(post, form, tokenizer, max_length)
        if isinstance(prompt, UserError):
            left_out.append(str(named(post, prompt)))
        else:
            items.append((prompt.ids, response))
    return EncodedPosts(TokenBlock.of(items), left_out)


def _too_long(post: Post, form: TextForm, tokenizer: BatchTokenizer, max_length: int) -> UserError:
    """What `TextForm.encode` says of a response that leaves no room."""
    try:
        form.encode(tokenizer, post.prompt, post.summary, max_length)
    except UserError as error:
        return error
    raise AssertionError(f"{post.where}: fits after all")
