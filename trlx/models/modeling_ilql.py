"""ILQL's models and settings, under the names that trlX's users import (Snell et al. 2022, arXiv 2206.11871)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig, PreTrainedModel
from transformers.generation import LogitsProcessor, LogitsProcessorList
from transformers.modeling_outputs import ModelOutput

from trlx.data.ilql_config import ILQLConfig
from trlx.data.ilql_types import ILQLBatch, ILQLSeq2SeqBatch
from trlx.functional.ilql import at_positions
from trlx.functional.masking import position_ids as positions_of
from trlx.models.branches import freeze_bottom, head_inputs
from trlx.models.ilql_heads import ILQLHeads
from trlx.models.modeling_base import PreTrainedModelWrapper
from trlx.utils.errors import UserError
from trlx.utils.peft_models import bare_model, learns_a_prompt

__all__ = [
    "AutoModelForCausalLMWithILQLHeads",
    "AutoModelForSeq2SeqLMWithILQLHeads",
    "ILQLBatch",
    "ILQLConfig",
    "ILQLHeads",
    "ILQLOutput",
    "ILQLSeq2SeqBatch",
    "batched_index_select",
]

# What generation does unless told otherwise, as in trlX.
GENERATION_DEFAULTS: dict[str, Any] = {"beta": 1.0, "max_new_tokens": 32, "temperature": 1.0, "top_k": 20}


@dataclass
class ILQLOutput(ModelOutput):
    """A forward's output by name, `return_dict=True`; B batch, T positions, A actions, S states, V vocabulary."""

    logits: Tensor | None = None  # (B, T, V)
    qs: tuple[Tensor, ...] | None = None  # (B, A, V) a Q head
    target_qs: tuple[Tensor, ...] | None = None  # (B, A, V) a target head
    value: Tensor | None = None  # (B, S, 1)
    past_key_values: Any = None
    encoder_outputs: tuple[Any, Any, Any] | None = None  # of an encoder-decoder


def batched_index_select(x: Tensor, idxs: Tensor, dim: int = 1) -> Tensor:
    """(B, N, H) vectors of `x` (B, T, H) at `idxs` (B, N). Raises: UserError for another `dim` than 1."""
    if dim != 1:
        raise UserError(f"batched_index_select selects along dim=1, the positions, not dim={dim}")
    return at_positions(x, idxs)


def read_generation(options: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """(beta, transformers' options) from ILQL's, which sample unless the temperature is 0.

    Raises: UserError naming the option that has an impossible value.
    """
    given = {**GENERATION_DEFAULTS, **{name: value for name, value in options.items() if value is not None}}
    beta = given.pop("beta")
    least = {"temperature": 0, "top_k": 0, "max_new_tokens": 1}
    for name, value in {"beta": beta, **{name: given[name] for name in least}}.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"generation option '{name}' must be a number, not {value!r}")
        if name in least and value < least[name]:
            raise UserError(f"generation option '{name}' is {value}: it must be at least {least[name]}")
    given["do_sample"] = bool(given.get("do_sample", True)) and given["temperature"] > 0
    if given["temperature"] == 0:
        given["temperature"] = 1.0
    return float(beta), given


class _ForbiddenNext(LogitsProcessor):
    """Forbids tokens by the one before them: those where `logit_mask` (V, V), row = the token before, is True.

    A smaller mask leaves the ids beyond it free.
    """

    def __init__(self, logit_mask: Tensor, vocabulary: int, device: torch.device):
        rows, columns = logit_mask.shape
        spare = (0, vocabulary - columns, 0, vocabulary - rows)
        self.logit_mask = nn.functional.pad(logit_mask.to(device).bool(), spare)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores.masked_fill(self.logit_mask[input_ids[:, -1]], float("-inf"))


