"""Small models made from nothing but labelled reviews: one that writes reviews, and judges that tell their sentiment.

Both learn from pieces of reviews, a few whole sentences each, because what will be judged is as short. transformers'
Trainer trains them. What is made is kept in a folder whose name tells the data and the sizes, and later runs take it
from there. Left out: pretraining, dropout, a choice of the best checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    DataCollatorWithPadding,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

from examples.behaviour_cloning import kept
from tasks.scratch_model import train_tokenizer

LABELS = ("NEGATIVE", "POSITIVE")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Size:
    """Of a model and its training.

    Args:
        vocabulary: most tokens. layers, width: of the transformer, with 4 heads.
        positions: longest sequence, in tokens.
        steps: of AdamW, `batch` texts each. rate: highest learning rate; it falls to 0 along a cosine.
    """

    vocabulary: int
    layers: int
    width: int
    positions: int
    steps: int
    batch: int
    rate: float


def pieces(text: str, words: int) -> list[str]:
    """The text cut into runs of whole sentences of at most so many words; a longer sentence is cut off."""
    runs: list[list[str]] = [[]]
    for sentence in SENTENCE_END.split(text):
        some = sentence.split()[:words]
        if runs[-1] and len(runs[-1]) + len(some) > words:
            runs.append([])
        runs[-1] += some
    return [" ".join(run) for run in runs if run]


def make_writer(folder: Path, texts: Sequence[str], size: Size) -> str:
    """The folder of a GPT-2 that has learned to write such texts, each closed by the end of text."""

    def make() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        tokenizer = train_tokenizer(texts, size.vocabulary, size.positions)
        end = int(tokenizer.eos_token_id)
        config = GPT2Config(
            n_layer=size.layers, n_embd=size.width, n_head=4, n_positions=size.positions, vocab_size=len(tokenizer),
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=end, eos_token_id=end, pad_token_id=end,
            activation_function="gelu_pytorch_tanh",
        )  # fmt: skip
        set_seed(0)
        encoded = tokenizer([text + tokenizer.eos_token for text in texts], truncation=True)["input_ids"]
        rows = [{"input_ids": ids} for ids in encoded]

        def collate(batch: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
            tensors = [torch.tensor(row["input_ids"]) for row in batch]
            # Padding is the end of text as well, so what is learned goes by length.
            labels = pad_sequence(tensors, batch_first=True, padding_value=-100)
            ids = pad_sequence(tensors, batch_first=True, padding_value=end)
            return {"input_ids": ids, "attention_mask": (labels != -100).long(), "labels": labels}

        return fit(GPT2LMHeadModel(config), rows, collate, size, seed=0), tokenizer

    return kept(folder, make)


def make_judge(folder: Path, texts: Sequence[str], labels: Sequence[int], size: Size, seed: int) -> str:
    """The folder of a DistilBERT that has learned to tell negative texts, labelled 0, from positive, labelled 1."""

    def make() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        tokenizer = word_pieces(texts, size)
        config = DistilBertConfig(
            vocab_size=len(tokenizer), dim=size.width, n_layers=size.layers, n_heads=4, hidden_dim=2 * size.width,
            max_position_embeddings=size.positions, pad_token_id=tokenizer.pad_token_id,
            dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0,
            id2label=dict(enumerate(LABELS)), label2id={name: number for number, name in enumerate(LABELS)},
        )  # fmt: skip
        set_seed(seed)
        encoded = tokenizer(list(texts), truncation=True)["input_ids"]
        rows = [{"input_ids": ids, "label": label} for ids, label in zip(encoded, labels, strict=True)]
        model = DistilBertForSequenceClassification(config)
        return fit(model, rows, DataCollatorWithPadding(tokenizer), size, seed), tokenizer

    return kept(folder, make)


def word_pieces(texts: Sequence[str], size: Size) -> PreTrainedTokenizerFast:
    """A tokenizer of words and their parts in lower case, as BERT's: [CLS] text [SEP].

    Where two parts are as frequent, its trainer takes either, so a judge differs a little from one making to the next.
    """
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size.vocabulary, special_tokens=list(SPECIAL), show_progress=False
    )  # fmt: skip
    core.train_from_iterator(texts, trainer)
    marks = [(name, core.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=size.positions, **names)


def fit(model: PreTrainedModel, rows: Any, collate: Callable[..., Any], size: Size, seed: int) -> PreTrainedModel:
    """The model after training on rows drawn at random, on a GPU if there is one; it comes back on the CPU."""
    with tempfile.TemporaryDirectory() as unused:
        arguments = TrainingArguments(
            output_dir=unused,
            max_steps=size.steps,
            per_device_train_batch_size=size.batch,
            learning_rate=size.rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            weight_decay=0.01,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            train_sampling_strategy="group_by_length",  # little padding
            dataloader_pin_memory=torch.cuda.is_available(),
            seed=seed,
        )
        Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate).train()
    return model.cpu().eval()


def named_by(folder: Path, name: str, *contents: object) -> Path:
    """A folder in `folder` whose name tells, beside `name`, what the model in it is made from.

    Args:
        contents: texts, labels, numbers, sizes.
    """
    told = json.dumps([asdict(one) if isinstance(one, Size) else one for one in contents])
    return folder / f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
