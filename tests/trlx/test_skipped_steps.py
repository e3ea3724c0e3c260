"""A gradient that is not finite changes nothing; too many of them end the run. (Two ranks: `test_two_ranks`.)"""

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tiny_engine import ppo_config
from tiny_runs import logged, make_trainer, moved, run, weights

from trlx.trainer import register_trainer
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.trainer.engine import PATIENCE


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
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder, train__epochs=9), NowAndThen)
    trainer.broken = {*range(1, PATIENCE), *range(PATIENCE + 1, 99)}  # nine, a good one, then ten
    trainer.prepare_learning()
    batches = trainer.batches()
    for _ in range(2 * PATIENCE):
        trainer.train_step(next(batches))
    with pytest.raises(RuntimeError, match=f"not finite in {PATIENCE} optimizer steps in a row"):
        trainer.train_step(next(batches))
