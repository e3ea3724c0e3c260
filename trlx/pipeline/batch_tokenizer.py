"""Many texts to token ids, on every core at once and in order, without holding them all.

Threads, not processes: the Rust core of a tokenizer lets go of Python's lock while it works, so nothing is forked
(safe beside a process group and data loader workers) and nothing is pickled. The ids are those of
`tokenizer(text, add_special_tokens=False)`. Left out: special tokens, padding and truncation, which are the caller's.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

T = TypeVar("T")
R = TypeVar("R")

_PLAIN = PreTrainedTokenizerFast._encode_plus
BATCH = 256  # texts of one call: enough to keep a core busy, few enough to keep memory small


class Tokens(Protocol):
    """The tokens of one text; its length is their number, which costs less than the ids."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def offsets(self) -> list[tuple[int, int]]: ...  # (start, end) of each token in characters of the text
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class SlowTokens:
    """The tokens of a tokenizer that is written in Python and knows no offsets."""

    ids: list[int]

    @property
    def offsets(self) -> list[tuple[int, int]]:
        raise NotImplementedError("a tokenizer without a Rust core tells no offsets")

    def __len__(self) -> int:
        return len(self.ids)


class BatchTokenizer:
    """A copy of a tokenizer as it is now, for many texts and for several threads at once.

    It also answers as transformers' tokenizers do for one text, so it can stand where ids of one text are asked for.

    Args:
        tokenizer: transformers'. One without a Rust core, or that adds Python to it, is used itself, one text at a
            time.

    Attributes:
        core: the Rust core, or None. eos_token_id: or None. vocabulary: every id is below this.
    """

    def __init__(self, tokenizer: Any):
        self.core = rust_core(tokenizer)
        self.eos_token_id: int | None = tokenizer.eos_token_id
        self._tokenizer = tokenizer
        self._one_at_a_time = threading.Lock()

    @property
    def vocabulary(self) -> int:
        return max([*self._tokenizer.get_vocab().values(), self.eos_token_id or 0]) + 1

    def encode(self, texts: Sequence[str], offsets: bool = False) -> Sequence[Tokens]:
        """The tokens of each text; with their offsets when asked for, which a Python tokenizer cannot tell."""
        if self.core is None:
            return [self._slowly(text) for text in texts]
        if offsets:
            return self.core.encode_batch(texts, add_special_tokens=False)
        return self.core.encode_batch_fast(texts, add_special_tokens=False)

    def _slowly(self, text: str) -> SlowTokens:
        with self._one_at_a_time:
            return SlowTokens(list(self._tokenizer(text, add_special_tokens=False)["input_ids"]))

    def __call__(
        self, text: str, add_special_tokens: bool = False, return_offsets_mapping: bool = False, verbose: bool = True
    ) -> dict[str, Any]:
        """`input_ids` of one text, and `offset_mapping` when asked for."""
        if add_special_tokens:
            raise NotImplementedError("special tokens are the caller's to add")
        (tokens,) = self.encode([text], return_offsets_mapping)
        found: dict[str, Any] = {"input_ids": tokens.ids}
        return found | {"offset_mapping": tokens.offsets} if return_offsets_mapping else found


def rust_core(tokenizer: Any) -> Tokenizer | None:
    """A copy of the Rust core that alone gives the ids of this tokenizer, cutting and padding nothing; else None."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return None
    own = type(tokenizer)
    if own.__call__ is not PreTrainedTokenizerFast.__call__ or own._encode_plus is not _PLAIN:
        return None
    try:
        core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    except Exception:  # parts written in Python cannot be copied; the library has no error of its own for that
        return None
    core.no_truncation()
    core.no_padding()
    core.encode_special_tokens = tokenizer.split_special_tokens
    return core


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def in_threads(
    work: Callable[[list[T]], R], items: Iterable[T], workers: int | None = None, size: int = BATCH
) -> Iterator[R]:
    """`work` of every `size` items, several at a time, its results in order.

    Items are read in the caller's thread and only a few batches ahead, so any number of them can stream through. What
    `work` or the items raise is raised here, after the results before it.

    Args:
        workers: threads; None for one a core.
    """
    workers = workers or cores()
    stream = iter(items)
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="tokenise")
    try:
        while batch := list(itertools.islice(stream, size)):
            waiting.append(pool.submit(work, batch))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
