"""Checkpoints that are whole or absent: written aside by all ranks, flushed, then renamed into place.

    checkpoint_0200/
        hf_model/                  config, float32 safetensors, tokenizer: for transformers' from_pretrained;
                                   beside them heads.safetensors (critic or ILQL heads) and adapter/ (peft)
        manifest.json              size and SHA-256 of every other file; a checkpoint that differs is passed over
        trainer_state.json         step, phase, KL coefficient, moments, best reward, data position
        layout.json                shape of every weight, and whether it is trained: of another model nothing is loaded
        random_states_0.pkl        generators of rank 0 (and so on)
        rollouts_0.pt              the phase's rollouts of rank 0, when it is in the middle of one (PPO)
        pytorch_model.bin  optimizer.bin  scheduler.bin                          without DeepSpeed
        checkpoint_0200/*.pt  latest  zero_to_fp32.py  scheduler.bin             with DeepSpeed

All but hf_model/ and the manifest is there only when `save_optimizer` is on. Files are read with weights_only, never
unpickled freely; the shards are DeepSpeed's and read by it, once the manifest has been checked.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trlx.models.adapters import save_language_model
from trlx.models.modeling_base import PreTrainedModelWrapper, is_head, save_heads
from trlx.trainer.engine import Engine
from trlx.trainer.layout import LAYOUT_FILE, layout, require_same_model
from trlx.utils.checkpoints import STATE_FILE
from trlx.utils.disk import writing
from trlx.utils.distributed import from_main_rank
from trlx.utils.errors import UserError
from trlx.utils.files import fsync_tree_top, merge, publish, recover, staging_path, write_json
from trlx.utils.generators import generator_states, restore_generators
from trlx.utils.manifest import MANIFEST_FILE, first_whole, require_whole, write_manifest

RESUME_NAME = "resume_checkpoint"
PREVIOUS_NAME = "previous_resume_checkpoint"  # what the rolling one was before, should the disk damage it
BEST_NAME, BEST_HELDOUT_NAME = "best_checkpoint", "best_heldout_checkpoint"
# Of one step, in the order in which they are written: a later one may know more.
WRITTEN = (BEST_HELDOUT_NAME, BEST_NAME, "checkpoint_N", RESUME_NAME)
SHARDS_SCRIPT = Path(__file__).with_name("zero_to_fp32.py")
WEIGHT_FILES = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json", "heads.safetensors")
ADAPTER_FILES = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")
OTHER_FILES = (  # configurations, tokenizers, chat templates, peft's model card
    *("config.json", "generation_config.json", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "chat_template.jinja"),
    *("additional_chat_templates", "additional_chat_templates/*.jinja", "adapter", "adapter/README.md"),
)


class Checkpointer:
    """Saves and loads a run; every rank must make each call.

    Args:
        policy: the bare language model that `hf_model` holds.
        save_optimizer: whether to save what resuming needs.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        engine: Engine,
        policy: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        save_optimizer: bool,
    ):
        self.accelerator, self.engine = accelerator, engine
        self.policy, self.tokenizer, self.save_optimizer = policy, tokenizer, save_optimizer

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
        self._on_main(lambda: _fresh(staging))
        self._save_hf_model(staging / "hf_model")
        if self.save_optimizer:
            self._save_training_state(staging, folder.name, rollouts)
            self._on_main(lambda: write_json(staging / LAYOUT_FILE, layout(self.engine.module)))
            self._on_main(lambda: write_json(staging / STATE_FILE, state))
        self.accelerator.wait_for_everyone()
        self._on_main(lambda: _publish_checkpoint(staging, folder))

    def save_hf_model(self, folder: str | Path) -> None:
        """Write only what `from_pretrained` reads, and leave what else the folder holds alone.

        A new folder, or one with nothing but an earlier export, is replaced as a whole. Into any other the files are
        moved one by one, config.json last, and weights of an earlier export that this one lacks are removed.

        Raises: UserError when `folder` is a file.
        """
        folder = Path(folder).resolve()
        whole = from_main_rank(lambda: _may_replace(folder))
        staging = staging_path(folder if whole else folder / "hf_model")  # a folder may be a disk of its own
        with writing(folder):
            self._on_main(lambda: _fresh(staging))
            self._save_hf_model(staging)
            self._on_main(lambda: publish(staging, folder) if whole else _merge_export(staging, folder))

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
                f"with model.model_path {folder / 'hf_model'}"
            )
        require_same_model(folder, layout(self.engine.module))
        self._load_weights(folder)
        self.engine.scheduler.load_state_dict(_read(folder / "scheduler.bin"))
        rank = self.accelerator.process_index
        restore_generators(_read(folder / f"random_states_{rank}.pkl"))
        rollouts = folder / f"rollouts_{rank}.pt"
        return state, _read(rollouts) if rollouts.exists() else None

    def _save_hf_model(self, folder: Path) -> None:
        weights = self.engine.float32_state(self.policy)
        heads = {
            f"{name}.{key}": value
            for name, child in self.engine.module.named_children()
            if isinstance(self.engine.module, PreTrainedModelWrapper) and is_head(f"{name}.")
            for key, value in self.engine.float32_state(child).items()
        }
        if self.accelerator.is_main_process:
            save_language_model(self.policy, folder, weights)
            save_heads(folder, heads)
            _declare_float32(folder / "config.json")
            _without_strange_separator(self.tokenizer).save_pretrained(folder)
        self.accelerator.wait_for_everyone()

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
            if self.engine.is_deepspeed:  # ours takes a file to write, as the documented command does
                shutil.copyfile(SHARDS_SCRIPT, staging / SHARDS_SCRIPT.name)

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

    def _on_main(self, act: Callable[[], object]) -> None:
        """Run on the main rank while the others wait."""
        if self.accelerator.is_main_process:
            act()
        self.accelerator.wait_for_everyone()


