"""What must be there before a stage spends hours: the model it starts from, and room on the disk for its checkpoints.

Sizes are of the parameters and their optimizer's moments, which are nearly all of a checkpoint; tests hold the formulas
to the files of small runs. Left out: rollouts, tokenizers and logs, megabytes at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from evaluation.policies import require_model
from launch.outputs import checkpoint_step
from tasks.run_folder import maker_of
from trlx.data.configs import TRLConfig
from trlx.data.method_configs import PPOConfig
from trlx.utils.blocks import find_blocks
from trlx.utils.disk import require_disk, size_of
from trlx.utils.pretrained import meta_model


def require_start(path: str, named_by: str = "--model") -> None:
    """Check that the model a stage starts from is a folder with a model, or may be a hub id.

    Raises: UserError naming the stage that makes it, where its path tells.
    """
    maker = maker_of(path)
    made = f"`{maker}` with the same --root makes it, or " if maker else ""
    require_model("finished", path, f"{made}name another with {named_by}")


def require_stage_room(
    out: Path, model: nn.Module, deepspeed: bool, half: bool, copies: int, sharded: bool = False
) -> None:
    """Check that the checkpoints of a Trainer stage will fit on the disk; what is there of them already counts.

    Args:
        out: the stage's folder. model: whole, with the frozen weights already frozen.
        deepspeed: whether it trains with DeepSpeed. half: whether in fp16 or bf16. copies: on the disk at once at most.
        sharded: whether in ZeRO stage 3.

    Raises: UserError with the space that is needed and that is there.
    """
    needed = copies * stage_checkpoint_bytes(*_counts(model), deepspeed, half, sharded)
    held = size_of(*(path for path in out.glob("checkpoint-*") if checkpoint_step(path) >= 0))
    require_disk(
        out,
        needed - held,
        f"{copies} checkpoints of this stage",
        "keep fewer with --save_total_limit, or choose another --root or --out",
    )


def stage_checkpoint_bytes(parameters: int, trained: int, deepspeed: bool, half: bool, sharded: bool = False) -> int:
    """Bytes of a Trainer's checkpoint.

    Without DeepSpeed: float32 weights and Adam's two moments. With it: the weights twice (its own files and the model
    that the Trainer gathers), a float32 master copy, and the moments. Sharded (ZeRO stage 3), its own files have of the
    weights those alone that do not train.
    """
    if not deepspeed:
        return 4 * parameters + 8 * trained
    again = parameters - trained if sharded else parameters
    return (2 if half else 4) * (parameters + again) + 12 * trained


def require_ppo_room(config: TRLConfig, held: Sequence[Path] = ()) -> None:
    """Check that the checkpoints of a PPO run will fit on the disk.

    Args:
        config: with a folder or hub id as model.model_path. held: checkpoints that this run will replace.

    Raises: UserError with the space that is needed and that is there, or when the model cannot be read.
    """
    train = config.train
    copies = ppo_copies(config)
    require_disk(
        train.checkpoint_dir,
        copies * ppo_checkpoint_bytes(config) - size_of(*held),
        f"{copies} checkpoints of this run",
        "keep fewer with --train.keep_checkpoints, or choose another --root",
    )


def ppo_checkpoint_bytes(config: TRLConfig) -> int:
    """Bytes of one checkpoint: the float32 model, and for resuming the weights again, the trained top blocks' frozen
    copy, and Adam's two moments; a critic of its own with all of these but the copy. A moving average adds the model
    once more, and what trains of it."""
    model = meta_model(str(config.model.model_path))
    parameters = _counts(model)[0]
    unfrozen = config.model.num_layers_unfrozen
    blocks = find_blocks(model)
    tops = blocks[len(blocks) - unfrozen :] if unfrozen >= 0 else [model]
    trained = 0 if config.model.peft_config else sum(_counts(block)[0] for block in tops)
    critic = _counts(meta_model(config.model.critic_path))[0] if config.model.critic_path else 0
    exports = 1 if config.train.ema_decay is None else 2
    if not config.train.save_optimizer:
        return 4 * (exports * parameters + critic)
    return 4 * exports * parameters + 4 * parameters + (8 + 4 * exports) * trained + 16 * critic


def ppo_copies(config: TRLConfig) -> int:
    """Checkpoints that are on the disk at once at most: kept ones, the best, the best by a held-out score where one is
    watched, the rolling one and the one before it, the one being written."""
    train = config.train
    steps = train.total_steps
    if isinstance(config.method, PPOConfig):
        method = config.method
        rollouts = math.ceil(method.num_rollouts / method.chunk_size) * method.chunk_size
        steps = min(steps, train.epochs * method.ppo_epochs * math.ceil(rollouts / train.batch_size))
    kept = math.ceil(steps / train.checkpoint_interval)
    if train.keep_checkpoints is not None:
        kept = min(kept, train.keep_checkpoints)
    rolling = train.save_optimizer and 0 < train.resume_interval <= steps
    return kept + train.save_best + (train.heldout_metric is not None) + 2 * rolling + 1


def _counts(model: nn.Module) -> tuple[int, int]:
    """(parameters, those of them that train), tied ones once."""
    weights = list(model.parameters())
    return sum(w.numel() for w in weights), sum(w.numel() for w in weights if w.requires_grad)
