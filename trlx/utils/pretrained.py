"""Loading models and tokenizers from a folder or hub id: dtype explicit, dropout off, one-line errors.

Code that comes with a model is not run unless the options say `trust_remote_code=True`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from trlx.utils.disk import disk_trouble
from trlx.utils.errors import MissingPackageError, UserError, one_line
from trlx.utils.hub import settle_offline

# Else transformers asks whoever sits at the terminal, in the middle of a job, and runs the code for a "y".
_OWN_CODE: dict[str, Any] = {"trust_remote_code": False}
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# The file without which a folder holds no such thing.
_NEEDS = {"tokenizer": "tokenizer_config.json", "model": "config.json"}
_JSON_FILES = (
    *("config.json", "generation_config.json", "adapter_config.json", "model.safetensors.index.json"),
    *("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
)


def load_tokenizer(
    path: str | os.PathLike[str], named_by: str = "--model", *, needs_eos: bool = True, **options: Any
) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub id; options go to `from_pretrained`.

    Args:
        named_by: the option that the path is from, for messages. needs_eos: whether one without EOS is refused.

    Raises: UserError when it cannot be read or has no EOS token.
    """
    with _loading("tokenizer", path, named_by):
        tokenizer = AutoTokenizer.from_pretrained(str(path), **(_OWN_CODE | options))
    if needs_eos and tokenizer.eos_token_id is None:
        raise UserError(f"{path}: its tokenizer has no EOS token; set eos_token in tokenizer_config.json")
    return tokenizer


def load_config(path: str | os.PathLike[str], named_by: str = "--model", **options: Any) -> Any:
    """A model's config, every dropout off, without its weights. Raises: UserError when it cannot be read."""
    with _loading("model", path, named_by):
        return without_dropout(AutoConfig.from_pretrained(str(path), **(_OWN_CODE | options)))


def load_model(
    auto_class: Any,
    path: str | os.PathLike[str],
    dtype: torch.dtype = torch.float32,
    named_by: str = "--model",
    **options: Any,
) -> tuple[Any, set[str]]:
    """A pretrained model with every dropout off.

    Args:
        auto_class: e.g. `AutoModelForCausalLM`.
        path: a folder or hub id.
        dtype: of the weights; never taken from the checkpoint's config.
        named_by: the option that the path is from, for messages.
        options: fields of its config to set first, e.g. `num_labels=1`; others go to transformers' `from_pretrained`.

    Returns: (model, names of weights that the checkpoint lacks and that were initialised anew).
    Raises: UserError when it cannot be read, or an option is neither's.
    """
    options = _OWN_CODE | options
    hub = {name: options[name] for name in ("revision", "cache_dir", "token", "trust_remote_code") if name in options}
    with _loading("model", path, named_by):
        config, others = AutoConfig.from_pretrained(str(path), return_unused_kwargs=True, **options)
        model, info = auto_class.from_pretrained(
            str(path), config=without_dropout(config), dtype=dtype, output_loading_info=True, **others, **hub
        )
    return model, set(info["missing_keys"])


def meta_model(path: str | os.PathLike[str], named_by: str = "--model") -> Any:
    """The bare model that a folder's config describes, with shapes and no weights.

    Raises: UserError as `load_config`.
    """
    config = load_config(path, named_by)
    with torch.device("meta"):
        return AutoModel.from_config(config)


def pop_dtype(options: dict[str, Any]) -> torch.dtype:
    """Take `dtype` (or its old name `torch_dtype`) out of loading options; float32 when there is none.

    Raises: UserError when it names no dtype.
    """
    given = [options.pop(name) for name in ("dtype", "torch_dtype") if name in options]
    dtype = getattr(torch, given[0], given[0]) if given and isinstance(given[0], str) else (given or [torch.float32])[0]
    if not isinstance(dtype, torch.dtype):
        raise UserError(f"dtype must be float32, bfloat16 or float16, not {dtype!r}")
    return dtype


def require_positions(config: Any, length: int, option: str) -> None:
    """Refuse sequences longer than the model's position table.

    Args:
        config: the model's. length: tokens of the longest sequence. option: what sets it, for the message.

    Raises: UserError naming the option and what the model has.
    """
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and length > positions:
        raise UserError(f"{option} is {length} but the model has {positions} positions: lower {option}")


def require_vocabulary(config: Any, tokenizer: PreTrainedTokenizerBase, path: object) -> None:
    """Refuse a tokenizer that makes ids for which the model has no embedding.

    Args:
        config: the model's. tokenizer: what will make its ids. path: where the tokenizer is from, for the message.

    Raises: UserError naming both sizes.
    """
    rows = getattr(config.get_text_config(), "vocab_size", None)
    largest = max(tokenizer.get_vocab().values())
    if rows is not None and largest >= rows:
        raise UserError(
            f"{path}: its tokenizer has ids up to {largest} but the model embeds only {rows}: "
            "they are of different models; take both from one folder"
        )


