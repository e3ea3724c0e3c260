"""The two ways in which summaries are made to be judged; what is recorded of a run is what was used."""

from __future__ import annotations

from typing import Any

# For tables: the most likely token each time.
GREEDY: dict[str, Any] = {"do_sample": False}
# For distances and frontiers: the policy's own distribution, temperature 1 and nothing cut off.
UNCUT: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


def up_to(max_new_tokens: int, how: dict[str, Any]) -> dict[str, Any]:
    """`GREEDY` or `UNCUT` with the longest response, as the engine's generation takes them."""
    return {"max_new_tokens": max_new_tokens, **how}
