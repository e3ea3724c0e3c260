"""What scripts and tests written for trlX do besides training by the book, and may go on doing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import VOCAB, hydra, random_model
from test_rft_training import rft_config
from tiny_engine import END, EOS, ppo_config
from tiny_runs import PROMPTS, fresh_accelerate, letters, logged, make_trainer, run
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from trlx.models.modeling_base import saved_arguments
from trlx.models.modeling_ilql import AutoModelForCausalLMWithILQLHeads, AutoModelForSeq2SeqLMWithILQLHeads
from trlx.models.modeling_ppo import AutoModelForCausalLMWithHydraValueHead
from trlx.pipeline import MiniBatchIterator
from trlx.pipeline.offline_pipeline import ILQLRolloutStorage, ILQLSeq2SeqRolloutStorage
from trlx.trainer import register_trainer
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.trainer.accelerate_rft_trainer import AccelerateRFTTrainer
from trlx.trainer.scoring import Texts, call_reward_fn
from trlx.utils.errors import UserError

PAD = 7  # of `Padding`: not EOS


def _own_rows(input_ids: Tensor, *responses: list[int]) -> Tensor:
    width = max(map(len, responses))
    made = [row + [PAD] * (width - len(row)) for row in responses]
    return torch.cat([input_ids, torch.tensor(made)], dim=1)


@register_trainer
class Padding(AcceleratePPOTrainer):
    """Writes four responses: one cut, one with EOS, one that stops without either, one that is all pads."""

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        return _own_rows(input_ids[:4], [9, 9, 9, 9], [9, 9, EOS], [9, PAD, 9], [])


def test_pads_after_the_last_token_are_no_response(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder), Padding)
    trainer.responder.pad = PAD
    ids = torch.full((4, 3), 5)
    made = trainer.responder.rollout(ids, torch.ones_like(ids))
    # A pad between tokens is a token; a row that holds nothing else keeps one.
    assert made.response_mask.sum(dim=1).tolist() == [4, 3, 3, 1]
    assert made.ended.tolist() == [False, True, True, True]
    trainer.responder.pad = EOS  # the usual case: only EOS ends a row, and what follows is not read
    made = trainer.responder.rollout(ids, torch.ones_like(ids))
    assert made.response_mask.sum(dim=1).tolist() == [4, 3, 4, 4]
    assert made.ended.tolist() == [False, True, False, False]


@register_trainer
class Stopping(AcceleratePPOTrainer):
    """Writes "ab!cd" after every prompt, as a `generate` does that knows no stop sequences."""

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        return _own_rows(input_ids, *[self.tokenizer("ab!cd")["input_ids"]] * len(input_ids))


def test_stop_sequences_end_what_an_own_generate_wrote(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder), Stopping, stop_sequences=["!"])
    ids = torch.full((2, 3), 5)
    made = trainer.responder.rollout(ids, torch.ones_like(ids))
    assert made.response_mask.sum(dim=1).tolist() == [3, 3]  # a, b and the stop
    assert made.ended.all()


@register_trainer
class OwnSamples(AccelerateRFTTrainer):
    """Writes two letters and EOS after every prompt."""

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        return _own_rows(input_ids, *[[9, 10 + i % 5, EOS] for i in range(len(input_ids))])


def test_rft_learns_what_an_own_generate_wrote(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(rft_config(tmp_path, tokenizer_folder), OwnSamples)
    trainer.make_experience()
    assert {sample.tokens[::2] for samples in trainer.generations.values() for sample in samples} == {(9, EOS)}


def test_rollouts_by_beam_search(tmp_path: Path, tokenizer_folder: str) -> None:
    beams = {"max_new_tokens": 4, "do_sample": False, "num_beams": 2}
    config = ppo_config(tmp_path, tokenizer_folder, method__gen_experience_kwargs=beams, train__epochs=1)
    trainer = run(config)
    assert trainer.iter_count == 4
    assert not logged(trainer, "rollout/sampling_logprob_gap")  # a beam search samples nothing


@pytest.mark.parametrize(
    "reward_fn",
    [
        lambda samples, prompts, outputs: [1.0] * len(samples),
        lambda samples, prompts, outputs, tokenizer: [float(tokenizer is not None)] * len(samples),
        lambda samples, **kwargs: [float("tokenizer" in kwargs)] * len(samples),
    ],
)
def test_the_tokenizer_is_given_to_who_takes_it(
    tokenizer: PreTrainedTokenizerFast, reward_fn: Callable[..., Any]
) -> None:
    texts = Texts(["a", "b"], ["c", END], ["ac", f"b{END}"])
    assert call_reward_fn(reward_fn, tokenizer, texts).totals.tolist() == [1.0, 1.0]


@register_trainer
class NoReward(AcceleratePPOTrainer):
    """Its rollouts need no reward function."""

    def make_experience(self, num_rollouts: int = 1024, iter_count: int = 0) -> None:
        raise NotImplementedError


def test_ppo_asks_for_a_reward_function_only_to_roll_out(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(tmp_path, tokenizer_folder)
    with pytest.raises(UserError, match="PPO needs a reward_fn"):
        make_trainer(config, reward_fn=None, prompts=PROMPTS).make_experience(8)
    with pytest.raises(NotImplementedError):
        make_trainer(config, NoReward, reward_fn=None).make_experience(8)


def test_without_peft_its_users_get_the_error_they_expect(
    tmp_path: Path, tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    lora = {"peft_type": "LORA"}
    with pytest.raises(ModuleNotFoundError, match="pip install peft"):
        AutoModelForCausalLMWithHydraValueHead.from_pretrained(random_model("gpt2"), peft_config=lora)
    fresh_accelerate()
    with pytest.raises(UserError, match="pip install peft"):
        AcceleratePPOTrainer(ppo_config(tmp_path, tokenizer_folder, model__peft_config=lora), reward_fn=letters)


@torch.no_grad()
@pytest.mark.parametrize("family", ["gpt2", "opt_350m", "llama", "t5", "t5_v1_1"])
@pytest.mark.parametrize("unfrozen", [0, 1, -1])
def test_the_references_lm_head_makes_its_logits(family: str, unfrozen: int) -> None:
    policy = hydra(family, unfrozen)
    inputs = {"input_ids": torch.tensor([[2, 3, 4]])}
    if policy.bare.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([[1, 5]])
    logits = policy.forward_hydra(**inputs)
    for parameter in policy.base_model.parameters():
        parameter.add_(torch.ones_like(parameter) * parameter.requires_grad)
    states: list[Tensor] = []
    head = policy.frozen_head.lm_head
    handle = head.register_forward_pre_hook(lambda _, given: states.append(given[0]))
    policy.forward_hydra(**inputs)
    handle.remove()
    assert torch.equal(head(states[0]), logits)
    assert not any(name.startswith("frozen_head.lm_head") for name in policy.state_dict())


def test_a_saved_policy_remembers_how_much_of_it_trains(tmp_path: Path) -> None:
    policy = hydra("llama", 2, num_value_layers_unfrozen=1)
    policy.save_pretrained(tmp_path)
    again = AutoModelForCausalLMWithHydraValueHead.from_pretrained(tmp_path)
    assert again.state_dict().keys() == policy.state_dict().keys()
    assert saved_arguments(tmp_path) == {"num_value_layers_unfrozen": 1, "num_layers_unfrozen": 2}
    other = AutoModelForCausalLMWithHydraValueHead.from_pretrained(tmp_path, num_layers_unfrozen=1)
    assert other.num_layers_unfrozen == 1  # what is said goes before


def test_generate_passes_over_return_dict() -> None:
    made = hydra("gpt2", 1).generate(torch.tensor([[2, 3]]), return_dict=True, output_hidden_states=True, max_length=4)
    assert made.shape[1] <= 4


@torch.no_grad()
def test_ilql_outputs_by_name() -> None:
    ids = torch.tensor([[2, 3, 4], [5, 6, 7]])
    model = AutoModelForCausalLMWithILQLHeads(random_model("gpt2")).eval()
    logits, qs, target_qs, value, _ = model(ids)
    named = model(ids, return_dict=True)
    assert torch.equal(named.logits, logits) and torch.equal(named.value, value)
    assert all(torch.equal(a, b) for a, b in zip((*named.qs, *named.target_qs), (*qs, *target_qs), strict=True))


@torch.no_grad()
def test_an_ilql_encoder_decoder_takes_the_decoders_mask() -> None:
    model = AutoModelForSeq2SeqLMWithILQLHeads(random_model("t5")).eval()
    ids, start = torch.tensor([[2, 3, 4]]), torch.tensor([[1, 8, 9]])
    whole = model(ids, decoder_input_ids=start, return_dict=True)
    masked = model(ids, decoder_input_ids=start, decoder_attention_mask=torch.tensor([[1, 0, 1]]), return_dict=True)
    assert torch.equal(whole.logits[:, 0], masked.logits[:, 0])
    assert not torch.allclose(whole.logits[:, 2], masked.logits[:, 2])
    assert len(masked.encoder_outputs) == 3
    mask = torch.ones_like(start)
    made = [
        model.generate(ids, decoder_input_ids=start, temperature=0, max_new_tokens=3, **more)
        for more in ({}, {"decoder_attention_mask": mask})
    ]
    assert torch.equal(*made)


@pytest.mark.parametrize("storage", [ILQLRolloutStorage, ILQLSeq2SeqRolloutStorage])
def test_ilql_stores_of_one_column(storage: Any) -> None:
    tokens, column = torch.randint(VOCAB, (8, 5)), torch.zeros(8, 1, dtype=torch.long)
    decoder = [] if storage is ILQLRolloutStorage else [tokens]
    store = storage(tokens, torch.ones_like(tokens), *decoder, column.float(), column, column, column.bool())
    for parts in MiniBatchIterator(store.create_loader(4), mb_size=3, num_mb=2):
        assert [len(part) for part in parts] == [3, 1]
        assert all(len(value) == len(part) for part in parts for value in vars(part).values())