class _ILQLModel(PreTrainedModelWrapper):
    """A language model with ILQL's heads.

    Args:
        base_model: see `PreTrainedModelWrapper`.
        two_qs, alpha: see `ILQLHeads`.
        num_layers_unfrozen: see `freeze_bottom`; without effect on a model with adapters.
    """

    _supported_args = ("two_qs", "alpha", "num_layers_unfrozen")

    def __init__(
        self, base_model: PreTrainedModel, two_qs: bool = True, alpha: float = 0.99, num_layers_unfrozen: int = -1
    ):
        super().__init__(base_model)
        self.two_qs, self.alpha = two_qs, alpha
        if self.bare is base_model:
            freeze_bottom(base_model, num_layers_unfrozen)
        # OPT 350m projects its states down before the output embeddings, so their width counts.
        vocabulary, hidden = self.bare.get_output_embeddings().weight.shape
        self.ilql_heads = ILQLHeads(hidden, vocabulary, two_qs, alpha, self.bare.dtype)

    @property
    def bare(self) -> PreTrainedModel:
        """transformers' own model, also where peft wraps it."""
        return bare_model(self.base_model)

    def sync_target_q_heads(self) -> None:
        """Let the target Q heads follow the Q heads, see `ILQLHeads`."""
        self.ilql_heads.sync_target_q_heads()

    def _run(self, inputs: dict[str, Any], width: int) -> tuple[Any, Tensor, Tensor]:
        """(outputs, logits (B, T, V), states (B, T, H)) at the last `width` positions: learned prompts come before."""
        with head_inputs(self.bare) as states:
            outputs = self.base_model(**self.get_compatible_forward_kwargs(**inputs))
        return outputs, outputs.logits[:, -width:], states[0][:, -width:]

    @contextlib.contextmanager
    def steered(self, beta: float) -> Iterator[None]:
        """Within the block the bare model's forward gives the last position's logits as ILQL samples from them.

        Those are log π(a|s) + β (min Q_target(s, a) − V(s)), (B, 1, V) float32; whatever generates with the model then
        generates by ILQL. β = 0 leaves the model alone.
        """
        if beta == 0:
            yield
            return

        def steer(_: nn.Module, __: Any, output: Any) -> Any:
            output.logits = self.ilql_heads.steer(output.logits[:, -1:], states.pop()[:, -1:], beta)
            states.clear()
            return output

        with head_inputs(self.bare) as states:
            handle = self.bare.register_forward_hook(steer)
            try:
                yield
            finally:
                handle.remove()

    @torch.no_grad()
    def _generate(self, ids: Tensor, mask: Tensor | None, room: int, logit_mask: Tensor | None, **given: Any) -> Tensor:
        """transformers' `generate` with the logits steered; `room`: new tokens that `max_length` leaves."""
        ends = self._ends(given.pop("eos_token_id"), given.pop("pad_token_id"))
        of_decoder = ("decoder_input_ids", "decoder_attention_mask")
        start = {name: given.pop(name) for name in of_decoder if given.get(name) is not None}
        beta, options = read_generation(given)
        if room < 1:
            raise UserError("generation option 'max_length' leaves no room for new tokens after the prompts: raise it")
        options["max_new_tokens"] = min(options["max_new_tokens"], room)
        processors = []
        if logit_mask is not None:
            processors.append(_ForbiddenNext(logit_mask, self.ilql_heads.vocab_size, ids.device))
        was_training = self.training
        self.eval()
        with self.steered(beta):
            made: Tensor = self.base_model.generate(  # type: ignore[operator]
                input_ids=ids,
                attention_mask=_real(ids, ends["pad_token_id"]) if mask is None else mask,
                generation_config=GenerationConfig(top_p=1.0, use_cache=True, **options, **ends),
                logits_processor=LogitsProcessorList(processors),
                **start,
            )
        self.train(was_training)
        return made

    def _ends(self, eos: int | list[int] | None, pad: int | None) -> dict[str, Any]:
        """The end-of-sequence and pad ids, by default the model's; an end pads where there is no pad."""
        eos = self.bare.generation_config.eos_token_id if eos is None else eos
        pad = self.bare.generation_config.pad_token_id if pad is None else pad
        if pad is None:
            pad = eos[0] if isinstance(eos, list) else eos
        return {"eos_token_id": eos, "pad_token_id": pad}


def _real(ids: Tensor, pad_token_id: int | None) -> Tensor:
    """(B, T) long, 0 = a pad on the left. The last token is real, and so is what looks like a pad between others."""
    if pad_token_id is None:
        return torch.ones_like(ids)
    real = ids.ne(pad_token_id)
    real[:, -1] = True
    return real.long().cumsum(dim=1).ne(0).long()


