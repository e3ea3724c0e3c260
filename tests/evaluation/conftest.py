"""Tiny random models made on the spot: two policies that share a tokenizer, a reward model, and posts."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPTNeoConfig, GPTNeoForSequenceClassification

from tasks.scratch_model import ModelSize, attention_types, random_gpt_neo, train_tokenizer

SIZE = ModelSize(vocab_size=400, layers=2, hidden=32, heads=2, window=8, max_positions=256)
WORDS = ["cat", "dog", "sold", "lost", "my", "boss", "keys", "car", "Paris", "Rome", "and", "then", "the", "left"]


def make_posts(count: int) -> list[dict[str, str]]:
    rng = random.Random(1)
    rows = []
    for index in range(count):
        body = " ".join(rng.choices(WORDS, k=rng.randint(5, 40)))
        prompt = f"SUBREDDIT: r/x\nTITLE: {rng.choice(WORDS)}\nPOST: {body}\nTL;DR:"
        rows.append({"id": f"t{index}", "prompt": prompt, "label": " ".join(rng.choices(WORDS, k=8))})
    # The same prompt twice, and a summary that a spreadsheet would run.
    rows[1]["prompt"] = rows[0]["prompt"]
    rows[2]["label"] = '=HYPERLINK("http://x") the cat left'
    return rows


def make_policies(root: Path) -> None:
    """Both know when to end; the second was trained a little longer, on other words."""
    texts = [(row["prompt"], " " + row["label"]) for row in make_posts(30)]
    tokenizer = train_tokenizer([prompt + label for prompt, label in texts], SIZE.vocab_size, SIZE.max_positions)
    model = random_gpt_neo(tokenizer, SIZE, seed=0)
    for steps, extra, parts in ((60, "", ("sft",)), (15, " then the dog", ("best_checkpoint", "hf_model"))):
        train(model, tokenizer, [prompt + label + extra for prompt, label in texts], steps)
        folder = root.joinpath("ckpts", *parts)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def train(model: Any, tokenizer: Any, texts: list[str], steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    encoded = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts]
    width = max(len(row) for row in encoded)
    labels = torch.tensor([row + [-100] * (width - len(row)) for row in encoded])
    for _ in range(steps):
        loss = model(input_ids=labels.clamp(min=0), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def make_reward_model(root: Path) -> None:
    tokenizer = train_tokenizer([row["prompt"] for row in make_posts(30)], SIZE.vocab_size, 256)
    tokenizer.add_special_tokens({"pad_token": "<|padding|>"})
    config = GPTNeoConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        attention_types=attention_types(2),
        window_size=8,
        max_position_embeddings=256,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(2)
    model = GPTNeoForSequenceClassification(config)
    model.config.reward_offset = 0.25
    folder = root / "ckpts" / "reward_model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "results.json").write_text(json.dumps({"test": {"pairs": 8, "accuracy": 0.875}}))


@pytest.fixture
def classified_root(run_root: Path, tmp_path: Path) -> Path:
    """The same with a classifier of POSITIVE and NEGATIVE as reward model, whose config.json names neither."""
    root = tmp_path / "classified"
    for part in ("ckpts", "data"):
        shutil.copytree(run_root / part, root / part)
    folder = root / "ckpts" / "reward_model"
    names = {0: "NEGATIVE", 1: "POSITIVE"}
    torch.manual_seed(5)
    ids = {name: index for index, name in names.items()}
    config = GPTNeoConfig.from_pretrained(folder, id2label=names, label2id=ids, reward_offset=0.0)
    GPTNeoForSequenceClassification(config).save_pretrained(folder)
    return root


@pytest.fixture(scope="session")
def run_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in which every stage before the evaluation seems to have run."""
    root = tmp_path_factory.mktemp("run")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these models are too small for more, and the machine may be busy
    make_policies(root)
    torch.set_num_threads(threads)
    make_reward_model(root)
    (root / "data").mkdir()
    lines = [json.dumps(row) + "\n" for row in make_posts(24)]
    (root / "data" / "test.jsonl").write_text("".join(lines), encoding="utf-8")
    return root
