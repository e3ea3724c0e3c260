"""A text classifier in training: its texts and labels as rows, its loss and accuracy, and the model itself.

Left out: how a classifier's logits become a reward (`reward_model.labels`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from reward_model.encoding import right_pad
from reward_model.labels import LABEL_FIELD, label_index, text_ids
from reward_model.model import grow_embeddings, init_head
from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_config, load_model, require_whole

METRICS = ("loss", "accuracy", "positive_share")


def new_classifier(
    path: str | os.PathLike[str], tokenizer: PreTrainedTokenizerBase, labels: Sequence[str], reward_label: str
) -> PreTrainedModel:
    """A classifier to train, float32: the trunk of a language model or encoder and a new head (or one as it is).

    Args:
        tokenizer: from `reward_model.model.new_reward_tokenizer`; the embeddings grow by a row for its pad token.
        labels: their names, in order. reward_label: the one that is the reward, kept in the config.

    Raises: UserError when weights of the trunk are missing, there is no such label, or it is a classifier of others.
    """
    names = dict(enumerate(labels))
    known = load_config(path)
    if any("SequenceClassification" in kind for kind in known.architectures or []) and known.id2label != names:
        there = ", ".join(str(name) for name in known.id2label.values())
        raise UserError(
            f"{path}: a classifier of {there}, which its head would go on to mean: name one of {', '.join(labels)}"
        )
    ids = {name: index for index, name in names.items()}
    model, missing = load_model(AutoModelForSequenceClassification, path, id2label=names, label2id=ids)
    trunk = f"{model.base_model_prefix}."
    require_whole({name for name in missing if name.startswith(trunk) and ".pooler." not in name}, path)
    label_index(model.config, reward_label, path)
    if "score.weight" in missing:
        init_head(model.score)
    grow_embeddings(model, len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = False
    setattr(model.config, LABEL_FIELD, reward_label)
    return model


def encode_texts(
    texts: Iterable[tuple[str, int]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[dict[str, Any]]:
    """`input_ids` and `label` of each (text, label); a text of more than `max_length` tokens loses its end."""
    for text, label in texts:
        yield {"input_ids": text_ids(tokenizer, text, max_length), "label": label}


@dataclass(frozen=True)
class TextCollator:
    """Batches B texts, right-padded."""

    pad_token_id: int

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Returns `input_ids` and `attention_mask` (1 = real), (B, T) long; `labels` and `rows` (B,) long."""
        ids, mask = right_pad([sample["input_ids"] for sample in samples], self.pad_token_id)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": torch.tensor([sample["label"] for sample in samples]),
            "rows": torch.tensor([sample["row"] for sample in samples]),
        }


class LabelObjective:
    """Cross-entropy of the true labels; the mean over the B texts of a batch."""

    def __call__(self, model: nn.Module, batch: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
        """`model` may be wrapped for DDP or DeepSpeed, whose own forward runs."""
        return cross_entropy(self._logits(model, batch), batch["labels"])

    def measure(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
        """Sums of an evaluation batch: loss, accuracy, and how many are taken for the last label."""
        logits, labels = self._logits(model, batch), batch["labels"]
        texts, found = float(len(labels)), logits.argmax(dim=1)
        return {
            "loss": (cross_entropy(logits, labels, reduction="sum").item(), texts),
            "accuracy": ((found == labels).sum().item(), texts),
            "positive_share": ((found == logits.shape[1] - 1).sum().item(), texts),
        }

    @staticmethod
    def _logits(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """(B, labels) in float32."""
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