class AutoModelForCausalLMWithILQLHeads(_ILQLModel):
    """A causal language model with ILQL's heads."""

    _auto_model_parent_class = AutoModelForCausalLM

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        actions_ixs: Tensor | None = None,
        states_ixs: Tensor | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Logits everywhere, Q values before actions and V of states.

        Args:
            input_ids: (B, T) ids. attention_mask: (B, T), 1 = real token; positions follow from it unless given.
            past_key_values: a cache, whose tokens the mask then covers too.
            actions_ixs: (B, A) positions before actions. states_ixs: (B, S) positions; both all T when None.

        Returns: (logits (B, T, V), Q values, target Q values, V, the cache), see `ILQLHeads.forward`; by name with
            `return_dict`.
        """
        width = input_ids.shape[1]
        if position_ids is None and attention_mask is not None and not learns_a_prompt(self.base_model):
            position_ids = positions_of(attention_mask)[:, -width:]
        inputs = {"position_ids": position_ids, "past_key_values": past_key_values}
        outputs, logits, states = self._run({"input_ids": input_ids, "attention_mask": attention_mask, **inputs}, width)
        made = (logits, *self.ilql_heads(states, states_ixs, actions_ixs), outputs.past_key_values)
        return ILQLOutput(*made) if return_dict else made

    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        beta: float = 1.0,
        max_new_tokens: int = 32,
        max_length: int = 1024,
        temperature: float = 1.0,
        top_k: int = 20,
        logit_mask: Tensor | None = None,
        pad_token_id: int | None = None,
        eos_token_id: int | None = None,
    ) -> Tensor:
        """Sample from softmax((log π + β (min Q_target − V)) / temperature), cut to the `top_k` likeliest tokens.

        Args:
            input_ids: (B, P) left-padded ids. attention_mask: (B, P), 1 = real; by default all but pads on the left.
            beta: 0 is the language model. temperature: 0 takes the likeliest token. top_k: 0 = all.
            max_length: of prompt and response together.
            logit_mask: (V, V) bool, True = the column's token must not follow the row's.
            pad_token_id, eos_token_id: the model's own by default.

        Returns: (B, P + R) ids, padded on the right.
        Raises: UserError naming an option with an impossible value.
        """
        options = {"beta": beta, "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k}
        ends = {"pad_token_id": pad_token_id, "eos_token_id": eos_token_id}
        room = max_length - input_ids.shape[1]
        return self._generate(input_ids, attention_mask, room, logit_mask, **options, **ends)


class AutoModelForSeq2SeqLMWithILQLHeads(_ILQLModel):
    """An encoder-decoder with ILQL's heads on its decoder."""

    _auto_model_parent_class = AutoModelForSeq2SeqLM

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        past_key_values: Any = None,
        encoder_outputs: Any = None,
        actions_ixs: Tensor | None = None,
        states_ixs: Tensor | None = None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        decoder_attention_mask: Tensor | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Logits everywhere, Q values before actions and V of states; positions are the decoder's.

        Args:
            input_ids: (B, T) ids of the encoder. attention_mask: (B, T), 1 = real token.
            decoder_input_ids: (B, D) ids, the start token first. decoder_attention_mask: (B, D), 1 = real token.
            past_key_values, encoder_outputs: of an earlier pass.
            actions_ixs: (B, A) positions before actions. states_ixs: (B, S) positions; both all D when None.

        Returns: (logits (B, D, V), Q values, target Q values, V, the cache, the encoder's outputs); by name with
            `return_dict`.
        Raises: UserError without `decoder_input_ids`.
        """
        if decoder_input_ids is None:
            raise UserError("decoder_input_ids is missing: give the decoder's start token and the output so far")
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "decoder_input_ids": decoder_input_ids,
            "decoder_attention_mask": decoder_attention_mask,
            "past_key_values": past_key_values,
            "encoder_outputs": encoder_outputs,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
        }
        outputs, logits, states = self._run(inputs, decoder_input_ids.shape[1])
        encoder = (outputs.encoder_last_hidden_state, outputs.encoder_hidden_states, outputs.encoder_attentions)
        made = (logits, *self.ilql_heads(states, states_ixs, actions_ixs), outputs.past_key_values, encoder)
        return ILQLOutput(*made) if return_dict else made

    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        beta: float = 1.0,
        max_new_tokens: int = 32,
        max_length: int = 1024,
        temperature: float = 1.0,
        top_k: int = 20,
        logit_mask: Tensor | None = None,
        pad_token_id: int | None = None,
        eos_token_id: int | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """The same as of a causal model, after the decoder's start (`decoder_input_ids` (B, D), by default its token).

        Returns: (B, D + R) decoder ids, padded on the right; `max_length` counts them.
        """
        options = {"beta": beta, "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k}
        own = {"pad_token_id": pad_token_id, "eos_token_id": eos_token_id, "decoder_input_ids": decoder_input_ids}
        own["decoder_attention_mask"] = decoder_attention_mask
        room = max_length - (1 if decoder_input_ids is None else decoder_input_ids.shape[1])
        return self._generate(input_ids, attention_mask, room, logit_mask, **options, **own)
