"""What scripts for trlX override: each hook is called when and as often as there, and is felt."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import EOS, ppo_config
from tiny_runs import PROMPTS, letters, logged, make_trainer, run
from torch import Tensor

from trlx.data.ppo_types import PPORLElement
from trlx.models.modeling_ppo import AutoModelForCausalLMWithHydraValueHead
from trlx.trainer import register_trainer
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.utils.errors import UserError
from trlx.utils.modeling import logprobs_of_labels


@register_trainer
class Noting(AcceleratePPOTrainer):
    """Notes the calls of every hook, in order."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.calls: list[Any] = []
        super().__init__(*args, **kwargs)

    def get_arch(self, config: Any) -> Any:
        self.calls.append("get_arch")
        return super().get_arch(config)

    def setup_optimizer(self) -> Any:
        self.calls.append("setup_optimizer")
        return super().setup_optimizer()

    def setup_scheduler(self) -> Any:
        self.calls.append("setup_scheduler")
        return super().setup_scheduler()

    def add_prompt_pipeline(self, pipeline: Any) -> None:
        self.calls.append("add_prompt_pipeline")
        super().add_prompt_pipeline(pipeline)

    def add_eval_pipeline(self, eval_pipeline: Any) -> None:
        self.calls.append("add_eval_pipeline")
        super().add_eval_pipeline(eval_pipeline)

    def prepare_learning(self) -> None:
        self.calls.append("prepare_learning")
        super().prepare_learning()

    def evaluate(self) -> Any:
        self.calls.append("evaluate")
        return super().evaluate()

    def make_experience(self, num_rollouts: int = 1024, iter_count: int = 0) -> None:
        self.calls.append(("make_experience", num_rollouts, iter_count))
        super().make_experience(num_rollouts, iter_count)

    def push_to_store(self, data: Iterable[PPORLElement]) -> None:
        data = list(data)
        self.calls.append(("push_to_store", len(data)))
        super().push_to_store(data)

    def create_train_dataloader(self) -> Any:
        self.calls.append("create_train_dataloader")
        return super().create_train_dataloader()

    def loss(self, batch: Any) -> Any:
        self.calls.append(("loss", len(batch)))
        return super().loss(batch)

    def post_backward_callback(self) -> None:
        self.calls.append("post_backward_callback")
        super().post_backward_callback()

    def post_epoch_callback(self) -> None:
        self.calls.append("post_epoch_callback")
        super().post_epoch_callback()

    def save(self, directory: str | None = None) -> None:
        self.calls.append("save")
        super().save(directory)


