"""Tensors, statistics and parts of models under the names that scripts written for trlX import.

`hf_get_branch_class` and the branch classes have no counterpart: parts of a model are run through its own forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import PreTrainedConfig

from trlx.functional.logprobs import logprobs_of_tokens
from trlx.functional.masking import masked_moments, masked_sum, mean_and_variance
from trlx.utils import moments
from trlx.utils.blocks import count_layers, decoder_of, find_blocks, find_final_norm, freeze_below
from trlx.utils.errors import UserError


def make_head(n_embd: int, out: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Linear(H, 2H), ReLU, Linear(2H, out): trlX's head, for values (1 output) and Q values (V outputs)."""
    return nn.Sequential(nn.Linear(n_embd, 2 * n_embd, dtype=dtype), nn.ReLU(), nn.Linear(2 * n_embd, out, dtype=dtype))


def freeze_bottom_causal_layers(model: Any, num_layers_unfrozen: int = 0) -> None:
    """Freeze what lies below the top `num_layers_unfrozen` blocks; 0 freezes everything, −1 nothing.

    Raises: UserError when the model has fewer blocks.
    """
    freeze_below(model, num_layers_unfrozen)


def freeze_bottom_seq2seq_layers(model: Any, num_layers_unfrozen: int = 0) -> None:
    """The same for an encoder-decoder: the encoder, shared embeddings and the decoder's bottom blocks.

    Raises: UserError when the decoder has fewer blocks.
    """
    freeze_below(model, num_layers_unfrozen)


def hf_get_decoder(model: Any) -> nn.Module:
    """The stack of decoder blocks with its embeddings and final norm, without the head."""
    return decoder_of(model)


def hf_get_decoder_blocks(model: Any) -> nn.ModuleList:
    """The decoder's blocks, bottom first. Raises: UserError when they cannot be found."""
    return find_blocks(model)


def hf_get_decoder_final_norm(model: Any) -> nn.Module:
    """The norm after the last decoder block. Raises: UserError when there is none."""
    return find_final_norm(model)


def hf_get_lm_head(model: Any) -> nn.Module:
    """The output embeddings. Raises: UserError for a model without a language-model head."""
    head = model.get_output_embeddings()
    if head is None:
        raise UserError(f"{type(model).__name__} has no language-model head: load it with an AutoModelFor...LM class")
    return head


def hf_get_hidden_size(config: PreTrainedConfig) -> int:
    """Width of the hidden states. Raises: UserError when the config does not say."""
    size = getattr(config.get_text_config(), "hidden_size", None)
    if size is None:
        raise UserError(f"{type(config).__name__} has no hidden_size: this model is not supported")
    return int(size)


def hf_get_num_hidden_layers(config: PreTrainedConfig) -> int:
    """Number of decoder blocks, which `num_layers_unfrozen` counts. Raises: UserError when the config does not say."""
    return count_layers(config)


