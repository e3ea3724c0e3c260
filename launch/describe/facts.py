"""What a reader asks of a model first, in sentences: how wide, how its attention and its feed-forward part are made."""

from __future__ import annotations

import math
from typing import Any

from launch.describe.anatomy import Anatomy, Blocks
from trlx.utils.modeling import hf_get_hidden_size, hf_get_num_hidden_layers


def facts(config: Any, found: Anatomy) -> list[str]:
    """Sentences, most general first."""
    block = found.blocks[0]
    return [_size(found), _shape(config, found), _attention(config), _feed_forward(config, block), _norms(block)]


def _size(found: Anatomy) -> str:
    numbers = found.numbers
    inside = sum(blocks.count * blocks.numbers for blocks in found.blocks)
    return (
        f"{found.kind}: {numbers:,} parameters ({_bytes(4 * numbers)} in float32, {_bytes(2 * numbers)} in 16 "
        f"bit), {100 * inside / numbers:.0f}% of them in the blocks."
    )


def _bytes(number: int) -> str:
    return f"{number / 1e9:.3g} GB" if number >= 1e9 else f"{number / 1e6:.3g} MB"


def _shape(config: Any, found: Anatomy) -> str:
    tied = any(step.tied for step in found.after)
    ends = "the matrix that reads tokens also predicts them" if tied else "reading and predicting have matrices apart"
    positions = getattr(config, "max_position_embeddings", None)
    reach = f", at most {positions:,} tokens" if positions else ""
    return (
        f"{hf_get_num_hidden_layers(config)} blocks on a stream of {hf_get_hidden_size(config):,} numbers a token"
        f"{reach}; vocabulary of {config.vocab_size:,}: {ends}."
    )


def _attention(config: Any) -> str:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or hf_get_hidden_size(config) // heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    groups = f", keys and values shared by groups of {heads // shared}" if shared < heads else ""
    kinds = list(dict.fromkeys(getattr(config, "attention_layers", [])))
    window = f" ({config.window_size} tokens back)" if "local" in kinds else ""
    turns = f"; blocks are {' and '.join(kinds)}{window} in turn" if len(kinds) > 1 else ""
    return f"Attention: {heads} heads of {width} numbers{groups}, each token to itself and those before it{turns}."


def _feed_forward(config: Any, block: Blocks) -> str:
    """Gated where more is computed than the last matrix of the block reads: a second matrix, or one twice as wide."""
    width = hf_get_hidden_size(config)
    last = [step for step in block.steps if step.output == width and any(len(shape) == 2 for _, shape in step.weights)]
    inner = math.prod(next(shape for _, shape in last[-1].weights if len(shape) == 2)) // width
    function = getattr(config, "hidden_act", None) or getattr(config, "activation_function", None) or "a function"
    place = last[-1].name.rpartition(".")[0]  # attention, which may have matrices as wide, lies elsewhere
    wider = [step for step in block.steps if step.name.rpartition(".")[0] == place and step.weights]
    into = [step.name for step in wider if step.output == inner]
    both = [step.name for step in wider if step.output == 2 * inner]
    back = f"and the {inner:,} products go back to {width:,}"
    if len(into) >= 2:
        return f"Feed-forward: a GLU, three matrices: {into[0]} through {function} times {into[1]}, {back}."
    if both:
        return f"Feed-forward: a GLU: one half of {both[0]} through {function} times the other, {back}."
    return f"Feed-forward: two matrices, {width:,} → {inner:,} → {width:,}, {function} between them; no gate (no GLU)."


def _norms(block: Blocks) -> str:
    first = next((step for step in block.steps if step.weights), None)
    if first is not None and "norm" in first.kind.lower():
        return "Norm: before attention and feed-forward (pre-norm); what a block adds goes into the stream as it is."
    return "Norm: after each sum (post-norm): what leaves a block is normalised."
