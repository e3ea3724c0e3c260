"""Posts of four lengths with summaries, on which any model can be tried without data."""

from __future__ import annotations

_SENTENCE = "My sister borrowed the car on Monday and has not brought it back. "


def _post(title: str, sentences: int, summary: str) -> tuple[str, str]:
    return f"SUBREDDIT: r/family\nTITLE: {title}\nPOST: {_SENTENCE * sentences}\nTL;DR:", summary


# (prompt, summary) from short to long; the longest is about 120 tokens of English.
TEXTS = (
    _post("Car", 1, "My sister has my car."),
    _post("My car", 2, "My sister keeps my car."),
    _post("Where is my car", 3, "My sister borrowed the car and it is not back yet."),
    _post("How do I get my car back from my sister", 5, "My sister borrowed my car. How do I ask for it?"),
)
