"""Where every method starts from: a small GPT-2 that walks at random, and its tokenizer of letters."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from examples.behaviour_cloning import END, clone, kept

RUNS = Path(__file__).resolve().parents[2] / "runs" / "randomwalks"
PAD = "<pad>"


def letter_tokenizer(n_nodes: int = 21) -> PreTrainedTokenizerFast:
    """One token a node, an end and a pad: n_nodes + 2 ids. The end begins a text, too."""
    vocabulary = {token: i for i, token in enumerate([*string.ascii_lowercase[:n_nodes], END, PAD])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=END, eos_token=END, unk_token=END, pad_token=PAD, padding_side="left"
    )


def cloned_start(walks: Sequence[str], seed: int) -> str:
    """The folder of model and tokenizer for the task of one seed: 4 layers, 96 wide, half a million weights."""

    def make() -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
        tokenizer = letter_tokenizer()
        return clone(walks, tokenizer, layers=4, width=96, steps=200, batch_size=100, rate=2e-3), tokenizer

    return kept(RUNS / f"start-{seed}", make)