def get_global_statistics(xs: Tensor, group: Any = None) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, population variance, count) of every element on all ranks, in the dtype of `xs`, of any shape.

    A collective where there is a process group: every rank of `group` must call it; ranks may hold unequally many.
    """
    mean, variance, count = _statistics(xs, dist.is_initialized(), group)
    return mean.to(xs.dtype), variance.to(xs.dtype), count.to(xs.dtype)


def whiten(xs: Tensor, shift_mean: bool = True, distributed: bool = True, group: Any = None) -> Tensor:
    """(xs − mean) / sqrt(variance + 1e-8) over every element, with the unbiased variance, on one rank or many.

    Pads count too: `trlx.functional.masking.whiten` takes a mask.

    Args:
        xs: any shape. shift_mean: False adds the mean back.
        distributed: over all ranks of `group` (a collective), where there is a process group.
    """
    mean, variance, count = _statistics(xs, distributed and dist.is_initialized(), group)
    unbiased = (variance * count / (count - 1).clamp(min=1)).to(xs.dtype)
    whitened = (xs - mean.to(xs.dtype)) * torch.rsqrt(unbiased + 1e-8)
    return whitened if shift_mean else whitened + mean.to(xs.dtype)


def _statistics(xs: Tensor, all_ranks: bool, group: Any) -> tuple[Tensor, Tensor, Tensor]:
    sums = torch.stack(masked_moments(xs.detach(), torch.ones_like(xs, dtype=torch.bool)))
    if all_ranks:
        dist.all_reduce(sums, dist.ReduceOp.SUM, group=group)
    return (*mean_and_variance(*sums), sums[0])


def logprobs_of_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """log softmax(logits) of the labels in nats: (B, T) float32 from (B, T, V) logits and (B, T) ids.

    Logits and labels are aligned already: pass `logits[:, :-1]` and `ids[:, 1:]`.
    """
    return logprobs_of_tokens(logits, labels)


def get_tensor_stats(xs: Tensor, mask: Tensor, n: int | Tensor) -> dict[str, Tensor]:
    """Mean, min, max and standard deviation over real elements; 0 when there are none.

    Args:
        xs: any shape; pads may hold anything. mask: the same shape, True (or 1) = real element.
        n: how many real elements there are.
    """
    real = mask.bool()
    if not bool(real.any()):
        return {name: xs.new_zeros(()) for name in ("mean", "min", "max", "std")}
    kept = xs[real]
    mean = masked_sum(xs, real) / n
    return {
        "mean": mean,
        "min": kept.min(),
        "max": kept.max(),
        "std": (masked_sum((xs - mean).square(), real) / n).sqrt(),
    }


class RunningMoments:
    """Mean and spread of a stream of scores of which each rank sees its share.

    Attributes: count (scores so far, on all ranks), mean, var (population), std (unbiased; 1 before there are two
    scores, or when they are all equal, so that one can always divide by it), in the dtype of the scores seen last.
    """

    def __init__(self) -> None:
        self._moments, self._dtype = moments.RunningMoments(), torch.float32

    @property
    def count(self) -> int:
        return self._moments.count

    @property
    def mean(self) -> Tensor:
        return torch.tensor(self._moments.mean, dtype=self._dtype)

    @property
    def var(self) -> Tensor:
        return torch.tensor(self._moments.var, dtype=self._dtype)

    @property
    def std(self) -> Tensor:
        return torch.tensor(self._moments.std, dtype=self._dtype)

    def update(self, xs: Tensor) -> tuple[Tensor, Tensor]:
        """Take in this rank's scores, of any shape; a collective where there is a process group.

        Returns: (mean, unbiased standard deviation) of this batch over all ranks; the latter 0 for fewer than two.
        """
        self._dtype = xs.dtype if xs.is_floating_point() else torch.float32
        mean, variance, count = get_global_statistics(xs.double())
        if count > 0:
            self._moments.merge(int(count), mean.item(), (variance * count).item())
        std = (variance * count / (count - 1).clamp(min=1)).sqrt()
        return mean.to(self._dtype), std.to(self._dtype)


def flatten_dict(d: Mapping[str, Any], parent_key: str = "", sep: str = "/") -> dict[str, Any]:
    """Nested mappings as one, keys joined: {"a": {"b": 1}} becomes {"a/b": 1}.

    Args:
        parent_key: put before every key. sep: between them.
    """
    flat: dict[str, Any] = {}
    for key, value in d.items():
        name = f"{parent_key}{sep}{key}" if parent_key else str(key)
        flat |= flatten_dict(value, name, sep) if isinstance(value, Mapping) else {name: value}
    return flat


def gather_dict(obj: Mapping[str, list[Any]], grad_state: Any = None) -> dict[str, list[Any]]:
    """The lists of every rank, joined in rank order; the given ones without a process group. A collective.

    Args:
        obj: the same keys on every rank.
        grad_state: accelerate's `GradientState`; at a loader's end the rows it repeated to fill the last batch are cut.
    """
    joined = {name: list(values) for name, values in obj.items()}
    if not dist.is_initialized():
        return joined
    ranks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, joined)
    joined = {name: [value for rank in ranks for value in rank[name]] for name in joined}
    if grad_state is not None and grad_state.end_of_dataloader and grad_state.remainder > 0:
        joined = {name: values[: grad_state.remainder] for name, values in joined.items()}
    return joined
