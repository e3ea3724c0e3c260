"""peft adapters: a base model that stays frozen, with a few weights beside it that train.

peft is imported where it is used, so that only those who ask for adapters need it.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from trlx.functional.masking import position_ids
from trlx.utils.errors import MissingPackageError, UserError, nearest
from trlx.utils.peft_models import bare_model, is_adapted, learns_a_prompt

ADAPTER_FILE = "adapter_config.json"


def read_peft_config(given: Any) -> Any:
    """A peft config from itself or from a dict with `peft_type` and its options.

    Raises: UserError when peft is not installed or the dict cannot be one.
    """
    peft = _peft()
    if isinstance(given, peft.PeftConfig):
        return given
    if not isinstance(given, Mapping) or "peft_type" not in given:
        raise UserError("model.peft_config must be a peft config or a dict with 'peft_type', e.g. LORA")
    kind = getattr(given["peft_type"], "value", given["peft_type"])
    known = {str(getattr(name, "value", name)): cls for name, cls in peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if kind not in known:
        raise UserError(f"unknown model.peft_config.peft_type '{kind}'{nearest(str(kind), known)}")
    options = {name: value for name, value in given.items() if name != "peft_type"}
    fields = known[kind].__dataclass_fields__
    for name in options:
        if name not in fields:
            raise UserError(f"unknown key 'model.peft_config.{name}'{nearest(name, fields)}")
    return known[kind](**options)


def add_adapters(model: Any, peft_config: Any) -> Any:
    """The model with fresh adapters, which alone train; the model itself when `peft_config` is None."""
    if peft_config is None:
        return model
    config = copy.deepcopy(read_peft_config(peft_config))
    config.task_type = config.task_type or ("SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM")
    adapted = _peft().get_peft_model(model, config)
    head = bare_model(adapted).get_output_embeddings()
    if model.config.get_text_config().tie_word_embeddings and any(p.requires_grad for p in head.parameters()):
        raise UserError(
            "model.peft_config adapts the output embeddings, which are tied to the input embeddings, so the adapter "
            "could not be merged: leave them out of target_modules"
        )
    return _with_positions(adapted)


def load_adapters(source: str | os.PathLike[str], load: Callable[[Any], Any]) -> Any:
    """The model of a folder that may hold adapters only, whose base model is then loaded from where they say."""
    if not (Path(source) / ADAPTER_FILE).exists():
        return load(source)
    peft = _peft()
    config = peft.PeftConfig.from_pretrained(str(source))
    base = load(config.base_model_name_or_path)
    return _with_positions(peft.PeftModel.from_pretrained(base, str(source), is_trainable=True))


def _with_positions(model: Any) -> Any:
    """The model; with virtual tokens, counting positions over real and virtual ones alone.

    peft drops the position ids that it is given then, and a row's output would depend on the pads before it.
    """
    bare = bare_model(model)
    if learns_a_prompt(model) and "position_ids" in inspect.signature(bare.forward).parameters:
        bare.register_forward_pre_hook(_count_positions, with_kwargs=True)
    return model


def _count_positions(_: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    mask, embeds = given.get("attention_mask"), given.get("inputs_embeds")
    tokens = given.get("input_ids") if embeds is None else embeds
    if isinstance(mask, Tensor) and mask.dim() == 2 and tokens is not None:
        given["position_ids"] = position_ids(mask)[:, -tokens.shape[1] :]
    return args, given


def save_language_model(model: Any, folder: str | os.PathLike[str], state_dict: Mapping[str, Tensor]) -> None:
    """Write a model so that transformers loads it, whether it has adapters or not.

    Adapters are merged into the weights, and also written by themselves to `folder/adapter`. Those that cannot be
    merged (virtual tokens) are left out of the weights: the base model and `adapter` belong together then.

    Args:
        state_dict: of `model`, to write instead of its present weights.
    """
    if not is_adapted(model):
        model.save_pretrained(str(folder), state_dict=dict(state_dict))
        return
    twin = copy.deepcopy(model).cpu()
    twin.load_state_dict(dict(state_dict))
    twin.save_pretrained(str(Path(folder) / "adapter"))
    plain = twin.get_base_model() if learns_a_prompt(twin) else twin.merge_and_unload()
    plain.save_pretrained(str(folder))


class AdapterOff:
    """The reference of an adapted model: the same model with its adapters disabled for one call."""

    def __init__(self, model: Any):
        self._model = model

    def in_place(self) -> contextlib.AbstractContextManager[Any]:
        """Within the block, the model runs without its adapters."""
        return self._model.disable_adapter()


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingPackageError("model.peft_config needs the package peft: pip install peft") from error
    return peft
