"""Numbers in a configuration that cannot be meant: lengths below 1, rates that are infinite."""

from __future__ import annotations

import dataclasses

from trlx.data.configs import TrainConfig, TRLConfig
from trlx.utils.errors import UserError
from trlx.utils.ranges import (
    ABOVE_0,
    AT_LEAST_0,
    AT_LEAST_1,
    BELOW_1,
    FINITE,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    require_ranges,
)

TRAIN = {
    "seq_length": AT_LEAST_1,
    "batch_size": AT_LEAST_1,
    "minibatch_size": AT_LEAST_1,
    "total_steps": AT_LEAST_0,
    "epochs": AT_LEAST_0,
    "checkpoint_interval": AT_LEAST_1,
    "eval_interval": AT_LEAST_1,
    "resume_interval": AT_LEAST_0,
    "keep_checkpoints": AT_LEAST_0,
    "seed": AT_LEAST_0,
    "heldout_patience": AT_LEAST_1,
    "max_skipped_steps": AT_LEAST_1,
    "reward_timeout": POSITIVE,
    "ema_decay": BELOW_1,
}
# By name, of whatever method has it.
METHOD = {
    "ppo_epochs": AT_LEAST_1,
    "num_rollouts": AT_LEAST_1,
    "chunk_size": AT_LEAST_1,
    "num_value_layers_unfrozen": AT_LEAST_0,
    "init_kl_coef": NOT_NEGATIVE,
    "target": ABOVE_0,
    "horizon": AT_LEAST_1,
    "gamma": SHARE,
    "lam": SHARE,
    "cliprange": ABOVE_0,
    "cliprange_value": ABOVE_0,
    "vf_coef": NOT_NEGATIVE,
    "ptx_coef": NOT_NEGATIVE,
    "ref_mean": FINITE,
    "ref_std": POSITIVE,
    "cliprange_reward": AT_LEAST_0,
    "missing_eos_penalty": FINITE,
    "max_grad_norm": ABOVE_0,
    "target_kl": ABOVE_0,
    "cql_scale": FINITE,
    "awac_scale": FINITE,
    "beta": FINITE,
    "steps_for_target_q_sync": AT_LEAST_1,
    "start_percentile": SHARE,
    "end_percentile": SHARE,
    "n_improve_steps": AT_LEAST_1,
    "n_generations_per_prompt": AT_LEAST_1,
}


def require_limits(config: TRLConfig) -> None:
    """Raises: UserError for a setting of the training loop or the method that cannot be meant, naming it."""
    require_ranges(config.train, TRAIN, "train.")
    _require_stoppable(config.train)
    known = {field.name for field in dataclasses.fields(config.method)}
    require_ranges(config.method, {name: METHOD[name] for name in METHOD if name in known}, "method.")


def require_ptx(config: TRLConfig, there: bool) -> None:
    """Raises: UserError where pretraining texts and `method.ptx_coef` do not go together.

    Args:
        there: whether there are such texts.
    """
    method = config.method
    coefficient: float | None = getattr(method, "ptx_coef", None)
    if there and coefficient is None:
        name = type(method).__name__
        raise UserError(f"{name} has no ptx_coef: pretraining texts are mixed in by PPO alone, leave them out")
    if there and not coefficient:
        raise UserError("there are pretraining texts but method.ptx_coef is 0: set it above 0, or leave the texts out")
    if coefficient and not there:
        raise UserError(
            f"method.ptx_coef is {coefficient} but there are no pretraining texts: give trlx.train ptx_texts=, or set "
            "it to 0"
        )
    if there and config.model.model_arch_type != "causal":
        raise UserError("pretraining texts need a causal model: set method.ptx_coef to 0 for an encoder-decoder")
    if there and config.model.num_layers_unfrozen == 0 and config.model.peft_config is None:
        raise UserError(
            "pretraining texts need a policy that trains: set model.num_layers_unfrozen to 1 or more, or -1"
        )


def _require_stoppable(train: TrainConfig) -> None:
    """Raises: UserError where training shall stop at what nothing watches, or go back to what is not kept."""
    if train.on_overoptimization != "stop":
        return
    if train.heldout_metric is None:
        raise UserError("train.on_overoptimization stop needs a train.heldout_metric to watch: name one")
    if not train.save_optimizer:
        raise UserError("train.on_overoptimization stop loads a checkpoint back: set train.save_optimizer to true")
