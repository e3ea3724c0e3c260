"""Both ways of turning a file of posts into token ids on disk, from the same file and with the same tokenizer.

Each side ends with the ids of every sample readable from disk. `datasets` is used as its guide advises: `load_dataset`,
then `map(batched=True)` with the fast tokenizer, keeping the ids alone. It is spared what the engine does besides:
cleaning texts, checking rows and ids. Prompts that are too long are cut by the same rule on both sides.
"""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np

from sft.posts import encode_posts
from tasks.chosen import Chosen
from tasks.encoding.samples import PARTS
from tasks.form import response_text, token_ids
from tasks.text import TLDR
from tasks.tldr import TASK
from trlx.pipeline.token_store import TokenStore
from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_tokenizer

cut_prompt = TLDR.cut  # of `map`; the engine cuts by itself

Column = tuple[np.ndarray, np.ndarray]  # lengths (N,), and the ids end to end


@dataclass(frozen=True)
class Work:
    """What a side is to do.

    Args:
        side: a key of `SIDES`. posts: a JSONL file of `prompt` (ending "TL;DR:") and `label`. tokenizer: a folder.
        cache: a folder for what the side keeps. max_length: prompt + response in tokens. processes: of `datasets`.
    """

    side: str
    posts: str
    tokenizer: str
    cache: str
    max_length: int
    processes: int = 1


@dataclass(frozen=True)
class Took:
    """One run: wall and processor seconds (child processes included), what came of it, and a hash of all ids."""

    seconds: float
    cpu: float
    samples: int
    tokens: int
    digest: str


def run(work: Work) -> Took:
    """Do it once. Imports and loading the tokenizer are not timed, reading the file is."""
    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(work.tokenizer)
    encode = SIDES[work.side]
    began, cpu = time.perf_counter(), _processor_seconds()
    columns = encode(work, tokenizer)
    seconds, cpu = time.perf_counter() - began, _processor_seconds() - cpu
    digest = hashlib.sha256()
    for lengths, ids in map(columns, PARTS):
        digest.update(lengths.astype("<i8").tobytes() + ids.astype("<i8").tobytes())
    prompts, responses = map(columns, PARTS)
    return Took(seconds, cpu, len(prompts[0]), len(prompts[1]) + len(responses[1]), digest.hexdigest())


def engine(work: Work, tokenizer: Any) -> Callable[[str], Column]:
    """As the SFT stage does it: one process, a thread a core."""
    facts = Chosen("tldr", work.posts, None).facts
    posts = TASK.iter_posts(work.posts, None)
    rows, _ = encode_posts(posts, TLDR, tokenizer, work.max_length, cache=Path(work.cache), made_from=facts)
    store = cast(TokenStore, rows.items)
    assert store[len(store) - 1]

    def column(name: str) -> Column:
        part = np.tile(np.arange(len(PARTS)), len(store)) == PARTS.index(name)
        return store.part_lengths[name], store.ids[np.repeat(part, np.diff(store.offsets))]

    return column


def batched_map(work: Work, tokenizer: Any) -> Callable[[str], Column]:
    """As the guide of `datasets` does it."""
    rows = datasets.load_dataset("json", data_files=work.posts, split="train", cache_dir=work.cache)
    encoded = rows.map(
        encode_batch,
        batched=True,
        remove_columns=rows.column_names,
        num_proc=work.processes if work.processes > 1 else None,
        fn_kwargs={"tokenizer": tokenizer, "max_length": work.max_length},
    )
    assert encoded[len(encoded) - 1]

    def column(name: str) -> Column:
        lists = encoded.data.column(name).combine_chunks()
        return np.diff(lists.offsets.to_numpy()), lists.flatten().to_numpy()

    return column


def encode_batch(batch: dict[str, list[str]], tokenizer: Any, max_length: int) -> dict[str, list[list[int]]]:
    """What `map` is given: ids of prompts and responses, posts that cannot fit left out."""
    plain = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    prompts = tokenizer(batch["prompt"], **plain)["input_ids"]
    responses = tokenizer([response_text(label) for label in batch["label"]], **plain)["input_ids"]
    kept: dict[str, list[list[int]]] = {name: [] for name in PARTS}
    for text, prompt, response in zip(batch["prompt"], prompts, responses, strict=True):
        room = max_length - len(response) - 1
        try:
            fits = len(prompt) <= room
            prompt = prompt if fits else token_ids(tokenizer, cut_prompt(text, tokenizer, room))
        except UserError:
            continue
        kept[PARTS[0]].append(prompt)
        kept[PARTS[1]].append([*response, tokenizer.eos_token_id])
    return kept


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


SIDES: dict[str, Callable[[Work, Any], Callable[[str], Column]]] = {"engine": engine, "datasets": batched_map}
