"""The three critics in training: a head on the policy's trunk, a branch of its own, a model of its own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import EOS, neo_config, ppo_config
from tiny_runs import logged, make_trainer, moved, run, run_until, weights
from transformers import GPTNeoForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from trlx.trainer import register_trainer
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.utils.errors import UserError


def reward_model(folder: Path, vocab: int = 258, labels: int = 1) -> GPTNeoForSequenceClassification:
    """A random reward model, its pad token apart from EOS as the pipeline's."""
    config = neo_config(layers=2, hidden=16)
    config.vocab_size, config.num_labels, config.pad_token_id = vocab, labels, vocab - 1
    torch.manual_seed(5)
    model = GPTNeoForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model.eval()


def test_a_separate_critic_begins_as_the_reward_model_s_score_of_each_prefix(
    tmp_path: Path, tokenizer_folder: str
) -> None:
    model = reward_model(tmp_path / "rm")
    config = ppo_config(
        tmp_path, tokenizer_folder, model__critic_path=str(tmp_path / "rm"), model__num_layers_unfrozen=2
    )
    trainer = make_trainer(config)
    trainer.make_experience(8)
    checked = 0
    for row in trainer.store:
        whole = torch.cat([row.query_tensor, row.response_tensor])
        for t in range(len(row.response_tensor)):
            prefix = whole[: len(row.query_tensor) + t].unsqueeze(0)
            with torch.no_grad():
                score = model(prefix).logits.item()  # transformers' own reading: at the last token that is no pad
            assert row.values[t].item() == pytest.approx(score, abs=1e-5)
            checked += 1
    assert checked >= 40
    spread = torch.cat([row.values for row in trainer.store]).std()
    assert spread > 1e-2  # or the comparison above would say little


@register_trainer
class ValueOnly(AcceleratePPOTrainer):
    """Learns the values alone."""

    def loss(self, batch: Any) -> Any:
        _, stats = super().loss(batch)
        output = self.model(
            query=batch.query_tensors,
            query_mask=batch.query_mask,
            response=batch.response_tensors,
            response_mask=batch.response_mask,
            trunk=batch.trunk,
            response_pass=True,
        )
        error = (output["values"] - batch.returns).square() * batch.response_mask
        return error.sum() / batch.response_mask.sum(), stats


@pytest.mark.parametrize("critic", ["head", "branch", "separate"])
@pytest.mark.parametrize("unfrozen", [-1, 2])
def test_whom_the_value_loss_moves(tmp_path: Path, tokenizer_folder: str, critic: str, unfrozen: int) -> None:
    overrides: dict[str, Any] = {"model__num_layers_unfrozen": unfrozen, "method__init_kl_coef": 0.0}
    if critic == "branch":
        overrides["method__num_value_layers_unfrozen"] = 1
    if critic == "separate":
        reward_model(tmp_path / "rm")
        overrides["model__critic_path"] = str(tmp_path / "rm")
    overrides["optimizer__kwargs__weight_decay"] = 0.0
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder, **overrides), ValueOnly)
    before = weights(trainer)
    trainer.prepare_learning()
    trainer.train_step(next(trainer.batches()))
    changed = moved(before, trainer)
    assert any(name.startswith("v_head.") for name in changed)
    policy = {name for name in changed if not name.startswith("v_head.")}
    assert bool(policy) == (critic == "head"), sorted(policy)[:3]  # trlX's head shares the policy's trunk
    assert not [name for name in policy if name.startswith("frozen_head")]
    if critic == "branch":
        assert {name.split(".")[1] for name in changed} == {"copies", "v_head"}


