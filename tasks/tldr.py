"""TL;DR summarisation: posts with a reference summary, and pairs with a preference, from any format that is known."""

from __future__ import annotations

from tasks.task import Task
from tasks.text import TLDR

TASK = Task("tldr", TLDR)
