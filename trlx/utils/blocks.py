"""Finding the parts of any transformers language model: its decoder's blocks, norm and head; freezing from below.

No architecture is named: blocks are found by their number, what runs below them by running, the rest by the names that
transformers' own families share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from trlx.utils.errors import UserError

_FINAL_NORMS = ("ln_f", "final_layer_norm", "final_layernorm", "norm", "norm_f")


def decoder_of(model: Any) -> nn.Module:
    """The stack of blocks with its embeddings and final norm: the model without its head, or an encoder-decoder's
    decoder."""
    if model.config.is_encoder_decoder or model.get_output_embeddings() is not None:
        return model.get_decoder()
    return model  # a bare decoder


def find_blocks(model: Any) -> nn.ModuleList:
    """The decoder's list of blocks: the `ModuleList` with as many entries as the config has layers.

    Raises: UserError when there is none.
    """
    layers = count_layers(model.config, type(model).__name__)
    for module in (decoder_of(model) if model.config.is_encoder_decoder else model).modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return module
    raise UserError(f"cannot find the {layers} decoder blocks of {type(model).__name__}: this model is not supported")


def count_layers(config: Any, name: str | None = None) -> int:
    """Decoder blocks of a transformers config. Raises: UserError when it does not say, or for a BART or its like.

    Args:
        name: of whom the message speaks; None for the config's class.
    """
    name = name or type(config).__name__
    if config.is_encoder_decoder:
        if "num_decoder_layers" not in vars(config):
            reason = "of the encoder-decoders T5 is, whose positions do not count pads"
            raise UserError(f"{name} is not supported: {reason}")
        return int(config.num_decoder_layers)
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if layers is None:
        raise UserError(f"{name} has no num_hidden_layers: this model is not supported")
    return int(layers)


def find_final_norm(model: Any) -> nn.Module:
    """The norm after the last decoder block. Raises: UserError for a model without one (OPT 350m, say)."""
    blocks = find_blocks(model)
    stack = next(parent for parent in model.modules() if any(child is blocks for child in parent.children()))
    for name, module in stack.named_children():
        if name in _FINAL_NORMS:
            return module
    raise UserError(f"{type(model).__name__} has no final norm among {', '.join(_FINAL_NORMS)}")


def modules_before_blocks(model: Any, blocks: nn.ModuleList) -> set[nn.Module]:
    """The modules with own parameters that run before block 0, found by running: embeddings, positions, an encoder."""
    seen: set[nn.Module] = set()
    before: set[nn.Module] = set()
    handles = [
        module.register_forward_hook(lambda module, *_: seen.add(module))
        for module in model.modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    handles.append(blocks[0].register_forward_pre_hook(lambda *_: before.update(seen)))
    run_two_tokens(model, handles)
    return before


def run_two_tokens(model: Any, handles: Sequence[RemovableHandle] = (), **options: Any) -> None:
    """One small forward with the hooks in place, which are removed after it.

    Args:
        handles: of the hooks. options: further arguments of the model's forward.
    """
    try:
        tokens = torch.zeros(1, 2, dtype=torch.long, device=model.device)
        decoder = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
        with torch.no_grad():
            model(input_ids=tokens, use_cache=False, **decoder, **options)
    finally:
        for handle in handles:
            handle.remove()


def freeze_below(model: Any, num_layers_unfrozen: int) -> int:
    """Freeze all but the top blocks; nothing is ever unfrozen.

    Args:
        model: its parameters' `requires_grad` is set.
        num_layers_unfrozen: −1 freezes nothing; n > 0 freezes all but the top n blocks and everything that runs before
            block 0 (embeddings, positions, an encoder; so a tied head too), while final norm and an untied head keep
            training; 0 freezes everything.

    Returns: how many bottom blocks are frozen, with everything below them: 0 when nothing is.
    Raises: UserError when n exceeds the model's layers, or is below -1.
    """
    blocks = find_blocks(model)
    if not isinstance(num_layers_unfrozen, int) or num_layers_unfrozen < -1:
        raise UserError(
            f"model.num_layers_unfrozen is {num_layers_unfrozen!r}: it must be -1 (all train) or a number of top layers"
        )
    if num_layers_unfrozen > len(blocks):
        raise UserError(f"model.num_layers_unfrozen is {num_layers_unfrozen} but the model has {len(blocks)} layers")
    if num_layers_unfrozen < 0:
        return 0
    if num_layers_unfrozen == 0:
        model.requires_grad_(False)
        return len(blocks)
    for module in modules_before_blocks(model, blocks):
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    frozen = len(blocks) - num_layers_unfrozen
    for block in blocks[:frozen]:
        block.requires_grad_(False)
    return frozen