@pytest.mark.parametrize("critic", ["branch", "separate"])
def test_a_run_with_it_begins_at_ratio_1_trains_and_comes_back(
    tmp_path: Path, tokenizer_folder: str, critic: str
) -> None:
    overrides: dict[str, Any] = {"model__num_layers_unfrozen": 2, "train__epochs": 1}
    if critic == "branch":
        overrides["method__num_value_layers_unfrozen"] = 3  # more than the policy trains
    else:
        reward_model(tmp_path / "rm")
        overrides["model__critic_path"] = str(tmp_path / "rm")
    trainer = run(ppo_config(tmp_path / "one", tokenizer_folder, **overrides))
    assert trainer.iter_count == 4
    assert logged(trainer, "ratio")[0] == pytest.approx(1.0, abs=1e-5)
    assert abs(logged(trainer, "policy/kl")[0]) <= 1e-5
    (folder,) = (tmp_path / "one").glob("checkpoint_*/hf_model")
    assert (folder / "heads.safetensors").exists()
    again = make_trainer(ppo_config(tmp_path / "two", tokenizer_folder, model__model_path=str(folder), **overrides))
    trained, loaded = weights(trainer), weights(again)
    start = make_trainer(ppo_config(tmp_path / "three", tokenizer_folder, **overrides))
    for name, value in trained.items():
        if name.startswith("v_head") and critic == "separate":  # a critic that is named is the one that is taken
            assert torch.equal(loaded[name], weights(start)[name]), name
        elif not name.startswith("frozen_head"):  # the reference is the model it starts from
            assert torch.equal(loaded[name], value), name
    assert any(name.startswith("v_head.") for name in moved(weights(start), trainer))


def test_heads_come_back_through_train_s_model_path(tmp_path: Path, tokenizer_folder: str) -> None:
    first = run(ppo_config(tmp_path / "one", tokenizer_folder, train__epochs=1, model__num_layers_unfrozen=2))
    (folder,) = (tmp_path / "one").glob("checkpoint_*/hf_model")
    still = {"train__epochs": 1, "optimizer__kwargs__lr": 0.0, "optimizer__kwargs__weight_decay": 0.0}
    second = run(ppo_config(tmp_path / "two", tokenizer_folder, **still), model_path=str(folder))
    loaded = weights(second)
    for name, value in weights(first).items():
        if not name.startswith("frozen_head"):
            assert torch.equal(loaded[name], value), name
    assert first.config.model.model_path != str(folder)


def test_a_checkpoint_with_a_separate_critic_resumes(tmp_path: Path, tokenizer_folder: str) -> None:
    reward_model(tmp_path / "rm")
    overrides: dict[str, Any] = {
        "model__critic_path": str(tmp_path / "rm"),
        "model__num_layers_unfrozen": 2,
        "train__resume_interval": 3,
    }
    whole = run(ppo_config(tmp_path / "whole", tokenizer_folder, **overrides))
    run_until(4, ppo_config(tmp_path / "cut", tokenizer_folder, **overrides))  # after step 4
    resumed = run(ppo_config(tmp_path / "cut", tokenizer_folder, train__resume_from_checkpoint="auto", **overrides))
    assert whole.iter_count == resumed.iter_count == 8
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_what_can_be_no_critic(tmp_path: Path, tokenizer_folder: str) -> None:
    def made(folder: str, **overrides: Any) -> Any:
        return make_trainer(
            ppo_config(tmp_path, tokenizer_folder, model__critic_path=str(tmp_path / folder), **overrides)
        )

    reward_model(tmp_path / "small", vocab=200)
    with pytest.raises(UserError, match="knows 200 tokens and the policy 257"):
        made("small")
    reward_model(tmp_path / "good")
    with pytest.raises(UserError, match=r"model.critic_path needs a causal model and .* 0"):
        made("good", method__num_value_layers_unfrozen=1)
    with pytest.raises(UserError, match="no such folder"):
        made("absent")


def test_a_critic_of_another_family(tmp_path: Path, tokenizer_folder: str) -> None:
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=EOS,
        max_position_embeddings=64,
    )
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "rm")
    overrides: dict[str, Any] = {"train__epochs": 1, "model__critic_path": str(tmp_path / "rm")}
    trainer = run(ppo_config(tmp_path / "run", tokenizer_folder, **overrides))
    assert trainer.iter_count == 4