def require_own_tokenizer(
    model_path: str | os.PathLike[str], tokenizer: PreTrainedTokenizerBase, tokenizer_path: str | os.PathLike[str]
) -> None:
    """Refuse a tokenizer whose vocabulary is not that of the tokenizer which lies beside the model, if one does.

    Two vocabularies may be of one size and still name every id otherwise, so that nothing else would notice.

    Raises: UserError naming both folders.
    """
    if str(model_path) == str(tokenizer_path) or not (Path(model_path) / "tokenizer_config.json").is_file():
        return
    own, given = load_tokenizer(model_path).get_vocab(), tokenizer.get_vocab()
    differing = sum(given.get(token) != number for token, number in own.items())
    if differing:  # what was added to it does no harm
        raise UserError(
            f"{tokenizer_path}: its tokenizer is not that of the model in {model_path} ({differing} of {len(own)} "
            "tokens have other ids): take both from one folder"
        )


def require_whole(missing: set[str], path: object) -> None:
    """Refuse a model of which weights were not in its files. Raises: UserError naming some of them."""
    if missing:
        names = ", ".join(sorted(missing)[:3])
        raise UserError(f"{path}: {len(missing)} weights are missing ({names}): no language model; name another one")


def without_dropout(config: Any) -> Any:
    """The config with every dropout probability 0, in place.

    PPO compares log-probabilities between passes, which dropout would make differ; the other stages follow suit.
    """
    for name, value in vars(config).items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and name.endswith(("dropout", "pdrop", "dropout_rate")):
            setattr(config, name, 0.0)
    return config


def is_hub_id(path: str | os.PathLike[str]) -> bool:
    """Whether a path that is no folder here can be the name of a model on the hub."""
    return _HUB_ID.fullmatch(str(path)) is not None and str(path) not in (".", "..")


@contextlib.contextmanager
def _loading(what: str, path: str | os.PathLike[str], named_by: str) -> Iterator[None]:
    """Around the libraries' loading: no tables and bars, no vain waiting for the hub, one-line errors.

    Args:
        what: is loaded, "model" or "tokenizer". path: a folder or hub id. named_by: the option it is from.
    """
    _check_folder(path, _NEEDS[what], named_by)
    here = os.path.isdir(path)
    offline = not here and settle_offline()
    try:
        with _quiet_library(bars=not here and not offline):
            yield
    except Exception as error:  # the readers of these files have no error in common
        if isinstance(error, (MemoryError, torch.OutOfMemoryError, MissingPackageError)) or disk_trouble(error):
            raise
        if offline and isinstance(error, OSError):
            raise UserError(
                f"{path}: no such folder here, and the model hub cannot be reached to fetch it: "
                f"name a folder on this machine that holds the model ({named_by} FOLDER)"
            ) from error
        raise UserError(_why_not(what, Path(path), error, named_by)) from error


@contextlib.contextmanager
def _quiet_library(bars: bool) -> Iterator[None]:
    """Without transformers' report of weights (what matters of it we say) and, unless `bars`, its progress bars."""
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not bars:  # a download is worth watching, reading a file is not
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()


def _check_folder(path: str | os.PathLike[str], needs: str, named_by: str) -> None:
    """A path that can be no hub id must be a folder that holds a model."""
    name = str(path)
    if os.path.isdir(name):
        if not os.path.exists(os.path.join(name, needs)):
            raise UserError(f"{name}: holds no finished model (no {needs}); finish the stage that writes it")
    elif os.path.exists(name):
        raise UserError(f"{name}: is a file; name the folder that holds the model ({named_by} FOLDER)")
    elif not name:
        raise UserError(f"no model is named: give {named_by} FOLDER, or a hub id")
    elif not is_hub_id(name):
        raise UserError(f"{name}: no such folder; run the stage that writes it first, or name another with {named_by}")


def _why_not(what: str, path: Path, error: Exception, named_by: str) -> str:
    damage = damaged_file(path) if path.is_dir() else None
    if damage:
        return f"{damage}: copy or make the model anew, or name another ({named_by})"
    reason = textwrap.shorten(one_line(error), 200, placeholder=" ...") or type(error).__name__
    if "ignore_mismatched_sizes" in reason:
        reason = "weights have other sizes than config.json says"
    if what == "tokenizer" and not _has_usable_config(path):  # which is read on the way to it
        what = "config.json"
    return f"{path}: its {what} cannot be loaded ({reason}): name a model folder or a hub id in reach ({named_by})"


def _has_usable_config(path: Path) -> bool:
    try:
        AutoConfig.from_pretrained(str(path), **_OWN_CODE)
    except Exception:  # as above
        return False
    return True


def damaged_file(folder: Path) -> str | None:
    """The first file of a model's folder that is not what its name says, with what is wrong; None for none."""
    for path in filter(Path.is_file, (folder / name for name in _JSON_FILES)):
        try:
            if not isinstance(json.loads(path.read_bytes()), dict):
                return f"{path}: holds no JSON object"
        except json.JSONDecodeError as error:
            return f"{path}, line {error.lineno}: not JSON ({error.msg})"
        except UnicodeDecodeError:
            return f"{path}: not UTF-8 text"
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt"):
                pass
        except SafetensorError as error:
            return f"{path}: damaged or cut short ({one_line(error)})"
    return None