def read_state(folder: Path) -> dict[str, Any]:
    """The state of a resumable checkpoint. Raises: UserError when `folder` is none."""
    try:
        return json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"{folder} is no checkpoint to resume from (it needs {STATE_FILE}): give another one"
        ) from error


def _require_resumable(folder: Path) -> None:
    """Nothing of a checkpoint is read before its files are known to be those that were written."""
    recover(folder)
    read_state(folder)
    require_whole(folder)


def find_resumable(checkpoint_dir: str | Path) -> Path | None:
    """The whole checkpoint of the latest step below `checkpoint_dir`, of one step the one written last, or None.

    One that is damaged is warned of and passed over. One process only: every byte is read.
    """
    found = [path.parent for path in Path(checkpoint_dir).glob(f"*/{STATE_FILE}")]
    placed = [path for path in found if not path.name.startswith(".") or path.name.endswith(".old")]
    return first_whole(sorted(placed, key=lambda path: (_step(path), _written(path.name)), reverse=True))


def _step(folder: Path) -> int:
    """Of a checkpoint; of one whose state cannot be read the highest, so that it is looked at, and warned of, first."""
    try:
        return int(read_state(folder)["iter_count"])
    except (UserError, KeyError, TypeError, ValueError):
        return sys.maxsize


def _written(name: str) -> int:
    """The place of a checkpoint's name in `WRITTEN`, also of one that stands aside as `.NAME.old`."""
    plain = name.removeprefix(".").removesuffix(".old")
    return WRITTEN.index(plain if plain in WRITTEN else "checkpoint_N")


def evict(checkpoint_dir: str | Path, keep: int | None, step: int | None = None) -> None:
    """Remove the oldest `checkpoint_N` folders until `keep` are left; None keeps all. One process only.

    Args:
        step: the present one. Its checkpoint stays, and those with a higher number, which are not of this run, stay
            and do not count; None counts all.
    """
    if keep is None:
        return
    numbers = {path: int(path.name[11:]) for path in Path(checkpoint_dir).glob("checkpoint_*") if _is_numbered(path)}
    oldest_first = sorted((path for path in numbers if step is None or numbers[path] <= step), key=numbers.__getitem__)
    for path in oldest_first[: max(0, len(oldest_first) - keep)]:
        if numbers[path] != step:
            shutil.rmtree(path)


def _is_numbered(path: Path) -> bool:
    return path.name[11:].isdecimal() and path.is_dir() and not path.is_symlink()


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
    _refuse_file(folder)
    if not folder.exists() or (folder / STATE_FILE).exists():
        return
    # A folder of checkpoints can hold an hf_model too, but not alone.
    own = ("hf_model", MANIFEST_FILE)
    if any(path.name not in own for path in folder.iterdir() if not path.name.startswith(".")):
        raise UserError(f"{folder} holds other things than a checkpoint, which would be lost: save to a new folder")


def _refuse_file(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder to save to")


def _may_replace(folder: Path) -> bool:
    """Whether an export may stand in the place of `folder`: there is none, or it holds an earlier export alone."""
    _refuse_file(folder)
    if not folder.exists():
        return True
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    known = (*WEIGHT_FILES, *ADAPTER_FILES, *OTHER_FILES)
    return "config.json" in names and all(_matches(name, known) for name in names) and not os.path.ismount(folder)


def _merge_export(staging: Path, folder: Path) -> None:
    """Move an export into a folder that holds other things too; stale weights there would be loaded with it."""
    new = {path.relative_to(staging) for path in staging.rglob("*")}
    merge(staging, folder, last="config.json")
    for path in [*folder.glob("*"), *folder.glob("adapter/*")]:
        name = path.relative_to(folder)
        if name not in new and path.is_file() and _matches(name.as_posix(), (*WEIGHT_FILES, *ADAPTER_FILES)):
            path.unlink()


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns)


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _without_strange_separator(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer as it was loaded.

    The text that stands between prompt and output in a sample is no token of its own; saved, it would become one beyond
    the model's embeddings when the tokenizer is loaded again.
    """
    if tokenizer.sep_token is None or tokenizer.sep_token in tokenizer.get_vocab():
        return tokenizer
    plain = copy.deepcopy(tokenizer)
    plain.sep_token = None
    return plain


def _declare_float32(config_file: Path) -> None:
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    write_json(config_file, config)


def _read(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)
