"""A gradient that is not finite changes nothing; too many of them end the run. (Two ranks: `test_two_ranks`.)"""

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tiny_engine import EOS, make_rollouts, ppo_config
from tiny_runs import logged, make_trainer, moved, run, weights

from trlx.data.ppo_types import collate
from trlx.trainer import register_trainer
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.utils.errors import UserError


@register_trainer
class NowAndThen(AcceleratePPOTrainer):
    """The loss of chosen microbatches, counted from 0, is no number."""

    broken: ClassVar[set[int]] = {2}
    count = -1

    def loss(self, batch: Any) -> Any:
        loss, stats = super().loss(batch)
        self.count += 1
        return loss * math.nan if self.count in self.broken else loss, stats


@pytest.mark.parametrize("limit", [None, 1.0])
def test_one_bad_microbatch_skips_its_step_alone(tmp_path: Path, tokenizer_folder: str, limit: float | None) -> None:
    config = ppo_config(
        tmp_path, tokenizer_folder, train__trainer="NowAndThen", train__minibatch_size=4, method__max_grad_norm=limit
    )
    trainer = run(config)  # microbatch 2 is in the second step
    assert trainer.iter_count == 8
    assert logged(trainer, "skipped_steps") == [0, 1, 0, 0, 0, 0, 0, 0]
    assert all(bool(value.isfinite().all()) for value in weights(trainer).values())
    assert all(math.isfinite(value) for value in logged(trainer, "gradient_norm")[2:])


def test_weights_and_moments_stay(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder), NowAndThen)
    trainer.broken = {1}
    trainer.prepare_learning()
    batches = trainer.batches()
    trainer.train_step(next(batches))
    before, state = weights(trainer), [v["exp_avg"].clone() for v in trainer.opt.state.values()]
    assert trainer.train_step(next(batches))["skipped_steps"] == 1.0
    assert moved(before, trainer) == set()
    for value, now in zip(state, trainer.opt.state.values(), strict=True):
        assert torch.equal(value, now["exp_avg"])
    assert trainer.train_step(next(batches))["skipped_steps"] == 0.0
    assert moved(before, trainer)


def test_too_many_in_a_row_end_the_run(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, train__epochs=9, train__max_skipped_steps=3)
    trainer = make_trainer(config, NowAndThen)
    trainer.broken = {*range(1, 3), *range(4, 99)}  # two, a good one, then three
    trainer.prepare_learning()
    batches = trainer.batches()
    for _ in range(6):
        trainer.train_step(next(batches))
    with pytest.raises(UserError, match=r"the loss was not finite at step 7, .* 3 in a row: lower optimizer.kwargs.lr"):
        trainer.train_step(next(batches))


@register_trainer
class OnlyMeans(AcceleratePPOTrainer):
    """Its loss of a microbatch without tokens is 0/0."""

    def loss(self, batch: Any) -> Any:
        loss, stats = super().loss(batch)
        return (loss * math.nan if self.loss_weight(batch) == 0 else loss), stats


def test_microbatches_without_tokens_have_no_say(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, train__minibatch_size=4)
    trainer = make_trainer(config, OnlyMeans)
    trainer.iter_count = 1  # the rollouts are invented, so ratio 1 is not to be expected
    batch = collate(make_rollouts(8), EOS)
    empty = dataclasses.replace(batch, response_mask=torch.zeros_like(batch.response_mask))
    before = weights(trainer)
    nothing = trainer.train_step([empty.rows(slice(4))])
    assert nothing["gradient_norm"] == 0.0 and nothing["skipped_steps"] == 0.0
    alone = trainer.train_step([batch.rows(slice(4))])
    beside = trainer.train_step([batch.rows(slice(4)), empty.rows(slice(4))])
    assert beside["skipped_steps"] == 0.0 and moved(before, trainer)
    assert alone["losses/total_loss"] == pytest.approx(alone["losses/policy_loss"] + alone["losses/value_loss"])
    assert beside["returns/mean"] == pytest.approx(alone["returns/mean"])  # over the same tokens
