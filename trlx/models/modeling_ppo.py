"""PPO's models and settings, under the names that trlX's users import."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.modeling_outputs import CausalLMOutputWithPast, Seq2SeqLMOutput

from trlx.data.kl_controllers import AdaptiveKLController, FixedKLController
from trlx.data.method_configs import PPOConfig
from trlx.models.heads import make_head
from trlx.models.policy import HydraValueHeadModel, ValueHeadModel

__all__ = [
    "AdaptiveKLController",
    "AutoModelForCausalLMWithHydraValueHead",
    "AutoModelForCausalLMWithValueHead",
    "AutoModelForSeq2SeqLMWithHydraValueHead",
    "AutoModelForSeq2SeqLMWithValueHead",
    "CausalLMOutputWithValue",
    "FixedKLController",
    "PPOConfig",
    "Seq2SeqLMOutputWithValue",
    "make_head",
]


@dataclass
class CausalLMOutputWithValue(CausalLMOutputWithPast):
    """A causal model's output with values, (B, T)."""

    value: Tensor | None = None


@dataclass
class Seq2SeqLMOutputWithValue(Seq2SeqLMOutput):
    """An encoder-decoder's output with values, (B, decoder positions)."""

    value: Tensor | None = None


class AutoModelForCausalLMWithValueHead(ValueHeadModel):
    """A causal language model with a critic."""

    _auto_model_parent_class = AutoModelForCausalLM
    output_class = CausalLMOutputWithValue


class AutoModelForCausalLMWithHydraValueHead(HydraValueHeadModel):
    """A causal language model with a critic and its frozen reference."""

    _auto_model_parent_class = AutoModelForCausalLM
    output_class = CausalLMOutputWithValue


class AutoModelForSeq2SeqLMWithValueHead(ValueHeadModel):
    """An encoder-decoder with a critic on its decoder."""

    _auto_model_parent_class = AutoModelForSeq2SeqLM
    output_class = Seq2SeqLMOutputWithValue


class AutoModelForSeq2SeqLMWithHydraValueHead(HydraValueHeadModel):
    """An encoder-decoder with a critic on its decoder and its frozen reference."""

    _auto_model_parent_class = AutoModelForSeq2SeqLM
    output_class = Seq2SeqLMOutputWithValue
