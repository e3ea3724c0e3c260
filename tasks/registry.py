"""Tasks by name: where the data of a task come from and, where there is one, its gold score."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tasks import gold, tldr
from tasks.records import Pair, PairCounts, Post
from trlx.utils.errors import UserError, nearest


@dataclass(frozen=True)
class Task:
    """What the stages need to know of a task.

    `gold_score(facts, summary_text, ended)` takes `post.extra["facts"]`; None where the true quality is
    unknown.
    """

    name: str
    load_posts: Callable[..., list[Post]]
    load_pairs: Callable[..., tuple[list[Pair], PairCounts]]
    iter_posts: Callable[..., Iterator[Post]]
    iter_pairs: Callable[..., Iterator[Pair]]
    gold_score: Callable[[gold.Facts, str, bool], float] | None = None


_TLDR = (tldr.load_posts, tldr.load_pairs, tldr.iter_posts, tldr.iter_pairs)
_TASKS = {
    "tldr": Task("tldr", *_TLDR),
    "miniature": Task("miniature", *_TLDR, gold.gold_score),
}


def get_task(name: str) -> Task:
    """The task called `name`. Raises: UserError naming the nearest one."""
    if name not in _TASKS:
        raise UserError(f"unknown task '{name}'{nearest(name, _TASKS)}")
    return _TASKS[name]
