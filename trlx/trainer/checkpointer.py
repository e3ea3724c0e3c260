"""Checkpoints that are whole or absent: written aside by all ranks, flushed, then renamed into place.

    checkpoint_0200/
        hf_model/                  config, float32 safetensors, tokenizer: for transformers' from_pretrained;
                                   beside them heads.safetensors (critic or ILQL heads) and adapter/ (peft)
        hf_model_ema/              the same of the moving average of the policy's weights, with `train.ema_decay`
        manifest.json              size and SHA-256 of every other file; a checkpoint that differs is passed over
        trainer_state.json         step, phase, KL coefficient, moments, best reward, data position
        layout.json                shape of every weight, and whether it is trained: of another model nothing is loaded
        random_states_0.pkl        generators of rank 0 (and so on)
        rollouts_0.pt              the phase's rollouts of rank 0, when it is in the middle of one (PPO)
        ema.pt                     the moving average, with `train.ema_decay`
        pytorch_model.bin  optimizer.bin  scheduler.bin                          without DeepSpeed
        checkpoint_0200/*.pt  latest  zero_to_fp32.py  scheduler.bin             with DeepSpeed

All but the exports and the manifest is there only when `save_optimizer` is on. Files are read with weights_only, never
unpickled freely; the shards are DeepSpeed's and read by it, once the manifest has been checked.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from trlx.trainer.checkpoint_folder import PREVIOUS_NAME, RESUME_NAME, read_state
from trlx.trainer.engine import Engine
from trlx.trainer.export import AVERAGE, ModelExport, fresh, refuse_file
from trlx.trainer.layout import LAYOUT_FILE, layout, require_same_model
from trlx.utils import logging
from trlx.utils.checkpoints import STATE_FILE
from trlx.utils.disk import writing
from trlx.utils.distributed import from_main_rank
from trlx.utils.errors import UserError
from trlx.utils.files import fsync_tree_top, publish, recover, staging_path, write_json
from trlx.utils.generators import generator_states, restore_generators
from trlx.utils.manifest import MANIFEST_FILE, require_whole, write_manifest

SHARDS_SCRIPT = Path(__file__).with_name("zero_to_fp32.py")
EXPORT = "hf_model"
EXPORT_EMA, AVERAGE_FILE = f"{EXPORT}{AVERAGE}", "ema.pt"
log = logging.get_logger(__name__)


class Checkpointer:
    """Saves and loads a run; every rank must make each call.

    Args:
        export: writes `hf_model`, and `hf_model_ema` where it has a moving average, whose state goes along.
        save_optimizer: whether to save what resuming needs.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        engine: Engine,
        export: ModelExport,
        save_optimizer: bool,
    ):
        self.accelerator, self.engine, self.export, self.save_optimizer = accelerator, engine, export, save_optimizer

    def save(self, folder: str | Path, state: dict[str, Any], rollouts: dict[str, Tensor] | None) -> None:
        """Write a checkpoint to `folder`, replacing an older one only once it stands.

        Args:
            state: JSON-able, the same on every rank. rollouts: this rank's tensors, or None between phases.

        Raises: UserError when `folder` holds something else than a checkpoint.
        """
        folder = Path(folder).resolve()
        from_main_rank(lambda: _refuse_other_content(folder))
        with writing(folder):
            self._save(folder, state, rollouts)

    def _save(self, folder: Path, state: dict[str, Any], rollouts: dict[str, Tensor] | None) -> None:
        staging = staging_path(folder)
        from_main_rank(lambda: fresh(staging))
        self.export.write(staging / EXPORT)
        if self.export.ema is not None:
            self.export.write_average(staging / EXPORT_EMA)
        if self.save_optimizer:
            self._save_training_state(staging, folder.name, rollouts)
            from_main_rank(lambda: write_json(staging / LAYOUT_FILE, layout(self.engine.module)))
            from_main_rank(lambda: write_json(staging / STATE_FILE, state))
        self.accelerator.wait_for_everyone()
        from_main_rank(lambda: _publish_checkpoint(staging, folder))

    def load(self, folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
        """Put the model, optimizer, schedule and generators back; returns (state, this rank's rollouts or None).

        Raises: UserError when the folder is no checkpoint that can be resumed, is damaged, or is from another number
            of ranks or of another model.
        """
        folder = Path(folder)
        from_main_rank(lambda: _require_resumable(folder))
        state = read_state(folder)
        if state["world_size"] != self.accelerator.num_processes:
            raise UserError(
                f"{folder} was written by {state['world_size']} processes and this run has "
                f"{self.accelerator.num_processes}: resume with {state['world_size']}, or begin anew from its weights "
                f"with model.model_path {folder / EXPORT}"
            )
        require_same_model(folder, layout(self.engine.module))
        self._load_weights(folder)
        self._load_average(folder)
        self.engine.scheduler.load_state_dict(_read(folder / "scheduler.bin"))
        rank = self.accelerator.process_index
        restore_generators(_read(folder / f"random_states_{rank}.pkl"))
        rollouts = folder / f"rollouts_{rank}.pt"
        return state, _read(rollouts) if rollouts.exists() else None

    def _save_training_state(self, staging: Path, tag: str, rollouts: dict[str, Tensor] | None) -> None:
        rank = self.accelerator.process_index
        if self.engine.is_deepspeed:
            self.engine.model.save_checkpoint(str(staging), tag=tag)
        elif self.accelerator.is_main_process:
            torch.save(self.engine.module.state_dict(), staging / "pytorch_model.bin")
            torch.save(self.engine.optimizer.state_dict(), staging / "optimizer.bin")
        torch.save(generator_states(), staging / f"random_states_{rank}.pkl")
        if rollouts is not None:
            torch.save({name: value.cpu() for name, value in rollouts.items()}, staging / f"rollouts_{rank}.pt")
        if self.accelerator.is_main_process:
            torch.save(self.engine.scheduler.state_dict(), staging / "scheduler.bin")
            if self.export.ema is not None:
                torch.save(self.export.ema.average, staging / AVERAGE_FILE)
            if self.engine.is_deepspeed:  # ours takes a file to write, as the documented command does
                shutil.copyfile(SHARDS_SCRIPT, staging / SHARDS_SCRIPT.name)

    def _load_average(self, folder: Path) -> None:
        """The moving average, which begins at the loaded weights where the checkpoint has none."""
        if self.export.ema is None:
            return
        if not (folder / AVERAGE_FILE).exists():
            log.warning(f"{folder} has no moving average: it begins at that checkpoint's weights")
            self.export.ema.restart()
        elif self.accelerator.is_main_process:
            self.export.ema.load(_read(folder / AVERAGE_FILE))

    def _load_weights(self, folder: Path) -> None:
        if self.engine.is_deepspeed:
            path, _ = self.engine.model.load_checkpoint(str(folder))
            if path is None:
                raise UserError(f"{folder} holds no ZeRO shards: it was written without DeepSpeed; resume without it")
            # Loading gives the optimizer new parameter groups, which the schedule must steer from now on.
            self.engine.scheduler.optimizer = self.engine.optimizer
            return
        if not (folder / "pytorch_model.bin").exists():
            raise UserError(f"{folder} was written with DeepSpeed: resume with the launcher that wrote it")
        self.engine.module.load_state_dict(_read(folder / "pytorch_model.bin"))
        self.engine.optimizer.load_state_dict(_read(folder / "optimizer.bin"))


def _require_resumable(folder: Path) -> None:
    """Nothing of a checkpoint is read before its files are known to be those that were written."""
    recover(folder)
    read_state(folder)
    require_whole(folder)


def _publish_checkpoint(staging: Path, folder: Path) -> None:
    """Put a written checkpoint in its place; what the rolling one was stays as `PREVIOUS_NAME`."""
    write_manifest(staging)
    if folder.name == RESUME_NAME and folder.exists():
        previous = folder.with_name(PREVIOUS_NAME)
        shutil.rmtree(previous, ignore_errors=True)
        os.rename(folder, previous)
        fsync_tree_top(folder.parent)
    publish(staging, folder)


def _refuse_other_content(folder: Path) -> None:
    """Raise UserError unless a checkpoint may stand in the place of `folder`."""
    refuse_file(folder)
    if not folder.exists() or (folder / STATE_FILE).exists():
        return
    # A folder of checkpoints can hold an hf_model too, but not alone.
    own = (EXPORT, EXPORT_EMA, MANIFEST_FILE)
    if any(path.name not in own for path in folder.iterdir() if not path.name.startswith(".")):
        raise UserError(f"{folder} holds other things than a checkpoint, which would be lost: save to a new folder")


def _read(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)
