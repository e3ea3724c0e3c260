"""What the sentiment examples share: films' reviews, prompts, and a judge of how positive a text is.

By default they come from the Hugging Face hub: the IMDB reviews and a DistilBERT that has learned to tell their
sentiment. With `{"miniature": true}` among the hparams, or `--miniature`, all is made by `sentiments_miniature.py`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trlx.data.configs import TRLConfig

Judge = Callable[[Sequence[str]], list[float]]


@dataclass
class Sentiments:
    """The task.

    Args:
        positive: gives each text the probability that it is positive, 0 to 1.
        reviews: whole texts. labels: 1 = positive, 0 = negative, one a review.
        eval_prompts: beginnings to be continued in evaluation.
        settings: of the run, where the task brings its own: model, tokenizer, sizes. Dotted names.
    """

    positive: Judge
    reviews: list[str]
    labels: list[int]
    eval_prompts: list[str]
    settings: dict[str, Any] = field(default_factory=dict)

    def prompts(self, words: int = 4) -> list[str]:
        """The first words of each review."""
        return [" ".join(review.split()[:words]) for review in self.reviews]


def read_hparams(argv: Sequence[str]) -> dict[str, Any]:
    """Settings from a script's command line: JSON, `--miniature`, both or neither."""
    texts = [text for text in argv if text != "--miniature"]
    hparams: dict[str, Any] = json.loads(texts[0]) if texts else {}
    return hparams | ({"miniature": True} if len(texts) < len(argv) else {})


def set_up(default: TRLConfig, hparams: Mapping[str, Any], method: str) -> tuple[TRLConfig, Sentiments]:
    """(the run's configuration, the task).

    Args:
        default: the configuration for the hub's models.
        hparams: dotted or nested settings that go before any other; "miniature" chooses the task.
        method: the example's name, e.g. "ppo"; the miniature has settings of its own for some.
    """
    hparams = dict(hparams)
    if hparams.pop("miniature", False):
        from examples.sentiments_miniature import miniature

        task = miniature(method)
    else:
        task = imdb()
    return TRLConfig.update(TRLConfig.update(default, task.settings), hparams), task


def imdb() -> Sentiments:
    """The hub's task: 50,000 reviews of films, and a classifier trained on them."""
    from datasets import load_dataset

    rows = load_dataset("stanfordnlp/imdb", split="train+test")
    return Sentiments(
        positive=lambda texts: _classify(texts),
        reviews=list(rows["text"]),
        labels=list(rows["label"]),
        eval_prompts=["I don't know much about Hungarian underground"] * 64,
    )


@functools.cache
def _classifier() -> Any:
    """Loaded at the first judgement, so only on the rank that judges."""
    import torch
    from transformers import pipeline

    return pipeline(
        "text-classification",
        "lvwerra/distilbert-imdb",
        top_k=None,
        truncation=True,
        batch_size=256,
        device=0 if torch.cuda.is_available() else -1,
    )


def _classify(texts: Sequence[str]) -> list[float]:
    return [next(row["score"] for row in rows if row["label"] == "POSITIVE") for rows in _classifier()(list(texts))]
