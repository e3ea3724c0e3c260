"""Where a policy stage (PPO, RFT) writes, and when it may: the engine's files, in two folders that hold others too.

Left out: the output folders of the Trainer stages, which are theirs alone (`launch.outputs`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from launch.checks import require_ppo_room
from trlx.data.configs import TrainConfig, TRLConfig
from trlx.trainer.accelerate_base_trainer import AccelerateRLTrainer
from trlx.trainer.checkpoint_folder import BEST_HELDOUT_NAME, BEST_NAME, PREVIOUS_NAME, RESUME_NAME, find_resumable
from trlx.trainer.checkpointer import EXPORT, EXPORT_EMA
from trlx.trainer.heldout import MONITOR_FILE
from trlx.utils.errors import UserError
from trlx.utils.lock import take
from trlx.utils.metrics import METRICS_FILE

# What such a stage writes into train.checkpoint_dir and train.logging_dir; `--overwrite` removes these, nothing else.
EXPORTS = (EXPORT, EXPORT_EMA)  # of the policy that a run went back to
CHECKPOINTS = (
    *(BEST_NAME, BEST_HELDOUT_NAME, RESUME_NAME, PREVIOUS_NAME, *EXPORTS, "checkpoint_*"),
    *(".*checkpoint*.writing", ".*checkpoint*.old"),
    *(f".{name}.{state}" for name in EXPORTS for state in ("writing", "old")),
)
# What a kill leaves of a small file (`trlx.utils.files.write_text`).
HALF_WRITTEN = (f".{METRICS_FILE}.writing-*", f".{MONITOR_FILE}.writing-*", "eval/.*.writing-*")
LOGS = (METRICS_FILE, MONITOR_FILE, "events.out.tfevents.*", "eval", *HALF_WRITTEN[:2])


def log_folder(train: TrainConfig) -> Path:
    """Where metrics and event files go."""
    return Path(train.logging_dir or Path(train.checkpoint_dir) / "logs")


def claim_outputs(stage: str, config: TRLConfig, overwrite: bool, resume: bool | str) -> str | None:
    """Make sure that nothing is overwritten by surprise; call on the main rank only.

    Args:
        stage: its name, to begin lines on the console with. config: of the engine. overwrite, resume: as asked for.

    A resumed run may not go back any more, so the policy that it went back to before is removed, too.

    Returns: the checkpoint to resume from, or None to begin at the beginning.
    Raises: UserError when an earlier run is there and neither --overwrite nor --resume was given, or when one is
        being written there now.
    """
    if overwrite and resume:
        raise UserError("--overwrite and --resume exclude each other: give one of them")
    folder = Path(config.train.checkpoint_dir)
    written = list(_found(folder, CHECKPOINTS))
    held = sorted([*written, *_found(log_folder(config.train), LOGS)])
    if held and not overwrite and not resume:
        raise UserError(f"{held[0]} already holds a run: pass --overwrite to replace it or --resume to go on with it")
    found = find_resumable(folder) if resume else None
    # What a kill left half written is no model.
    finished = [path for path in written if (path / EXPORT).is_dir() and not path.name.endswith(".writing")]
    if resume and found is None and finished:
        raise UserError(f"{finished[0]} holds a model but nothing to resume from: pass --overwrite to train it anew")
    require_ppo_room(config, written)
    take(folder)
    gone_back_to = [folder / name for name in EXPORTS]
    half = list(_found(log_folder(config.train), HALF_WRITTEN))
    _remove(held if found is None else [*half, *(path for path in held if path in gone_back_to)])
    if resume:
        start = f"resuming from {found}" if found else "no whole checkpoint: from the beginning"
        print(f"[{stage}] {start}", flush=True)
    return None if found is None else str(found)


def finish(trainer: AccelerateRLTrainer, train: TrainConfig) -> list[str]:
    """Export the policy that training went back to, if it did; the lines that say which policies there are.

    Every rank must call it. The export is `checkpoint_dir/hf_model`: the weights that the trainer has now,
    with their moving average beside it where there is one.

    Args:
        trainer: after training. train: of the engine's configuration.
    """
    folder, monitor = Path(train.checkpoint_dir), trainer.heldout.monitor
    by_heldout = folder / BEST_HELDOUT_NAME / EXPORT
    policies = {"reward": folder / BEST_NAME / EXPORT}
    if train.heldout_metric is not None:
        policies[train.heldout_metric] = by_heldout
    there = {name: f"the best policy by {name} is in {path}" for name, path in policies.items() if path.is_dir()}
    if not monitor.rolled_back or monitor.best_by_heldout is None:
        return ["; ".join([f"done after {trainer.iter_count} steps", *there.values()])]
    trainer.save_pretrained(str(folder / EXPORT))
    return [
        f"the policy to use is in {by_heldout}: training was stopped at step {trainer.iter_count}, where the reward "
        f"parted from {train.heldout_metric}, and went back to step {monitor.best_by_heldout['step']}",
        f"the trainer's own weights, the same, are in {folder / EXPORT}",
        *(line for name, line in there.items() if name == "reward"),
    ]


def _found(folder: Path, patterns: Sequence[str]) -> Iterator[Path]:
    return (path for pattern in patterns for path in folder.glob(pattern))


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
