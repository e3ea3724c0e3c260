"""A byte-level tokenizer, random models of four families, a configuration and rollouts: small enough for seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    OPTConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from trlx.data.configs import TRLConfig
from trlx.data.default_configs import default_ppo_config
from trlx.data.ppo_types import PPORLElement

EOS, VOCAB, LAYERS = 0, 257, 4
END = "<|endoftext|>"


def byte_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """One token a byte, and EOS with id 0; no pad token. Also saved to `folder`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {END: EOS} | {character: index + 1 for index, character in enumerate(alphabet)}
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, bos_token=END, unk_token=END)
    tokenizer.save_pretrained(folder)
    return tokenizer


def neo_config(layers: int = LAYERS, hidden: int = 32, window: int = 6) -> GPTNeoConfig:
    """Global and local attention in turn; the window is smaller than the sequences of these tests."""
    return GPTNeoConfig(
        vocab_size=VOCAB,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=4,
        attention_types=[[["global", "local"], layers // 2]],
        window_size=window,
        max_position_embeddings=64,
        bos_token_id=EOS,
        eos_token_id=EOS,
    )


def family_config(family: str) -> Any:
    """Learned positions and a tied head (gpt_neo, gpt2), rotary and an untied head (llama), shifted positions (opt)."""
    ends = {"bos_token_id": EOS, "eos_token_id": EOS, "pad_token_id": EOS}
    if family == "gpt_neo":
        return neo_config()
    if family == "gpt2":
        return GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=LAYERS, n_head=4, n_positions=64, **ends)
    if family == "opt":
        return OPTConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            max_position_embeddings=64,
            **{**ends, "pad_token_id": 1},
        )
    return LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        **ends,
    )


FAMILIES = ("gpt_neo", "gpt2", "llama")  # opt too where a test says so


def random_model(family: str = "gpt_neo", seed: int = 0) -> PreTrainedModel:
    """Weights larger than transformers' own initialisation, so that a mistake shows; dropout off."""
    from trlx.utils.pretrained import without_dropout

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(without_dropout(family_config(family)), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def ragged_rows(rows: int = 3, prompt: int = 9, response: int = 5, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), both (B, P + R): prompts shorter by one each row on the left, responses by one on the right."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, VOCAB, (rows, prompt + response), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(rows):
        mask[row, :row] = 0
        mask[row, prompt + max(response - row, 1) :] = 0
    return ids * mask, mask


def ppo_config(folder: Path, tokenizer_folder: Path | str, **overrides: Any) -> TRLConfig:
    """PPO of a tiny GPT-Neo; overrides are dotted with "__" for ".", e.g. train__epochs=2."""
    changes: dict[str, Any] = {
        "train.seq_length": 32,
        "train.epochs": 2,
        "train.batch_size": 8,
        "train.eval_interval": 1000,
        "train.checkpoint_dir": str(folder),
        "train.resume_interval": 0,
        "train.tracker": None,
        "tokenizer.tokenizer_path": str(tokenizer_folder),
        "method.num_rollouts": 16,
        "method.chunk_size": 8,
        "method.ppo_epochs": 2,
        "method.gen_kwargs": {"max_new_tokens": 8, "do_sample": True, "temperature": 0.9},
        "optimizer.kwargs.lr": 1e-3,
        "scheduler.name": "constant",
    }
    config = TRLConfig.update(default_ppo_config(), changes)
    config.scheduler.kwargs = {}
    model = overrides.pop("model__model_path", None) or neo_config()
    config = TRLConfig.update(config, {name.replace("__", "."): value for name, value in overrides.items()})
    config.model.model_path = model
    return config


def make_rollouts(rows: int = 8, prompt: int = 6, response: int = 5, seed: int = 0) -> list[PPORLElement]:
    """Invented rollouts of ragged lengths with advantages and returns, ready for an optimizer step."""
    generator = torch.Generator().manual_seed(seed)

    def noise(length: int) -> torch.Tensor:
        return torch.randn(length, generator=generator)

    def ids(length: int) -> torch.Tensor:
        return torch.randint(1, VOCAB, (length,), generator=generator)

    elements = []
    for row in range(rows):
        length = 1 + row % response
        elements.append(
            PPORLElement(
                query_tensor=ids(prompt - row % prompt),
                response_tensor=ids(length),
                logprobs=-5.5 + 0.1 * noise(length),
                values=0.1 * noise(length),
                rewards=noise(length),
                ref_logprobs=-5.5 + 0.1 * noise(length),
                advantages=noise(length),
                returns=noise(length),
                clean=True,
            )
        )
    return elements
