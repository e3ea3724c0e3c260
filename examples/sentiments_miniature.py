"""The sentiment task without a hub: reviews in a tiny language, a judge that counts words, a GPT-2 that writes reviews.

A review is a few sentences such as "the music was lovely .", most of one sentiment. Tokenizer and model are made in
seconds and kept in `runs/sentiments/start`; later runs take them from there. Left out: grammar beyond that sentence.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from examples.behaviour_cloning import END, clone, kept
from examples.sentiments import Sentiments

RUNS = Path(__file__).resolve().parents[1] / "runs" / "sentiments"
THINGS = ("film", "plot", "music", "cast", "ending", "pace", "hero", "script")
GOOD = ("lovely", "great", "funny", "clever", "moving")
BAD = ("awful", "boring", "silly", "weak", "tired")

COMMON: dict[str, Any] = {
    "train.seq_length": 32,
    "train.batch_size": 32,
    "train.total_steps": 48,
    "train.eval_interval": 16,
    "train.checkpoint_interval": 1000,
    "train.save_best": False,
    "train.resume_interval": 0,
    "train.tracker": None,
    "optimizer.kwargs.lr": 1e-3,
    "scheduler.kwargs.eta_min": 1e-3,
    "method.gen_kwargs.max_new_tokens": 12,
}
PPO = {"model.num_layers_unfrozen": -1, "method.num_rollouts": 64, "method.chunk_size": 64}
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": PPO,
    "ppo_dense": PPO
    | {"train.total_steps": 96, "optimizer.kwargs.lr": 2e-3, "scheduler.kwargs.eta_min": 2e-3, "method.lam": 1.0},
    "ppo_peft": PPO
    | {
        "train.total_steps": 64,
        # In so small a model the output layer decides most, and has an adapter too.
        "model.peft_config.target_modules": ["c_attn", "c_proj", "c_fc", "lm_head"],
    },
    "ilql": {
        "train.batch_size": 64,
        "train.total_steps": 200,
        "train.eval_interval": 50,
        "method.alpha": 0.1,
        "method.gen_kwargs.beta": 4.0,
    },
    "rft": {"method.n_generations_per_prompt": 4},
}


def miniature(method: str) -> Sentiments:
    """The task, with the settings of one example."""
    rng = random.Random(0)
    labels = [rng.randrange(2) for _ in range(512)]
    reviews = [write_review(rng, bool(label)) for label in labels]
    model = start(reviews)
    places = {
        "model.model_path": model,
        "tokenizer.tokenizer_path": model,
        "train.checkpoint_dir": str(RUNS / method),
    }
    return Sentiments(
        positive=positive,
        reviews=reviews,
        labels=labels,
        eval_prompts=[f"the {thing} was" for thing in THINGS] * 4,
        settings=COMMON | SETTINGS.get(method, {}) | places,
    )


def write_review(rng: random.Random, good: bool) -> str:
    """Four sentences, each of the review's sentiment with probability .8."""
    words = [rng.choice(GOOD if (rng.random() < 0.8) == good else BAD) for _ in range(4)]
    return " ".join(f"the {rng.choice(THINGS)} was {word} ." for word in words)


def positive(texts: Sequence[str]) -> list[float]:
    """The share of good words among a text's words of sentiment; one half where there is none."""
    found = [[word in GOOD for word in text.replace(END, " ").split() if word in GOOD + BAD] for text in texts]
    return [sum(words) / len(words) if words else 0.5 for words in found]


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that a word brings its space along; about one token a word."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=END, eos_token=END, unk_token=END, pad_token=END)


def start(reviews: Sequence[str], folder: Path | None = None) -> str:
    """The folder of model and tokenizer: 2 layers, 64 wide; untied, so that an adapter can be on the output layer.

    Args:
        folder: None for `runs/sentiments/start`.
    """

    def make() -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]:
        tokenizer = make_tokenizer(reviews)
        return clone(reviews, tokenizer, layers=2, width=64, steps=120, batch_size=32, rate=3e-3, tied=False), tokenizer

    return kept(folder or RUNS / "start", make)
