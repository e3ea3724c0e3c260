"""The reward model: transformers' own sequence-classification class with one label, so that anyone can load it.

That class reads the rightmost token that is not the pad token. Padding with EOS would therefore make it read the token
before EOS; so a pad token of its own is added and the embeddings are grown by a row. The class has no bias: the
normalising offset is the field `reward_offset` of its config, and `RewardScorer` subtracts it. Left out: encoders as
reward models can be loaded, not trained here. Text classifiers serve as reward models too: `reward_model.labels`.
"""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from reward_model.labels import has_labels, label_index
from trlx.models.branches import find_blocks
from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_config, load_model, load_tokenizer, require_vocabulary, require_whole

PAD_TOKEN = "<|padding|>"
OFFSET_FIELD = "reward_offset"
_OPTION = "--reward_model"  # what names a finished one


def load_reward_model(
    path: str | os.PathLike[str],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    label: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A finished reward model or classifier in eval mode and its tokenizer, from a folder or hub id.

    Args:
        label: of a classifier, as of `check_reward_model`.

    Raises: UserError as `check_reward_model`, and when weights are missing.
    """
    tokenizer = check_reward_model(path, label)
    model, missing = load_model(AutoModelForSequenceClassification, path, dtype, _OPTION)
    if missing:
        raise UserError(f"{path}: no reward model (weights {', '.join(sorted(missing))} are missing); train one first")
    model.config.use_cache = False  # a score needs no keys and values of earlier tokens
    return model.to(device).eval(), tokenizer


def check_reward_model(path: str | os.PathLike[str], label: str | None = None) -> PreTrainedTokenizerBase:
    """What can be said of a reward model without loading its weights; returns its tokenizer.

    Args:
        label: of a classifier, the one that is the reward; None for what its config.json says.

    Raises: UserError when it is another kind of model, a classifier of which no label is the reward, or its pad token
        is missing, is EOS or is another for the tokenizer.
    """
    config = load_config(path, _OPTION)
    # A classifier reads a whole text, which needs no mark at its end.
    tokenizer = load_tokenizer(path, _OPTION, needs_eos=not has_labels(config))
    kinds = config.architectures or []
    if kinds and not any("SequenceClassification" in kind for kind in kinds):
        raise UserError(f"{path}: no reward model but a {kinds[0]}; train one first (reward_model/), or name another")
    label_index(config, label, path)
    if config.pad_token_id is None or config.pad_token_id == tokenizer.eos_token_id:
        state = "missing" if config.pad_token_id is None else "EOS"
        raise UserError(
            f"{path}: its pad token is {state}, so the score would be read at the wrong token; "
            f"train it with a pad token of its own, such as {PAD_TOKEN}"
        )
    if tokenizer.pad_token_id != config.pad_token_id:
        raise UserError(f"{path}: tokenizer and config.json name different pad tokens; make pad_token_id the same")
    require_vocabulary(config, tokenizer, path)
    return tokenizer


def new_reward_tokenizer(path: str | os.PathLike[str], *, needs_eos: bool = True) -> PreTrainedTokenizerBase:
    """The tokenizer of a reward model to train: that of the folder or hub id, with a pad token that is not EOS.

    Args:
        needs_eos: whether one without EOS is refused; classifiers of whole texts need none.

    Raises: UserError when it is not of the model it lies with.
    """
    tokenizer = load_tokenizer(path, needs_eos=needs_eos)
    require_vocabulary(load_config(path), tokenizer, path)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    tokenizer.padding_side = "right"
    return tokenizer


def new_reward_model(path: str | os.PathLike[str], tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A reward model to train, float32: the trunk of a language model and a new head (or a reward model as it is).

    Uses torch's global random numbers for the head.

    Args:
        tokenizer: from `new_reward_tokenizer`; the embeddings grow by a row for its pad token.

    Raises: UserError when the class of its kind has no linear `score` head over tokens.
    """
    model, missing = load_model(AutoModelForSequenceClassification, path, num_labels=1)
    require_whole(missing - {"score.weight", "score.bias"}, path)
    head = score_head(model)
    if "score.weight" in missing:
        init_head(head)
    grow_embeddings(model, len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = False
    return model


def score_head(model: nn.Module) -> nn.Linear:
    """The head that maps each token's hidden state to its score. Raises: UserError for classes without one."""
    head = getattr(model, "score", None)
    if not isinstance(head, nn.Linear):
        raise UserError(
            f"{type(model).__name__} has no linear 'score' head over tokens; start from a decoder such as GPT-Neo"
        )
    return head


def init_head(head: nn.Linear) -> None:
    """Weights ~ N(0, 1/(d+1)), d the hidden size: scores of about unit variance (Stiennon et al. 2020, appendix B)."""
    nn.init.normal_(head.weight, std=(head.in_features + 1) ** -0.5)
    if head.bias is not None:
        nn.init.zeros_(head.bias)


def grow_embeddings(model: Any, vocabulary: int) -> None:
    """Give the model at least so many rows of embeddings; new ones are zero."""
    rows = model.get_input_embeddings().weight.shape[0]
    if vocabulary > rows:
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
        with torch.no_grad():
            model.get_input_embeddings().weight[rows:].zero_()


def freeze_bottom(model: PreTrainedModel, fraction: float) -> list[str]:
    """Stop training the bottom of the trunk; with `fraction` 0 everything is trained.

    Frozen are all embeddings (tokens and positions) and the lowest floor(fraction · L) of the L blocks. The blocks
    above, the final norm and the head are trained.

    Args:
        fraction: from 0 up to and including 1.

    Returns: the names of the frozen parameters.
    """
    if not 0 <= fraction <= 1:
        raise UserError(f"--frozen_fraction must lie between 0 and 1, not {fraction}")
    if fraction == 0:
        return []
    blocks = find_blocks(model)
    count = math.floor(fraction * len(blocks) + 1e-9)  # 0.29 · 100 is a little below 29 in floating point
    embeddings = [module for module in model.base_model.modules() if isinstance(module, nn.Embedding)]
    for module in [*embeddings, *list(blocks)[:count]]:
        module.requires_grad_(False)
    return [name for name, weight in model.named_parameters() if not weight.requires_grad]
