"""What is measured: model, tokenizer, prompts, reward and settings, made on the spot and the same for both sides.

Weights are random. Responses run to the limit, because the end-of-sequence token is made all but impossible, except in
a ragged workload, where it comes after `MEAN_LENGTH` tokens on average and prompts have different lengths.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPTNeoConfig, PreTrainedModel, PreTrainedTokenizerFast

from trlx.data.configs import TRLConfig
from trlx.data.default_configs import default_ppo_config

EOS, END = 0, "<|endoftext|>"
MEAN_LENGTH = 32  # of a ragged workload's responses, before the limit cuts them
SHORTEST_PROMPT = 0.625  # of the longest, in a ragged workload
PROMPTS = 256
# Wide enough that the learned bias below moves nothing but the end-of-sequence logit.
BIAS = 30.0


@dataclass(frozen=True)
class Shape:
    """A GPT-Neo: layers × hidden, with heads, over a vocabulary."""

    layers: int
    hidden: int
    heads: int
    vocabulary: int = 50257


SHAPES = {
    "toy": Shape(4, 32, 4, vocabulary=211),
    "small": Shape(8, 256, 4),
    "125m": Shape(12, 768, 12),
    "1.3b": Shape(24, 2048, 16),
}


@dataclass(frozen=True)
class Workload:
    """One row of the benchmark.

    Args:
        folder: where `prepare` put the model and the tokenizer. shape: of the model, by name.
        layers_unfrozen: top blocks that train (embeddings are frozen then); -1 trains everything.
        ragged: prompts and responses of different lengths.
        prompt, response: tokens, at most. rollouts, chunk, batch, epochs: PPO's sizes.
        device: cpu or cuda. dtype: that forwards run in; weights are float32.
    """

    folder: str
    shape: str = "small"
    layers_unfrozen: int = 2
    ragged: bool = False
    prompt: int = 192
    response: int = 48
    rollouts: int = 32
    chunk: int = 32
    batch: int = 8
    epochs: int = 4
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1
    seed: int = 0

    @property
    def chunks(self) -> int:
        """How many chunks of prompts an iteration takes."""
        return math.ceil(self.rollouts / self.chunk)

    @property
    def gen_kwargs(self) -> dict[str, Any]:
        """Generation options of both sides: sampling from the whole distribution."""
        return {"max_new_tokens": self.response, "do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}

    def config(self, iterations: int) -> TRLConfig:
        """The engine's settings, for so many iterations and none of evaluating and saving."""
        overrides: dict[str, Any] = {
            "train.seq_length": self.prompt + self.response,
            "train.epochs": iterations,
            "train.total_steps": 10**9,
            "train.batch_size": self.batch,
            "train.eval_interval": 10**9,
            "train.checkpoint_interval": 10**9,
            "train.resume_interval": 0,
            "train.checkpoint_dir": f"{self.folder}/ckpts",
            "train.tracker": None,
            "train.seed": self.seed,
            "model.model_path": f"{self.folder}/model",
            "model.num_layers_unfrozen": self.layers_unfrozen,
            "tokenizer.tokenizer_path": f"{self.folder}/tokenizer",
            "scheduler.name": "constant",
            "method.num_rollouts": self.rollouts,
            "method.chunk_size": self.chunk,
            "method.ppo_epochs": self.epochs,
            "method.init_kl_coef": 0.05,
            "method.max_grad_norm": 1.0,
            "method.scale_reward": None,
        }
        config = TRLConfig.update(default_ppo_config(), overrides)
        config.optimizer.kwargs = {"lr": 1e-5, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 1e-6}
        config.scheduler.kwargs = {}
        config.method.gen_kwargs = self.gen_kwargs  # type: ignore[attr-defined]
        return config


def prepare(folder: Path, shape: str, ragged: bool, positions: int, seed: int = 0) -> None:
    """Write the random model and the tokenizer that a `Workload` names."""
    make_tokenizer(SHAPES[shape].vocabulary).save_pretrained(folder / "tokenizer")
    make_model(SHAPES[shape], ragged, positions, seed).save_pretrained(folder / "model")


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token a word: end-of-sequence, then w1, w2, ..."""
    words = {END: EOS} | {f"w{i}": i for i in range(1, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END, unk_token=END)


def make_model(shape: Shape, ragged: bool, positions: int, seed: int) -> PreTrainedModel:
    """A random GPT-Neo without dropout, global and local attention in turn."""
    torch.manual_seed(seed)
    config = GPTNeoConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_layers=shape.layers,
        num_heads=shape.heads,
        attention_types=[[["global", "local"], shape.layers // 2]],
        max_position_embeddings=positions,
        bos_token_id=EOS,
        eos_token_id=EOS,
        resid_dropout=0.0,
        embed_dropout=0.0,
        attention_dropout=0.0,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    wanted = math.log(shape.vocabulary / MEAN_LENGTH) if ragged else -BIAS
    _shift_eos_logit(model, wanted)
    return model


@torch.no_grad()
def _shift_eos_logit(model: Any, wanted: float) -> None:
    """Move one logit of a tied head by about `wanted`: a constant in the final norm's output, read by one row."""
    model.transformer.ln_f.bias[0] += BIAS
    model.transformer.wte.weight[:, 0] = 0.0
    model.transformer.wte.weight[EOS, 0] = wanted / BIAS


def prompts(workload: Workload) -> list[str]:
    """Texts of `prompt` tokens each, or of different lengths up to that."""
    generator = random.Random(workload.seed)
    shortest = int(workload.prompt * SHORTEST_PROMPT) if workload.ragged else workload.prompt
    vocabulary = SHAPES[workload.shape].vocabulary

    def text() -> str:
        length = generator.randint(shortest, workload.prompt)
        return " ".join(f"w{generator.randrange(1, vocabulary)}" for _ in range(length))

    return [text() for _ in range(PROMPTS)]


def reward(samples: Sequence[str], prompts: Sequence[str], outputs: Sequence[str], **_: Any) -> list[float]:
    """Cheap and different for each response: the mean of the digits that end its words."""
    return [_mean_digit(output) for output in outputs]


def _mean_digit(text: str) -> float:
    digits = [int(word[-1]) for word in text.replace(END, " ").split()]
    return sum(digits) / max(len(digits), 1) / 10.0
