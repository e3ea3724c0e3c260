"""Supervised fine-tuning: the likelihood of given texts, or of the outputs in given dialogues."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BatchEncoding, PreTrainedModel

from trlx.data.configs import TRLConfig
from trlx.data.sft_config import SFTConfig
from trlx.functional.logprobs import logprobs_of_tokens
from trlx.functional.masking import masked_mean
from trlx.pipeline.dialogue_store import IGNORED, DialogStore, Seq2SeqStore
from trlx.pipeline.dialogues import tokenize_pair, tokenize_sample
from trlx.pipeline.sharding import rank_batches
from trlx.trainer import register_trainer
from trlx.trainer.accelerate_base_trainer import AccelerateRLTrainer, Loss
from trlx.utils.errors import UserError
from trlx.utils.modeling import freeze_bottom_causal_layers

__all__ = ["AccelerateSFTTrainer", "SFTConfig"]


@register_trainer
class AccelerateSFTTrainer(AccelerateRLTrainer):
    """Maximises the likelihood of samples. `store` is a `DialogStore`, or a `Seq2SeqStore`."""

    store: Any

    def get_arch(self, config: TRLConfig) -> nn.Module:
        """The language model itself, with its bottom blocks frozen or its adapters alone training."""
        model = self.load_base_model()
        if config.model.peft_config is None:
            freeze_bottom_causal_layers(model, config.model.num_layers_unfrozen)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError("model.num_layers_unfrozen is 0, which leaves nothing to train here: set it to -1 or more")
        return model

    @property
    def policy(self) -> PreTrainedModel:
        return self.unwrapped_model

    @property
    def is_seq2seq(self) -> bool:
        """Whether the model encodes its prompts apart."""
        return self.config.model.model_arch_type == "seq2seq"

    def make_experience(self, samples: Sequence[Any], seq_length: int) -> None:
        """Tokenise what is learned.

        Args:
            samples: texts, of which every token is learned, and the end after it where there is room for it; or
                dialogues [prompt, output, ...], of which the outputs are, see `tokenize_dialogue`. For an
                encoder-decoder [prompt, output] each.
            seq_length: tokens of a sample at most (of an encoder-decoder's prompt and output each).

        Raises: UserError for samples of another form, or when none has a token to learn.
        """
        if self.is_seq2seq:
            self.store = Seq2SeqStore((tokenize_pair(x, self.tokenizer, seq_length) for x in samples), self.tokenizer)
        else:
            dialogs = (tokenize_sample(sample, self.tokenizer, seq_length) for sample in samples)
            self.store = DialogStore(dialogs, self.tokenizer)
        empty = sum(bool(self.targets(row["labels"].unsqueeze(0)).eq(IGNORED).all()) for row in self.store)
        if empty == len(self.store):
            raise UserError(f"no sample has a token to learn within train.seq_length ({seq_length}): raise it")
        if empty:
            warnings.warn(
                f"{empty} of {len(self.store)} samples have no token to learn within train.seq_length ({seq_length})",
                stacklevel=2,
            )

    def prepare_learning(self) -> None:
        self.n_inner_epochs = 1
        rows = self.config.train.batch_size * self.accelerator.num_processes
        planned = self.config.train.epochs * math.ceil(len(self.store) / rows)
        self.total_steps = min(self.config.train.total_steps, planned)

    def create_train_dataloader(self) -> Iterable[BatchEncoding]:
        accelerator, size = self.accelerator, self.config.train.batch_size
        key = (self.config.train.seed, self.epoch, self.inner_epoch)
        batches = rank_batches(len(self.store), size, key, accelerator.process_index, accelerator.num_processes)
        # Microbatches of similar length waste less on pads; the order within a batch changes no gradient.
        batches = [sorted(batch, key=lambda row: len(self.store[row]["input_ids"])) for batch in batches]
        # A loader draws a number to start with: not from the global generator, for a resumed run starts one more.
        return self.store.create_loader(size, batch_sampler=batches, generator=torch.Generator())

    def targets(self, labels: Tensor) -> Tensor:
        """(B, N) what each place of (B, N) labels is to predict, -100 = nothing; a causal model the next token."""
        return labels if self.is_seq2seq else F.pad(labels[:, 1:], (0, 1), value=IGNORED)

    def loss_weight(self, batch: BatchEncoding) -> Tensor:
        return self.targets(batch["labels"]).ne(IGNORED).sum().to(self.accelerator.device)

    def loss(self, batch: BatchEncoding) -> Loss:
        """Cross-entropy in nats, mean over the learned tokens.

        Args:
            batch: input_ids and attention_mask, both (B, T), 1 = real; labels (B, T), or (B, R) of an encoder-decoder,
                -100 = not learned. Padded on the right.
        """
        batch = batch.to(self.accelerator.device)
        decoder = {"labels": batch["labels"]} if self.is_seq2seq else {}  # from which it makes its decoder's input
        output = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **decoder)
        targets = self.targets(batch["labels"])
        logits = output.logits[:, -targets.shape[1] :]  # virtual tokens of an adapter come first
        loss = -masked_mean(logprobs_of_tokens(logits, targets.clamp(min=0)), targets.ne(IGNORED))
        return loss, {"loss": loss.detach()}
