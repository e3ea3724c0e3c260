"""The policy as transformers reads it: float32 safetensors with its tokenizer, and what it cannot read beside them.

What a folder holds besides an export is left alone. Left out: optimizer and generators (`trlx.trainer.checkpointer`).
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trlx.models.adapters import save_language_model
from trlx.models.modeling_base import PreTrainedModelWrapper, is_head, save_heads
from trlx.trainer.ema import WeightAverage
from trlx.trainer.engine import Engine
from trlx.utils.disk import writing
from trlx.utils.distributed import from_main_rank
from trlx.utils.errors import UserError
from trlx.utils.files import merge, publish, staging_path, write_json

WEIGHT_FILES = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json", "heads.safetensors")
ADAPTER_FILES = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")
OTHER_FILES = (  # configurations, tokenizers, chat templates, peft's model card
    *("config.json", "generation_config.json", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "chat_template.jinja"),
    *("additional_chat_templates", "additional_chat_templates/*.jinja", "adapter", "adapter/README.md"),
)
AVERAGE = "_ema"  # after the name of an export, that of its moving average


class ModelExport:
    """Writes the policy; every rank must make each call.

    Args:
        policy: the bare language model. engine: knows its master weights, and the heads beside it.
        ema: the moving average of its weights, written beside each export; None for none.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        engine: Engine,
        policy: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        ema: WeightAverage | None = None,
    ):
        self.accelerator, self.engine, self.policy, self.tokenizer = accelerator, engine, policy, tokenizer
        self.ema = ema

    def save(self, folder: str | Path) -> None:
        """Write only what `from_pretrained` reads, and leave what else the folder holds alone.

        The moving average goes to a folder beside it, of the same name with "_ema" after it.

        A new folder, or one with nothing but an earlier export, is replaced as a whole. Into any other the files are
        moved one by one, config.json last, and weights of an earlier export that this one lacks are removed.

        Raises: UserError when `folder` is a file.
        """
        folder = Path(folder).resolve()
        self._save(folder, self.write)
        if self.ema is not None:
            self._save(folder.with_name(f"{folder.name}{AVERAGE}"), self.write_average)

    def _save(self, folder: Path, write: Callable[[Path], None]) -> None:
        whole = from_main_rank(lambda: _may_replace(folder))
        staging = staging_path(folder if whole else folder / "hf_model")  # a folder may be a disk of its own
        with writing(folder):
            from_main_rank(lambda: fresh(staging))
            write(staging)
            from_main_rank(lambda: publish(staging, folder) if whole else _merge(staging, folder))

    def write(self, folder: Path) -> None:
        """Into an empty folder."""
        weights = self.engine.float32_state(self.policy)
        heads = {
            f"{name}.{key}": value
            for name, child in self.engine.module.named_children()
            if isinstance(self.engine.module, PreTrainedModelWrapper) and is_head(f"{name}.")
            for key, value in self.engine.float32_state(child).items()
        }
        self._write(folder, weights, heads)

    def write_average(self, folder: Path) -> None:
        """The moving average of the policy's weights, without heads, into a folder that is empty or not there."""
        if self.ema is not None:
            self._write(folder, self.ema.policy_state(), {})

    def _write(self, folder: Path, weights: dict[str, Tensor], heads: dict[str, Tensor]) -> None:
        if self.accelerator.is_main_process:
            save_language_model(self.policy, folder, weights)
            save_heads(folder, heads)
            _declare_float32(folder / "config.json")
            _without_strange_separator(self.tokenizer).save_pretrained(folder)
        self.accelerator.wait_for_everyone()


def refuse_file(folder: Path) -> None:
    """Raises: UserError where a file stands in the place of a folder to save to."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder to save to")


def _may_replace(folder: Path) -> bool:
    """Whether an export may stand in the place of `folder`: there is none, or it holds an earlier export alone."""
    refuse_file(folder)
    if not folder.exists():
        return True
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    known = (*WEIGHT_FILES, *ADAPTER_FILES, *OTHER_FILES)
    return "config.json" in names and all(_matches(name, known) for name in names) and not os.path.ismount(folder)


def _merge(staging: Path, folder: Path) -> None:
    """Move an export into a folder that holds other things too; stale weights there would be loaded with it."""
    new = {path.relative_to(staging) for path in staging.rglob("*")}
    merge(staging, folder, last="config.json")
    for path in [*folder.glob("*"), *folder.glob("adapter/*")]:
        name = path.relative_to(folder)
        if name not in new and path.is_file() and _matches(name.as_posix(), (*WEIGHT_FILES, *ADAPTER_FILES)):
            path.unlink()


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns)


def fresh(folder: Path) -> None:
    """Make the folder anew, empty."""
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
