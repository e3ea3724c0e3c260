"""Implicit language Q-learning from samples with rewards (Snell et al. 2022, arXiv 2206.11871).

`make_experience` turns samples into records, `ILQLConfig.loss` is the objective, `steered` models generate.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trlx.data.configs import TRLConfig
from trlx.data.ilql_config import ILQLConfig
from trlx.data.ilql_types import ILQLBatch, ILQLSeq2SeqBatch
from trlx.models.modeling_ilql import (
    AutoModelForCausalLMWithILQLHeads,
    AutoModelForSeq2SeqLMWithILQLHeads,
    read_generation,
)
from trlx.pipeline.dialogues import DialogMessage, tokenize_dialogue
from trlx.pipeline.ilql_storage import ILQLRolloutStorage, ILQLSeq2SeqRolloutStorage
from trlx.pipeline.sharding import rank_batches
from trlx.trainer import register_trainer
from trlx.trainer.accelerate_base_trainer import AccelerateRLTrainer, Loss
from trlx.utils.distributed import is_main_rank
from trlx.utils.errors import UserError

Dialogue = Sequence[DialogMessage]
Samples = Sequence[str] | Sequence[Sequence[str]] | Sequence[Dialogue]


@register_trainer
class AccelerateILQLTrainer(AccelerateRLTrainer):
    """ILQL. Attributes people read besides the base's: ilql (the method's settings)."""

    generation_options = ("beta",)

    def __init__(self, config: TRLConfig, **options: Any):
        if not isinstance(config.method, ILQLConfig):
            raise UserError(f"AccelerateILQLTrainer needs method.name ILQLConfig, not {config.method.name}")
        super().__init__(config, **options)
        for _, point in self.responder.points:  # a wrong value shows now, not at the first evaluation
            read_generation(self.generate_kwargs | point)

    @property
    def ilql(self) -> ILQLConfig:
        """The method's settings."""
        assert isinstance(self.config.method, ILQLConfig)
        return self.config.method

    @property
    def policy(self) -> PreTrainedModel:
        return self.unwrapped_model.base_model

    def get_arch(self, config: TRLConfig) -> torch.nn.Module:
        seq2seq = config.model.model_arch_type == "seq2seq"
        kind = AutoModelForSeq2SeqLMWithILQLHeads if seq2seq else AutoModelForCausalLMWithILQLHeads
        if config.model.peft_config is not None and config.model.num_layers_unfrozen >= 0:
            warnings.warn("model.num_layers_unfrozen has no effect with peft_config: the adapters train", stacklevel=2)
        model = kind(
            self.load_base_model(),
            two_qs=self.ilql.two_qs,
            alpha=self.ilql.alpha,
            num_layers_unfrozen=config.model.num_layers_unfrozen,
        )
        model.load_saved_heads(config.model.model_path)
        return model

    def make_experience(self, samples: Samples, rewards: Sequence[float], max_length: int = 2048) -> None:
        """Fill `store`; arguments as of the function `make_experience`."""
        start = None
        if self.config.model.model_arch_type == "seq2seq":
            start = int(self.policy.config.decoder_start_token_id)
        self.store = make_experience(samples, rewards, self.tokenizer, max_length, decoder_start_token_id=start)

    def prepare_learning(self) -> None:
        if self.store is None:
            raise UserError("ILQL has nothing to learn from: give samples= and rewards= to trlx.train")
        self.n_inner_epochs = 1
        steps = self.config.train.epochs * len(self._batches())
        self.total_steps = min(self.config.train.total_steps, steps)

    def create_train_dataloader(self) -> Iterable[ILQLBatch | ILQLSeq2SeqBatch]:
        return self.store.create_loader(self.config.train.batch_size, batches=self._batches())

    def _batches(self) -> list[list[int]]:
        ranks = (self.accelerator.process_index, self.accelerator.num_processes)
        key = (self.config.train.seed, self.epoch, self.inner_epoch)
        return rank_batches(len(self.store), self.config.train.batch_size, key, *ranks)

    def loss_weight(self, batch: ILQLBatch | ILQLSeq2SeqBatch) -> Tensor:
        return batch.action_mask.sum().to(self.accelerator.device)

    def loss(self, batch: ILQLBatch | ILQLSeq2SeqBatch) -> Loss:
        """See `ILQLConfig.loss`."""
        batch = batch.to(self.accelerator.device)
        decoder = {"decoder_input_ids": batch.decoder_input_ids} if isinstance(batch, ILQLSeq2SeqBatch) else {}
        logits, qs, target_qs, vs, *_ = self.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            actions_ixs=batch.actions_ixs,
            states_ixs=batch.states_ixs,
            **decoder,
        )
        return self.ilql.loss((logits, (qs, target_qs, vs)), batch)

    def after_optimizer_step(self) -> None:
        """Let the target Q heads follow, every so many optimizer steps."""
        if self.iter_count % self.ilql.steps_for_target_q_sync == 0:
            self.unwrapped_model.sync_target_q_heads()

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """See `AccelerateRLTrainer.generate`; `beta` is ILQL's, and a temperature of 0 takes the likeliest token."""
        return self._steered(input_ids, attention_mask, self.generate_experience_kwargs | kwargs)

    def generate_eval(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The same with the settings of evaluation."""
        return self._steered(input_ids, attention_mask, self.generate_kwargs | kwargs)

    def _steered(self, ids: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Tensor:
        beta, rest = read_generation(options)
        with self.unwrapped_model.steered(beta):
            return self.responder.samples(ids, mask, rest)


def make_experience(
    samples: Samples,
    rewards: Sequence[float],
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int = 2048,
    verbose: bool = True,
    decoder_start_token_id: int | None = None,
) -> ILQLRolloutStorage | ILQLSeq2SeqRolloutStorage:
    """Samples with rewards as what ILQL trains on.

    Args:
        samples: texts, dialogues (prompt, output, ...) of texts, or, without a tokenizer, dialogues of `DialogMessage`.
        rewards: one number a sample, which becomes the reward of its last action, normalised over all samples to mean 0
            and standard deviation 1.
        max_length: longer samples are cut, see `tokenize_dialogue`; those that lose all their output are left out.
        verbose: print an example and the lengths.
        decoder_start_token_id: of an encoder-decoder, whose samples must be (prompt, output); None for a causal model.

    Raises: UserError when samples and rewards do not fit together or a reward is not a finite number.
    """
    values = _numbers(rewards, len(samples))
    dialogues = _messages(samples, tokenizer, max_length)
    whole = [i for i, dialogue in enumerate(dialogues) if any(message.is_output for message in dialogue)]
    if not whole:
        raise UserError(f"no sample has an output within {max_length} tokens: raise train.seq_length, or cut prompts")
    if len(whole) < len(dialogues):
        warnings.warn(f"{len(dialogues) - len(whole)} samples have no output within {max_length} tokens", stacklevel=2)
    dialogues, returns = [dialogues[i] for i in whole], _normalised(torch.tensor([values[i] for i in whole]).double())
    if verbose and tokenizer is not None and is_main_rank():
        show(dialogues, values[whole[0]], tokenizer)
    if decoder_start_token_id is None:
        return ILQLRolloutStorage(*_columns([_causal_record(*pair) for pair in zip(dialogues, returns, strict=True)]))
    # What the tokenizer puts around a text that is encoded, as it does with the prompts of evaluation.
    around = list(tokenizer("")["input_ids"]) if tokenizer is not None else []
    pairs = zip(dialogues, returns, strict=True)
    records = [_seq2seq_record(*pair, decoder_start_token_id, around) for pair in pairs]
    return ILQLSeq2SeqRolloutStorage(*_columns(records))


def _numbers(rewards: Sequence[float], count: int) -> list[float]:
    if len(rewards) != count or count == 0:
        raise UserError(f"there are {count} samples but {len(rewards)} rewards: give one reward a sample")
    numbers = []
    for index, reward in enumerate(rewards):
        try:
            number = float(reward)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"rewards[{index}] is {reward!r}: it must be a finite number")
        numbers.append(number)
    return numbers


def _messages(samples: Samples, tokenizer: PreTrainedTokenizerBase | None, max_length: int) -> list[Dialogue]:
    if tokenizer is None:
        return [list(sample) for sample in samples]  # type: ignore[arg-type]
    return [tokenize_dialogue(sample, tokenizer, max_length) for sample in samples]  # type: ignore[arg-type]


def _normalised(returns: Tensor) -> Tensor:
    """(returns − mean) / unbiased standard deviation, float32; zeros where they are all alike."""
    centred = returns - returns.mean()
    deviation = returns.std() if len(returns) > 1 else torch.zeros(())
    return (centred / deviation if deviation > 1e-12 else torch.zeros_like(centred)).float()


def _causal_record(dialogue: Dialogue, value: Tensor) -> tuple[Tensor, ...]:
    """The fields of an `ILQLElement`: a token of an output is predicted at the position before it."""
    tokens = [token for message in dialogue for token in message.tokens]
    is_action = [message.is_output for message in dialogue for _ in message.tokens]
    actions = torch.tensor(is_action[1:]).nonzero().flatten()
    ids = torch.tensor(tokens, dtype=torch.long)
    return ids, torch.ones_like(ids), *_decisions(actions, len(tokens) - 1, value)


def _seq2seq_record(dialogue: Dialogue, value: Tensor, start: int, around: list[int]) -> tuple[Tensor, ...]:
    """The fields of an `ILQLSeq2SeqElement`: the output after the decoder's start token.

    Args:
        around: special tokens of an encoded text, of which all but the last go before it.
    """
    if [message.is_output for message in dialogue] != [False, True]:
        raise UserError("an encoder-decoder takes samples of one prompt and one output, not longer dialogues")
    prompt = torch.tensor([*around[:-1], *dialogue[0].tokens, *around[-1:]], dtype=torch.long)
    output = torch.tensor(dialogue[1].tokens, dtype=torch.long)
    decoder = torch.cat([torch.tensor([start]), output])
    return prompt, torch.ones_like(prompt), decoder, *_decisions(torch.arange(len(output)), len(output), value)


def _decisions(actions: Tensor, last: int, value: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(rewards, states_ixs, actions_ixs, dones) of actions at positions `actions`, with the end's state at `last`."""
    rewards = torch.zeros(len(actions))
    rewards[-1] = value
    dones = torch.ones(len(actions) + 1, dtype=torch.long)
    dones[-1] = 0
    return rewards, torch.cat([actions, torch.tensor([last])]), actions, dones


def _columns(records: list[tuple[Tensor, ...]]) -> list[list[Tensor]]:
    return [list(column) for column in zip(*records, strict=True)]


def show(dialogues: Sequence[Dialogue], reward: float, tokenizer: PreTrainedTokenizerBase) -> None:
    """Print the first sample, its reward, and the lengths of all."""
    example = Table("Prompt", "Response", "Reward", title="Sample", show_lines=True)
    texts = [
        str(tokenizer.decode([t for message in dialogues[0] if message.is_output == output for t in message.tokens]))
        for output in (False, True)
    ]
    example.add_row(*[Text(text) for text in (*texts, f"{reward:.4g}")])
    lengths = Table("Prompt", "Output", "Sample", title=f"Tokens of {len(dialogues)} samples: mean [min, max]")
    prompts, outputs = (
        [sum(len(message.tokens) for message in dialogue if message.is_output == output) for dialogue in dialogues]
        for output in (False, True)
    )
    columns = [prompts, outputs, [sum(pair) for pair in zip(prompts, outputs, strict=True)]]
    lengths.add_row(*[Text(f"{sum(each) / len(each):.2f} [{min(each)}, {max(each)}]") for each in columns])
    console = Console()
    console.print(example)
    console.print(lengths)
