"""Where the offline examples start from: a small GPT-2 that has learned to write texts as given, made on the spot.

It takes seconds to a minute on one core, and is kept in a folder, from which later runs take it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import trange
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

END = "</s>"


def clone(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    layers: int,
    width: int,
    steps: int,
    batch_size: int,
    rate: float,
    tied: bool = True,
) -> GPT2LMHeadModel:
    """A GPT-2 with random weights, trained on `texts`, each closed by the end of sequence.

    Args:
        layers: blocks of 4 heads. width: of the hidden states.
        steps: of AdamW at the learning rate `rate`, on `batch_size` texts drawn at random each.
        tied: whether the output layer shares the input embeddings' weights.
    """
    torch.manual_seed(0)
    end = int(tokenizer.eos_token_id)
    config = GPT2Config(
        n_layer=layers, n_embd=width, n_head=4, n_positions=64, vocab_size=len(tokenizer),
        tie_word_embeddings=tied, bos_token_id=end, eos_token_id=end, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    rows = [torch.tensor([*tokenizer(text)["input_ids"], end]) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=end)
    labels = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in trange(steps, desc="behaviour cloning", leave=False):
        batch = torch.randint(len(rows), (batch_size,))
        model(input_ids=ids[batch], labels=labels[batch]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def kept(folder: Path, make: Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerFast]]) -> str:
    """`folder` with a model and its tokenizer: those that are there, or else those that `make` gives."""
    if not (folder / "config.json").exists():
        aside = folder.with_name(f"{folder.name}.{os.getpid()}")
        model, tokenizer = make()
        tokenizer.save_pretrained(aside)
        model.save_pretrained(aside)
        try:
            aside.rename(folder)
        except OSError:  # another process was quicker, with the same model
            shutil.rmtree(aside)
    return str(folder)
