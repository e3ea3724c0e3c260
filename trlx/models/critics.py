"""What estimates the value of a state: a head on the policy's hidden states, a branch of its own, or a whole model.

All three offer `watching`, entered around the policy's forward, and `values`, called after it.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from trlx.functional.masking import position_ids
from trlx.models.branches import Trunk, find_blocks, head_inputs, modules_before_blocks, swapped
from trlx.models.heads import make_head
from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_model


class ValueHead(nn.Sequential):
    """trlX's head on the policy's last hidden states: critic and policy share the whole trunk."""

    def __init__(self, hidden_size: int):
        super().__init__(*make_head(hidden_size, 1))

    def watching(self) -> contextlib.AbstractContextManager[list[Tensor]]:
        """It needs nothing but the hidden states."""
        return contextlib.nullcontext([])

    def values(self, model: PreTrainedModel, inputs: dict[str, Any], hidden: Tensor, seen: Sequence[Tensor]) -> Tensor:
        """(B, N) values of N positions.

        Args:
            model: the policy. inputs: what its forward was given.
            hidden: (B, N, H) what entered its output embeddings. seen: what `watching` kept.
        """
        return self(hidden).squeeze(-1)


class ValueBranch(nn.Module):
    """Trainable copies of a model's top blocks and final norm, with a head.

    It starts from the state that enters the policy's own top blocks, detached: the value loss trains the branch alone.

    Args:
        model: a causal language model. layers: how many top blocks to copy, fewer than it has.

    Raises: UserError for more layers than that.
    """

    def __init__(self, model: PreTrainedModel, layers: int, hidden_size: int):
        super().__init__()
        blocks = find_blocks(model)
        if model.config.is_encoder_decoder or not 0 < layers < len(blocks):
            raise UserError(
                f"method.num_value_layers_unfrozen is {layers}: a value branch has fewer layers than the causal model, "
                f"which has {len(blocks)}; for a critic of its own name a reward model in model.critic_path"
            )
        self.trunk = Trunk(model, len(blocks) - layers)
        self._head_place = _place_of(model, model.get_output_embeddings())
        self._places: list[tuple[nn.Module, str]] = [(blocks, str(i)) for i in range(len(blocks) - layers, len(blocks))]
        self._places += _after_blocks(model, blocks)
        originals = [parent._modules[name] for parent, name in self._places]
        self.copies = nn.ModuleList([copy.deepcopy(module).requires_grad_(True) for module in originals if module])
        self.v_head = make_head(hidden_size, 1)

    def watching(self) -> contextlib.AbstractContextManager[list[Tensor]]:
        """Keeps the state that enters the policy's top blocks."""
        return self.trunk.keeping()

    def values(self, model: PreTrainedModel, inputs: dict[str, Any], hidden: Tensor, seen: Sequence[Tensor]) -> Tensor:
        """(B, N) values; see `ValueHead.values`."""
        copies = [(*place, module) for place, module in zip(self._places, self.copies, strict=True)]
        no_logits = (*self._head_place, nn.Identity())
        with self.trunk.replaying(seen[0].detach()), swapped([*copies, no_logits]), head_inputs(model) as states:
            model(**inputs)
        return self.v_head(states[0]).squeeze(-1)


class SeparateCritic(nn.Module):
    """A reward model as the critic: its score after each prefix is the first estimate of the value there.

    Args:
        model: transformers' `...ForSequenceClassification` of one label with a linear `score` head over tokens.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model
        self._takes_positions = "position_ids" in inspect.signature(model.base_model.forward).parameters

    @classmethod
    def from_pretrained(cls, source: str, vocab_size: int) -> SeparateCritic:
        """From a reward model's folder or hub id, float32, dropout off.

        Raises: UserError when it has other than one label or no `score` head, or knows fewer tokens than the policy.
        """
        model, _ = load_model(AutoModelForSequenceClassification, source, num_labels=1)
        if not isinstance(getattr(model, "score", None), nn.Linear):
            raise UserError(
                f"{source}: a critic needs a linear 'score' head over tokens, as decoders such as GPT-Neo have"
            )
        known = model.get_input_embeddings().weight.shape[0]
        if known < vocab_size:
            raise UserError(
                f"{source}: knows {known} tokens and the policy {vocab_size}; the critic must share its tokenizer"
            )
        model.config.use_cache = False
        return cls(model)

    def watching(self) -> contextlib.AbstractContextManager[list[Tensor]]:
        """It reads the tokens itself."""
        return contextlib.nullcontext([])

    def values(self, model: PreTrainedModel, inputs: dict[str, Any], hidden: Tensor, seen: Sequence[Tensor]) -> Tensor:
        """(B, N) values; see `ValueHead.values`."""
        given: dict[str, Any] = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
        mask = given.get("attention_mask")
        if self._takes_positions and mask is not None:
            given["position_ids"] = position_ids(mask)
        states = self.model.base_model(**given, use_cache=False).last_hidden_state
        score: nn.Linear = self.model.score  # type: ignore[assignment]
        places = inputs.get("logits_to_keep", slice(None))
        return score(states[:, places]).squeeze(-1)


def _place_of(model: nn.Module, wanted: nn.Module | None) -> tuple[nn.Module, str]:
    for parent in model.modules():
        for name, module in parent.named_children():
            if module is wanted:
                return parent, name
    raise UserError(f"{type(model).__name__} has no output embeddings of its own: this model is not supported")


def _after_blocks(model: PreTrainedModel, blocks: nn.ModuleList) -> list[tuple[nn.Module, str]]:
    """Where the modules with own parameters lie that run between the blocks and the head: the final norm, mostly."""
    inside = {id(module) for block in blocks for module in block.modules()}
    before = {id(module) for module in modules_before_blocks(model, blocks)}
    before.add(id(model.get_output_embeddings()))
    return [
        (parent, name)
        for parent in model.modules()
        for name, module in parent.named_children()
        if next(module.parameters(recurse=False), None) is not None and id(module) not in inside | before
    ]
