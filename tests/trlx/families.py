"""Tiny random models of the families that are supported, and which of their parts is called what."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    T5Config,
)

from trlx.models.modeling_ppo import AutoModelForCausalLMWithHydraValueHead, AutoModelForSeq2SeqLMWithHydraValueHead

EOS, PAD, VOCAB, LAYERS = 0, 1, 61, 3
WINDOW = 4  # of families with local attention: shorter than every sequence of these tests
_ENDS: dict[str, Any] = {"bos_token_id": EOS, "eos_token_id": EOS, "pad_token_id": PAD}
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    **_ENDS,
}
_POSITIONS: dict[str, Any] = {"max_position_embeddings": 48}
_LLAMA: dict[str, Any] = {**_COMMON, **_POSITIONS, "intermediate_size": 32, "num_key_value_heads": 1}
_GPT: dict[str, Any] = {"vocab_size": VOCAB, "n_embd": 16, "n_layer": LAYERS, "n_head": 2, "n_positions": 48, **_ENDS}
_OPT: dict[str, Any] = {**_COMMON, **_POSITIONS, "ffn_dim": 32}
_T5: dict[str, Any] = {
    "vocab_size": VOCAB,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_heads": 2,
    "decoder_start_token_id": PAD,
}
_T5 |= {"initializer_factor": 0.05}  # embeddings of size 1 would drown what the blocks add
_GEMMA: dict[str, Any] = {**_LLAMA, "head_dim": 8, "sliding_window": WINDOW}


@dataclass(frozen=True)
class Family:
    """How to make one, and the beginnings of its parameters' names, part by part."""

    config: Callable[[], PreTrainedConfig]
    blocks: str
    tokens: str
    final: tuple[str, ...]  # between the blocks and the head
    positions: tuple[str, ...] = ()  # learned ones
    entry: tuple[str, ...] = ()  # between the embeddings and block 0
    encoder: tuple[str, ...] = ()
    tied: bool = True
    noise: float = 0.15  # standard deviation of what is added to each weight

    def part_of(self, name: str) -> str:
        """The part that a parameter belongs to; a block as "block 2"."""
        parts = {"token embeddings": (self.tokens,), "learned positions": self.positions, "entry": self.entry}
        parts |= {"encoder": self.encoder, "final norm": self.final, "untied head": ("lm_head", "embed_out")}
        found = [part for part, starts in parts.items() if any(name.startswith(f"{start}.") for start in starts)]
        if name.startswith(f"{self.blocks}."):
            found.append(f"block {name.removeprefix(f'{self.blocks}.').split('.')[0]}")
        assert len(found) == 1, f"{name} belongs to {found}"
        return found[0]


def _llama_like(config: Callable[[], PreTrainedConfig], tied: bool = False) -> Family:
    return Family(config, "model.layers", "model.embed_tokens", ("model.norm",), tied=tied)


def _opt(config: Callable[[], PreTrainedConfig], final: str, entry: tuple[str, ...] = ()) -> Family:
    decoder = "model.decoder"
    return Family(
        config,
        f"{decoder}.layers",
        f"{decoder}.embed_tokens",
        (f"{decoder}.{final}",),
        positions=(f"{decoder}.embed_positions",),
        entry=tuple(f"{decoder}.{name}" for name in entry),
    )


def _t5(config: Callable[[], PreTrainedConfig], tied: bool = True) -> Family:
    # Its relative positions are learned too: they lie in block 0 of the encoder and of the decoder.
    return Family(
        config, "decoder.block", "shared", ("decoder.final_layer_norm",), encoder=("encoder",), tied=tied, noise=0.4
    )


