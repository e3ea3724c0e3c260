"""A tokenizer, a GPT-Neo and data small enough for a stage to train in seconds; shared by the stages' tests."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPTNeoConfig, GPTNeoForCausalLM, PreTrainedTokenizerFast

from launch.local import free_port
from reward_model.model import new_reward_model, new_reward_tokenizer

REPO = Path(__file__).resolve().parents[1]
END = "<|endoftext|>"
WHO = ["my sister", "my boss", "my cat", "our neighbour", "a friend"]
DID = ["lost the keys", "sold the car", "ate the cake", "broke the lamp", "missed the train"]
WHERE = ["in Paris", "at work", "at home", "in the park", "near the lake"]


def tiny_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 320 tokens with EOS and no pad token."""
    text = [" ".join((*WHO, *DID, *WHERE)), "SUBREDDIT: r/x\nTITLE: t\nPOST: p\nTL;DR: Somebody did it."]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(text * 20, vocab_size=320, special_tokens=[END], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token=END, bos_token=END, unk_token=END)
    tokenizer.save_pretrained(folder)
    return tokenizer


def tiny_base(folder: Path, layers: int = 2) -> Path:
    """A folder with the tokenizer and a randomly initialised GPT-Neo (global, local), dropout left on."""
    tokenizer = tiny_tokenizer(folder)
    torch.manual_seed(0)
    config = GPTNeoConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_layers=layers,
        num_heads=2,
        attention_types=[[["global", "local"], layers // 2]],
        window_size=16,
        intermediate_size=64,
        max_position_embeddings=576,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        resid_dropout=0.1,
    )
    GPTNeoForCausalLM(config).save_pretrained(folder)
    return folder


def posts(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        fact = f"{rng.choice(WHO)} {rng.choice(DID)} {rng.choice(WHERE)}"
        prompt = f"SUBREDDIT: r/x\nTITLE: {fact}\nPOST: Today {fact} and I am sad.\nTL;DR:"
        rows.append({"id": f"{seed}-{index}", "prompt": prompt, "label": f"{fact} and it is sad."})
    return rows


def pairs(count: int, seed: int) -> list[dict[str, Any]]:
    rows = []
    for row in posts(count, seed):
        good, bad = "TL;DR: " + row["label"], "TL;DR: p p p p p p"
        rows.append({"prompt": row["prompt"], "chosen": good, "rejected": bad, "gold_prefers_chosen": True})
    return rows


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def tiny_root(root: Path) -> Path:
    """A run's root with base model and data, before any stage."""
    tiny_base(root / "base")
    write_rows(root / "data" / "sft_train.jsonl", posts(24, 1))
    write_rows(root / "data" / "sft_valid.jsonl", posts(6, 2))
    for split, count, seed in (("train", 24, 3), ("valid1", 6, 4), ("test", 8, 5)):
        write_rows(root / "data" / f"comparisons_{split}.jsonl", pairs(count, seed))
    return root


def tiny_reward_model(base: Path, folder: Path) -> Path:
    """A reward model of the base's weights with a random head, and its tokenizer, saved in `folder`."""
    tokenizer = new_reward_tokenizer(base)
    new_reward_model(base, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def zero3_file(folder: Path) -> Path:
    """A DeepSpeed file of ZeRO stage 3 whose thresholds let nothing stay whole: a tiny model would hide deadlocks."""
    limits = ("param_persistence_threshold", "max_live_parameters", "max_reuse_distance", "prefetch_bucket_size")
    settings: dict[str, Any] = {"zero_optimization": {"stage": 3, **{f"stage3_{name}": 0 for name in limits}}}
    settings |= dict.fromkeys(("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), "auto")
    settings |= {"gradient_clipping": "auto", "bf16": {"enabled": "auto"}, "zero_allow_untested_optimizer": True}
    path = folder / "zero3.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def environment(**extra: str) -> dict[str, str]:
    """For a script in a process of its own, on the CPU and without a hub."""
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    ops = os.environ.get("TORCH_EXTENSIONS_DIR", str(REPO / ".cache" / "torch_extensions"))
    return {**os.environ, **quiet, "TORCH_EXTENSIONS_DIR": ops, **extra}


def run_plain(script: str, *options: str, ranks: int, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """A script without DeepSpeed on the CPU: by itself, or `ranks` processes under torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, *launcher, str(REPO / script), *options]
    env = environment(CUDA_VISIBLE_DEVICES="")
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=timeout, check=False)


def run_two_ranks(script: str, *options: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """A script under DeepSpeed's launcher, two processes on the CPU."""
    launcher = str(Path(sys.executable).with_name("deepspeed"))
    command = [launcher, "--num_accelerators", "2", "--master_port", str(free_port()), str(REPO / script), *options]
    env = environment(DS_ACCELERATOR="cpu", PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=timeout, check=False)
