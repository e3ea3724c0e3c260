"""Posts as SFT reads them: encoded once, those that cannot fit counted and left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

import tasks
from launch.stage_trainer import Rows
from tasks.encoding.samples import PARTS
from tasks.encoding.samples import encode_posts as in_batches
from tasks.form import TextForm
from tasks.records import Post
from trlx.pipeline.batch_tokenizer import BatchTokenizer
from trlx.pipeline.token_cache import all_facts, cached, code_hash
from trlx.pipeline.token_store import Layout, TokenStore, TokenWriter
from trlx.utils.distributed import is_main_rank
from trlx.utils.errors import UserError

LEFT_OUT = "left_out"


def encode_posts(
    posts: Iterable[Post],
    form: TextForm,
    tokenizer: Any,
    max_length: int,
    *,
    cache: Path | None = None,
    made_from: Mapping[str, Any] | None = None,
    notes: Callable[[], Mapping[str, Any]] | None = None,
) -> tuple[Rows, int]:
    """Token ids of every post that fits, laid end to end in a file that is mapped into memory.

    Args:
        posts: with reference summaries; not read when the cache has them.
        form: of their texts. tokenizer: of the model to train.
        max_length: prompt + summary + EOS in tokens; prompts are cut to fit, summaries never.
        cache: folder of encoded data; None encodes anew.
        made_from: what the posts depend on, as JSON values; None is not cached.
        notes: asked once the posts are read, for what shall be known of them (`rows.items.notes`) when the cache has
            them.

    Returns: (rows of `prompt_ids` and `response_ids`, number of posts left out as too long).
    Raises: UserError when none fits.
    """
    batched = BatchTokenizer(tokenizer)

    def fill(writer: TokenWriter) -> None:
        left_out, why = 0, "there are none"
        shown = tqdm(posts, desc="encoding", leave=False, delay=1, disable=not is_main_rank())
        for encoded in in_batches(shown, form, batched, max_length):
            writer.append(encoded.block)
            left_out += len(encoded.left_out)
            why = (encoded.left_out or [why])[-1]
        if not writer.items:
            raise UserError(f"none of {left_out} posts can be trained on: {why}")
        writer.notes.update(notes() if notes else {})
        writer.notes[LEFT_OUT] = left_out

    parameters = {"code": code_hash([Path(tasks.__file__).parent]), "max_length": max_length}
    store = cached(cache, all_facts(batched, parameters, made_from), Layout(PARTS, batched.vocabulary), fill)
    return _rows(store), store.notes[LEFT_OUT]


def _rows(store: TokenStore) -> Rows:
    return Rows(store, cast(Sequence[int], store.lengths))
