"""Tasks by name; what one is, `tasks.task` says."""

from __future__ import annotations

from tasks import gold, instruct, news, sentiment, tldr
from tasks.task import Task
from tasks.text import TLDR
from trlx.utils.errors import UserError, nearest

_TASKS = {
    task.name: task
    for task in (
        tldr.TASK,
        news.TASK,
        instruct.TASK,
        sentiment.TASK,
        Task("miniature", TLDR, gold_score=gold.gold_score),
    )
}


def get_task(name: str) -> Task:
    """The task called `name`. Raises: UserError naming the nearest one."""
    if name not in _TASKS:
        raise UserError(f"unknown task '{name}'{nearest(name, _TASKS)}")
    return _TASKS[name]
