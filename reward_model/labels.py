"""Text classifiers as reward models: the reward of a text is the log-odds of one of their labels.

    log p(label) − log(1 − p(label)),   p = softmax of the logits

For two labels that is the difference of their logits. It is not bounded, as the probability is, so that a policy still
has something to gain where the classifier is sure; above 0 means more likely than not. A classifier reads the text as
its own tokenizer writes it, special tokens included, as transformers' pipeline does. A review that is too long loses
its end; before a response it is the prompt that gives way. Left out: labels that do not exclude each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from trlx.utils.errors import UserError, nearest
from trlx.utils.pretrained import load_config

LABEL_FIELD = "reward_label"


def is_classifier(path: str | os.PathLike[str]) -> bool:
    """Whether the model in a folder or hub id has several labels. Raises: UserError when its config cannot be read."""
    return has_labels(load_config(path, "--reward_model"))


def has_labels(config: Any) -> bool:
    """Whether a model is a classifier: a reward model has one output."""
    return (config.num_labels or 1) > 1


def require_use_of_label(label: str | None, folders: Iterable[str]) -> None:
    """Refuse a label that no reward model has a use for.

    Args:
        label: as given; None for none. folders: of the reward models, or their hub ids.

    Raises: UserError when a label was given and none of them is a classifier.
    """
    if label is not None and not any(map(is_classifier, folders)):
        raise UserError(f"--reward_label {label}: no text classifier is among the reward models: leave it out")


def label_index(config: Any, label: str | None, path: str | os.PathLike[str]) -> int | None:
    """The place of the label that is the reward; None for a reward model, which has one output and no label.

    Args:
        config: of the model. label: as given; None takes what its config.json says.

    Raises: UserError for a label that a classifier has not, or when neither says one.
    """
    if not has_labels(config):
        return None
    if config.problem_type == "multi_label_classification":
        raise UserError(f"{path}: its labels do not exclude each other, so none has odds: name another classifier")
    labels = [str(config.id2label[index]) for index in range(config.num_labels)]
    wanted = label or getattr(config, LABEL_FIELD, None)
    if wanted is None:
        raise UserError(
            f"{path}: a classifier of {', '.join(labels)}: say with --reward_label which of them is the reward, or "
            f'write it into its config.json as "{LABEL_FIELD}"'
        )
    if wanted not in labels:
        raise UserError(
            f"{path}: no label '{wanted}'{nearest(wanted, labels)}: name one of its labels with --reward_label"
        )
    return labels.index(wanted)


def log_odds(logits: Tensor, index: int) -> Tensor:
    """Log-odds (B,) of the label at `index`, from logits (B, labels)."""
    others = torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1)
    return logits[:, index] - torch.logsumexp(others, dim=1)


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str, max_length: int | None = None) -> list[int]:
    """The ids of a text as the classifier reads it; with `max_length` at most so many, the end left out."""
    # Not verbose: a text longer than the model takes is about to be cut, which needs no warning.
    how = {} if max_length is None else {"truncation": True, "max_length": max_length}
    return list(tokenizer(text, verbose=False, **how)["input_ids"])
