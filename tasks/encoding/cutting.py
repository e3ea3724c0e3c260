"""Prompts in no more tokens than there is room for, many at once; each as its form cuts it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from tasks.encoding.dividing import divided
from tasks.form import TextForm
from tasks.reading.rows import SKIP, BadRow, OnBadRows, Skipped, choose_on_bad
from tasks.records import Post
from trlx.pipeline.batch_tokenizer import BatchTokenizer, Tokens, in_threads
from trlx.pipeline.quick_cut import quick_cut
from trlx.utils import logging
from trlx.utils.errors import UserError

# A prompt of more characters for each token it may have is likely to be cut, for which the offsets of its tokens are
# wanted. English has four to five; a wrong guess costs a tokenisation.
_LIKELY_CUT = 4.5
log = logging.get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A prompt that fits. Its ids are wanted by some callers only."""

    text: str
    tokens: Tokens | list[int]

    @property
    def ids(self) -> list[int]:
        return self.tokens if isinstance(self.tokens, list) else self.tokens.ids


def cut_prompts(
    posts: Iterable[Post],
    form: TextForm,
    tokenizer: Any,
    max_tokens: int,
    *,
    response_tokens: int | None = None,
    bad_rows: OnBadRows = "stop",
    workers: int | None = None,
) -> list[Post]:
    """The posts with prompts of at most `max_tokens` tokens; shorter ones stay as they are.

    Posts whose text is yet to be divided are divided first; those that are too short for it are left out, and counted.

    Args:
        form: of their texts. tokenizer: transformers'. workers: threads; None for one a core.
        response_tokens: of a text that is divided, the most that its response has, EOS included; None for all.
        bad_rows: stop at a post whose prompt has parts that must stay and are longer by themselves, or skip it and say
            so.

    Raises: BadRow for such a post; UserError when all were too short to be divided.
    """
    work = functools.partial(_fit_batch, form=form, tokenizer=BatchTokenizer(tokenizer), max_tokens=max_tokens)
    cut, short, skipped = [], Skipped(), Skipped()
    on_bad = choose_on_bad(bad_rows, skipped)
    posts = divided(posts, form, tokenizer, short, response_tokens=response_tokens)
    for post, fitted in itertools.chain.from_iterable(in_threads(work, posts, workers)):
        if isinstance(fitted, UserError):
            on_bad(_too_long(post, form, max_tokens))
        else:
            cut.append(post if fitted.text == post.prompt else dataclasses.replace(post, prompt=fitted.text))
    if short.counts and not cut:
        raise UserError(f"no text is left: {short}: give other data")
    for left_out in (short, skipped):
        if left_out.counts:
            log.warning(str(left_out))
    return cut


def _fit_batch(
    posts: list[Post], form: TextForm, tokenizer: BatchTokenizer, max_tokens: int
) -> list[tuple[Post, Fitted | UserError]]:
    return list(
        zip(posts, fit([post.prompt for post in posts], [max_tokens] * len(posts), form, tokenizer), strict=True)
    )


def _too_long(post: Post, form: TextForm, max_tokens: int) -> BadRow:
    return BadRow(
        post.where or post.id,
        f"a prompt needs more than {max_tokens} tokens for {form.stays} alone",
        f"raise the length limit, drop the row, {SKIP}",
        f"it begins {post.prompt[:60]!r}",
    )


def fit(
    prompts: Sequence[str], rooms: Sequence[int], form: TextForm, tokenizer: BatchTokenizer
) -> list[Fitted | UserError]:
    """Each prompt in at most as many tokens as it has room for, or why that cannot be."""
    prompts = [form.clean_prompt(prompt) for prompt in prompts]
    likely = [len(prompt) > _LIKELY_CUT * room for prompt, room in zip(prompts, rooms, strict=True)]
    found = [iter(_tokens(prompts, likely, offsets, tokenizer)) for offsets in (False, True)]
    fitted: list[Fitted | UserError] = []
    for prompt, room, offsets in zip(prompts, rooms, likely, strict=True):
        tokens = next(found[offsets])
        if len(tokens) <= room:
            fitted.append(Fitted(prompt, tokens))
            continue
        if not offsets and tokenizer.core is not None:
            (tokens,) = tokenizer.encode([prompt], offsets=True)
        fitted.append(_shorter(prompt, tokens, room, form, tokenizer))
    return fitted


def _tokens(
    prompts: Sequence[str], likely: Sequence[bool], offsets: bool, tokenizer: BatchTokenizer
) -> Sequence[Tokens]:
    chosen = [prompt for prompt, wanted in zip(prompts, likely, strict=True) if wanted == offsets]
    return tokenizer.encode(chosen, offsets) if chosen else []


def _shorter(prompt: str, tokens: Tokens, room: int, form: TextForm, tokenizer: BatchTokenizer) -> Fitted | UserError:
    try:
        return Fitted(*quick_cut(form.cut, tokenizer, prompt, tokens, room, len(form.split_prompt(prompt)[2])))
    except UserError as error:
        return error


def named(post: Post, error: UserError) -> UserError:
    """The error with the file and line of the post, where they are known."""
    return UserError(f"{post.where}: {error}") if post.where else error