def test_every_hook_in_its_place(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(
        tmp_path,
        tokenizer_folder,
        train__trainer="Noting",
        train__minibatch_size=4,
        train__save_best=False,
        method__num_rollouts=9,
    )
    trainer = run(config)
    # 9 asked for, in chunks of 8: 16 rollouts, so 2 steps a pass, each of two microbatches of 4
    step = [("loss", 4), ("loss", 4)]
    one_pass = ["create_train_dataloader", *step, *step, "post_backward_callback"]

    def experience(iter_count: int) -> list[Any]:
        return [("make_experience", 9, iter_count), ("push_to_store", 16)]

    assert trainer.calls == [
        *("get_arch", "setup_optimizer", "setup_scheduler", "add_prompt_pipeline", "add_eval_pipeline"),
        *("prepare_learning", "evaluate"),
        *[*experience(0), *one_pass, *one_pass, "post_epoch_callback"],
        *[*experience(4), *one_pass, *one_pass[:-1]],  # the last step ends the run
        *("evaluate", "save"),
    ]


@register_trainer
class OwnSampling(AcceleratePPOTrainer):
    """Writes the same two letters after every prompt in rollouts, and one in evaluation; decodes in capitals."""

    def __init__(self, *args: Any, **kwargs: Any):
        self.generated = self.evaluated = self.decoded = 0
        super().__init__(*args, **kwargs)

    def _write(self, input_ids: Tensor, text: str) -> Tensor:
        ids = torch.tensor([*self.tokenizer(text)["input_ids"], EOS]).expand(len(input_ids), -1)
        return torch.cat([input_ids, ids], dim=1)

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        assert attention_mask is not None and kwargs["max_new_tokens"] == 8
        self.generated += 1
        return self._write(input_ids, "ab")

    def generate_eval(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        self.evaluated += 1
        return self._write(input_ids, "c")

    def decode(self, *args: Any, **kwargs: Any) -> tuple[list[str], list[str], list[str]]:
        self.decoded += 1
        samples, prompts, outputs = super().decode(*args, **kwargs)
        return samples, prompts, [output.upper() for output in outputs]


def test_own_sampling_and_decoding_are_used(tmp_path: Path, tokenizer_folder: str) -> None:
    seen: list[str] = []

    def reward_fn(outputs: list[str], **_: Any) -> list[float]:
        seen.extend(outputs)
        return [0.0] * len(outputs)

    config = ppo_config(tmp_path, tokenizer_folder, train__trainer="OwnSampling", train__epochs=1)
    trainer = run(config, reward_fn=reward_fn)
    assert (trainer.generated, trainer.evaluated, trainer.decoded) == (2, 2, 4)
    assert seen == ["C<|ENDOFTEXT|>"] * 4 + ["AB<|ENDOFTEXT|>"] * 16 + ["C<|ENDOFTEXT|>"] * 4
    assert [row.response_tensor.tolist()[-1] for row in trainer.store] == [EOS] * 16
    assert {len(row.response_tensor) for row in trainer.store} == {3}
    assert logged(trainer, "ratio")[0] == pytest.approx(1.0, abs=1e-5)  # log-probs are of the ids it returned
    assert logged(trainer, "rollout/eos_rate") == [1.0]


@register_trainer
class OwnRewards(AcceleratePPOTrainer):
    """Replaces every reward on the way to the store, and keeps every other rollout."""

    def push_to_store(self, data: Iterable[PPORLElement]) -> None:
        kept = list(data)[::2]
        for element in kept:
            element.rewards = torch.full_like(element.rewards, 2.0)
        super().push_to_store(kept)

    def post_epoch_callback(self) -> None:
        """Leaves the store as it is, for the test to read."""


def test_rewards_changed_on_the_way_are_those_learned_from(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, train__epochs=1, method__lam=1.0, method__ppo_epochs=1)
    trainer = make_trainer(config, OwnRewards)
    trainer.learn()
    assert len(trainer.store) == 8 and trainer.iter_count == 1
    for row in trainer.store:  # λ = γ = 1: the return of a place is the sum of the rewards from there on
        length = len(row.rewards)
        assert row.returns.tolist() == pytest.approx([2.0 * (length - t) for t in range(length)], rel=1e-4)
    assert logged(trainer, "returns/max") == [pytest.approx(16.0, rel=1e-4)]


@register_trainer
class OwnExperience(AcceleratePPOTrainer):
    """trlX's way: whole padded rows, log-probs of all of them, and the score where the row's padding ends."""

    pushed: list[PPORLElement]

    def make_experience(self, num_rollouts: int = 1024, iter_count: int = 0) -> None:
        self.pushed = []
        while len(self.pushed) < num_rollouts:
            assert self.prompt_iterator is not None and self.reward_fn is not None
            batch = next(self.prompt_iterator)
            ids, mask = batch["input_ids"], batch["attention_mask"]
            metadata = {k: v for k, v in batch.items() if k not in ("input_ids", "attention_mask")}
            samples = self.generate(ids, mask)
            texts, prompts, outputs = self.decode(ids, samples, [ids.shape[1]] * len(ids), append_eos_token=True)
            scores = self.reward_fn(
                samples=texts, prompts=prompts, outputs=outputs, tokenizer=self.tokenizer, **metadata
            )
            whole = torch.cat([mask, samples[:, ids.shape[1] :].ne(self.tokenizer.pad_token_id).long()], dim=1)
            with torch.no_grad():
                outputs_now = self.model(samples, attention_mask=whole, return_dict=True)
                reference = self.ref_model(samples, attention_mask=whole, return_dict=True).logits
            new, old = (
                logprobs_of_labels(logits[:, :-1] / 0.9, samples[:, 1:]) for logits in (outputs_now.logits, reference)
            )
            start = ids.shape[1] - 1
            elements = []
            for row, score in enumerate(scores):
                rewards = -self.kl_ctl.value * (new - old)[row, start:]
                rewards[-1] += score
                values = outputs_now.value[row, start:-1]
                response = samples[row, start + 1 :]
                elements.append(PPORLElement(ids[row], response, new[row, start:], values, rewards))
            self.pushed += elements
            self.push_to_store(elements)


def test_experience_made_the_old_way_trains(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(
        tmp_path, tokenizer_folder, train__trainer="OwnExperience", train__epochs=1, model__num_layers_unfrozen=2
    )
    trainer = run(config)
    assert trainer.iter_count == 4
    assert logged(trainer, "ratio")[0] == pytest.approx(1.0, abs=1e-5)
    assert {len(row.query_tensor) for row in trainer.pushed} != {len(row.query_tensor) for row in trainer.store}
    for given, kept in zip(trainer.pushed, trainer.store, strict=True):
        assert not kept.query_tensor.eq(EOS).any() and not kept.response_tensor[:-1].eq(EOS).any()
        assert kept.rewards.sum().item() == pytest.approx(given.rewards.sum().item(), abs=1e-5)
        # nothing but the score and a KL of 0: it stands on the last real token, EOS where there is one
        assert kept.rewards[:-1].abs().max() < 1e-4 if len(kept.rewards) > 1 else True


@register_trainer
class OwnLoop(AcceleratePPOTrainer):
    """Its own plan, model, data order, loss and end of an epoch."""

    def get_arch(self, config: Any) -> Any:
        return AutoModelForCausalLMWithHydraValueHead(self.load_base_model(), num_layers_unfrozen=1)

    def prepare_learning(self) -> None:
        self.n_inner_epochs, self.total_steps = 3, 5

    def create_train_dataloader(self) -> Any:
        return self.store.create_loader(16, shuffle=False)

    def loss(self, batch: Any) -> Any:
        loss, stats = super().loss(batch)
        return loss * 0 + sum(parameter.sum() for parameter in self.unwrapped_model.v_head.parameters()), stats

    def post_epoch_callback(self) -> None:
        """As trlX's: new rollouts at once."""
        self.store.clear_history()
        self.make_experience(self.config.method.num_rollouts, self.iter_count)  # type: ignore[attr-defined]


def test_own_plan_and_loss(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, train__trainer="OwnLoop", optimizer__name="sgd", train__epochs=9)
    config.optimizer.kwargs = {"lr": 0.5}
    start = make_trainer(config, OwnLoop).unwrapped_model.v_head.state_dict()
    trainer = run(config)
    assert trainer.iter_count == 5
    assert logged(trainer, "rollout/phase") == [0, 0]  # the second one is made before the epoch is over
    assert trainer.unwrapped_model.trunk.depth == 3
    # every one of five steps moves every weight of the head by −lr · 1, and nothing else moves
    assert (tmp_path / "best_checkpoint").exists()
    for name, value in trainer.unwrapped_model.v_head.state_dict().items():
        torch.testing.assert_close(value, start[name] - 2.5, msg=name)


@register_trainer
class Lingering(AcceleratePPOTrainer):
    """Goes on with the same rollouts."""

    def post_epoch_callback(self) -> None:
        pass


def test_rollouts_that_are_not_cleared_are_used_again(tmp_path: Path, tokenizer_folder: str) -> None:
    calls: list[int] = []

    def reward_fn(outputs: list[str], **_: Any) -> list[float]:
        calls.append(len(outputs))
        return [0.0] * len(outputs)

    trainer = run(ppo_config(tmp_path, tokenizer_folder, train__trainer="Lingering"), reward_fn=reward_fn)
    assert calls == [4, 8, 8, 4] and trainer.iter_count == 8


def test_generation_is_that_of_the_policy_in_training(tmp_path: Path, tokenizer_folder: str) -> None:
    """`generate` and the rollouts follow the weights, not a copy of them."""
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder), prompts=PROMPTS)
    assert letters(outputs=["ab1"]) == [pytest.approx(20 / 3)]
    head = trainer.policy.get_output_embeddings()
    head.register_forward_hook(lambda _, __, logits: logits + 1e3 * torch.eye(logits.shape[-1])[42])
    ids = torch.tensor([[5, 6]])
    assert trainer.generate(ids).tolist() == [[5, 6] + [42] * 8]
    trainer.make_experience(8)
    assert all(row.response_tensor.tolist() == [42] * 8 for row in trainer.store)


@register_trainer
class Picky(AcceleratePPOTrainer):
    def push_to_store(self, data: Any) -> None:
        """Nothing is good enough."""


def test_an_empty_store_is_said(tmp_path: Path, tokenizer_folder: str) -> None:
    with pytest.raises(UserError, match=r"push_to_store must leave rollouts in the store.*not \[0\]"):
        run(ppo_config(tmp_path, tokenizer_folder, train__trainer="Picky"))
