"""Rewards from a text classifier: the probability of one of its labels, found by plain PyTorch or by a pipeline.

Any sequence classifier of transformers will do that has two labels or more. Texts longer than it reads are cut.
Left out: classifiers that give scores (one label), or several labels to a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_config, load_model

Score = Callable[[Sequence[str]], list[float]]
AT_ONCE = 64  # texts in a batch


def positive(p: float) -> float:
    """The more the judge is convinced, the better."""
    return p


def negative(p: float) -> float:
    """The more it is convinced of the contrary, the better."""
    return 1.0 - p


def neutral(p: float) -> float:
    """1 where the judge cannot tell (p = 1/2), falling in a straight line to 0 where it is certain."""
    return 1.0 - abs(2.0 * p - 1.0)


GOALS: dict[str, Callable[[float], float]] = {"positive": positive, "negative": negative, "neutral": neutral}


@dataclass
class Judge:
    """A classifier and the label whose probability is asked for.

    Args:
        model, tokenizer: as transformers loads them. label: as the model's config names it.
        length: tokens that it reads of a text.
    """

    model: Any
    tokenizer: Any
    label: str
    length: int

    @property
    def labels(self) -> list[str]:
        return names_of(self.model.config)


def load_judge(path: str, label: str | None = None) -> Judge:
    """A classifier from a folder or the hub.

    Args:
        label: one of its labels, in capitals or not; None for "positive".

    Raises: UserError when it cannot be read, or has no such label.
    """
    wanted = choose_label(names_of(load_config(path, "--reward_model")), label, path)
    model, missing = load_model(AutoModelForSequenceClassification, path, named_by="--reward_model")
    if missing:
        raise UserError(f"{path} is no trained classifier (it lacks {min(missing)}): give one as --reward_model")
    tokenizer = AutoTokenizer.from_pretrained(path)
    length = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Judge(model.eval().to(device), tokenizer, wanted, length)


def names_of(config: Any) -> list[str]:
    """A classifier's labels, in the order of its outputs."""
    return [str(config.id2label[number]) for number in range(config.num_labels)]


def choose_label(names: Sequence[str], wanted: str | None, path: str) -> str:
    """The name that is `wanted` but for capitals. Raises: UserError naming the labels that there are."""
    there = ", ".join(names)
    if len(names) < 2:
        raise UserError(f"{path} has one label ({there}), so its probability is always 1: give another --reward_model")
    for name in names:
        if name.lower() == (wanted or "positive").lower():
            return name
    raise UserError(f"{path} has no label '{wanted or 'positive'}': give --label as one of {there}")


@torch.no_grad()
def by_torch(judge: Judge, texts: Sequence[str]) -> list[float]:
    """Each text's probability of the judge's label: tokens, logits, softmax, one column of it."""
    column = judge.labels.index(judge.label)
    scores: list[float] = []
    for start in range(0, len(texts), AT_ONCE):
        batch = judge.tokenizer(
            list(texts[start : start + AT_ONCE]),
            padding=True,
            truncation=True,
            max_length=judge.length,
            return_tensors="pt",
        ).to(judge.model.device)
        logits = judge.model(**batch).logits  # (B, labels)
        scores += logits.softmax(dim=-1)[:, column].tolist()
    return scores


def by_pipeline(judge: Judge) -> Score:
    """The same number from transformers' pipeline, which gives every label's score: the one asked for is picked out."""
    classify = pipeline(
        "text-classification", judge.model, tokenizer=judge.tokenizer, device=judge.model.device,
        top_k=len(judge.labels), truncation=True, max_length=judge.length, batch_size=AT_ONCE,
        function_to_apply="softmax",
    )  # fmt: skip

    def score(texts: Sequence[str]) -> list[float]:
        found: Any = classify(list(texts))  # a list of {"label", "score"} for each text
        return [next(row["score"] for row in rows if row["label"] == judge.label) for rows in found]

    return score


def reward_fn(score: Score, goal: str) -> Callable[..., list[float]]:
    """What `trlx.train` takes: whole samples in, one number each out. The end of text is no text for the judge."""

    def reward(samples: Sequence[str], tokenizer: Any, **_: Any) -> list[float]:
        texts = [sample.removesuffix(tokenizer.eos_token) for sample in samples]
        return [GOALS[goal](p) for p in score(texts)]

    return reward