FAMILIES: dict[str, Family] = {
    "gpt2": Family(
        lambda: GPT2Config(**_GPT), "transformer.h", "transformer.wte", ("transformer.ln_f",), ("transformer.wpe",)
    ),
    "gpt_neo": Family(
        lambda: GPTNeoConfig(
            **{name: value for name, value in _COMMON.items() if not name.startswith("num_")},
            **_POSITIONS,
            num_layers=LAYERS,
            num_heads=2,
            attention_types=[[["local"], 1], [["global", "local"], 1]],
            window_size=WINDOW,
        ),
        "transformer.h",
        "transformer.wte",
        ("transformer.ln_f",),
        ("transformer.wpe",),
    ),
    "gptj": Family(
        lambda: GPTJConfig(**_GPT, rotary_dim=4),
        "transformer.h",
        "transformer.wte",
        ("transformer.ln_f",),
        tied=False,
    ),
    "gpt_neox": Family(
        lambda: GPTNeoXConfig(**_COMMON, **_POSITIONS, intermediate_size=32),
        "gpt_neox.layers",
        "gpt_neox.embed_in",
        ("gpt_neox.final_layer_norm",),
        tied=False,
    ),
    "opt": _opt(lambda: OPTConfig(**_OPT), "final_layer_norm"),
    "opt_350m": _opt(
        lambda: OPTConfig(**_OPT, word_embed_proj_dim=8, do_layer_norm_before=False), "project_out", ("project_in",)
    ),
    "llama": _llama_like(lambda: LlamaConfig(**_LLAMA)),
    "mistral": _llama_like(lambda: MistralConfig(**_LLAMA, sliding_window=WINDOW)),
    "qwen2": _llama_like(
        lambda: Qwen2Config(
            **_LLAMA, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1, tie_word_embeddings=True
        ),
        tied=True,
    ),
    "qwen3": _llama_like(lambda: Qwen3Config(**_LLAMA, head_dim=8)),
    "t5": _t5(lambda: T5Config(**_T5, num_layers=LAYERS, num_decoder_layers=LAYERS, **_ENDS)),
    "t5_v1_1": _t5(
        lambda: T5Config(
            **_T5,
            num_layers=2,
            num_decoder_layers=LAYERS,
            feed_forward_proj="gated-gelu",
            **{**_ENDS, "tie_word_embeddings": False},  # which it reads as: do not scale what enters the head
        ),
        tied=False,
    ),
    "bloom": Family(
        lambda: BloomConfig(vocab_size=VOCAB, hidden_size=16, n_layer=LAYERS, n_head=2, **_ENDS),
        "transformer.h",
        "transformer.word_embeddings",
        ("transformer.ln_f",),
        entry=("transformer.word_embeddings_layernorm",),
    ),
    "gemma2": _llama_like(lambda: Gemma2Config(**_GEMMA), tied=True),
    "gemma3": _llama_like(lambda: Gemma3TextConfig(**_GEMMA), tied=True),
    "phi": Family(
        lambda: PhiConfig(**_LLAMA),
        "model.layers",
        "model.embed_tokens",
        ("model.final_layernorm",),
        tied=False,
    ),
    "falcon": Family(
        lambda: FalconConfig(**_COMMON, alibi=False, multi_query=True, parallel_attn=True),
        "transformer.h",
        "transformer.word_embeddings",
        ("transformer.ln_f",),
    ),
}
CAUSAL = tuple(name for name, family in FAMILIES.items() if not family.encoder)


@functools.cache
def _original(family: str, seed: int) -> PreTrainedModel:
    config: Any = FAMILIES[family].config()
    for name in [name for name in vars(config) if name.endswith(("dropout", "pdrop", "dropout_rate"))]:
        setattr(config, name, 0.0)
    torch.manual_seed(seed)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = auto.from_config(config, dtype=torch.float32)
    if not FAMILIES[family].tied:  # T5 1.1 comes untied from its checkpoints only
        model.get_output_embeddings().weight = nn.Parameter(model.get_output_embeddings().weight.detach().clone())
    with torch.no_grad():
        for parameter in model.parameters():  # away from initialisation, where zeros and ones would hide mistakes
            parameter.add_(torch.randn_like(parameter) * FAMILIES[family].noise)
    return model.eval()


def random_model(family: str, seed: int = 0) -> PreTrainedModel:
    """A model of its own, float32, in eval mode, without dropout; the same for the same arguments."""
    return copy.deepcopy(_original(family, seed))


def hydra(family: str, num_layers_unfrozen: int, **options: Any) -> Any:
    """The policy of a random model, with its reference, in eval mode; its critic is the same for the same options."""
    base = random_model(family)
    encodes = base.config.is_encoder_decoder
    wrapper = AutoModelForSeq2SeqLMWithHydraValueHead if encodes else AutoModelForCausalLMWithHydraValueHead
    torch.manual_seed(1)
    return wrapper(base, num_layers_unfrozen=num_layers_unfrozen, **options).eval()


@dataclass(frozen=True)
class Rows:
    """Prompts with responses, as `response_pass` takes them; ids are 2 and above, so pads and ends are neither."""

    query: Tensor  # (B, P) left-padded
    query_mask: Tensor  # (B, P) bool
    response: Tensor  # (B, R) right-padded
    response_mask: Tensor  # (B, R) bool

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """In the order of the arguments."""
        return self.query, self.query_mask, self.response, self.response_mask

    def joined(self, row: int) -> Tensor:
        """(1, n) ids of one row without its pads."""
        prompt, response = self.query[row][self.query_mask[row]], self.response[row][self.response_mask[row]]
        return torch.cat([prompt, response]).unsqueeze(0)


def ragged_rows(prompts: tuple[int, ...] = (7, 2, 5), responses: tuple[int, ...] = (2, 5, 4), seed: int = 1) -> Rows:
    """Rows of the given lengths, padded to the longest."""
    generator = torch.Generator().manual_seed(seed)
    wide, tall = max(prompts), max(responses)
    query_mask = torch.arange(wide).flip(0) < torch.tensor(prompts).unsqueeze(1)
    response_mask = torch.arange(tall) < torch.tensor(responses).unsqueeze(1)
    query = torch.randint(2, VOCAB, (len(prompts), wide), generator=generator)
    response = torch.randint(2, VOCAB, (len(prompts), tall), generator=generator)
    return Rows(
        query.masked_fill(~query_mask, PAD), query_mask, response.masked_fill(~response_mask, PAD), response_mask
    )
