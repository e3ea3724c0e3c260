"""A transformers model with further parts of its own (heads, branches, a reference), saved and loaded as one.

The base model is saved in transformers' own format, so that it loads without this package; the parts around it lie
beside it in `heads.safetensors`.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel

from trlx.models.adapters import add_adapters, load_adapters
from trlx.utils.errors import UserError
from trlx.utils.peft_models import bare_model, is_adapted
from trlx.utils.pretrained import load_model, pop_dtype, without_dropout

HEADS_FILE = "heads.safetensors"
# Parts that are copies made at construction, never saved: they follow from the base model.
_DERIVED = ("frozen_head.",)


class PreTrainedModelWrapper(nn.Module):
    """Base of the models with heads.

    Args:
        base_model: transformers' model, plain or with peft adapters.

    Attributes:
        base_model: the same.
        forward_kwargs: names that the base model's `forward` takes.
    """

    _auto_model_parent_class: ClassVar[Any] = None
    _supported_args: tuple[str, ...] = ()  # keyword arguments of the constructor
    _saved_args: tuple[str, ...] = ()  # those that are attributes too and come back with a saved folder

    def __init__(self, base_model: PreTrainedModel):
        super().__init__()
        self.base_model = base_model
        self.forward_kwargs = _names_taken(bare_model(base_model).forward)

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **kwargs: Any) -> Any:
        """With random weights, float32 unless `dtype` says otherwise; keywords as in `from_pretrained`."""
        if not isinstance(config, PreTrainedConfig):
            raise UserError(f"from_config takes a transformers config, not {type(config).__name__}")
        own, rest = cls._split_kwargs(kwargs)
        dtype = pop_dtype(rest)
        peft_config = rest.pop("peft_config", None)
        base = cls._auto_model_parent_class.from_config(without_dropout(copy.deepcopy(config)), dtype=dtype, **rest)
        return cls(add_adapters(base, peft_config), **own)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | PreTrainedModel,
        revision: str | None = None,
        peft_config: Any = None,
        **kwargs: Any,
    ) -> Any:
        """A folder, hub id or model in memory, with its saved heads where there are any.

        Args:
            revision: of a hub id.
            peft_config: a peft config or a dict of one; adapters are added to the base model.
            kwargs: the constructor's own, and further ones of transformers' `from_pretrained`; `dtype` is float32
                unless given.

        Raises: UserError when nothing can be loaded, or the model is of another kind.
        """
        own, rest = cls._split_kwargs(kwargs)
        source = pretrained_model_name_or_path
        folder: Path | None = None
        if isinstance(source, PreTrainedModel) or (isinstance(source, nn.Module) and is_adapted(source)):
            if rest:
                raise UserError(f"{sorted(rest)} have no effect on a model in memory: leave them out")
            base: Any = source
        elif isinstance(source, (str, os.PathLike)):
            folder = Path(source)
            own = {name: value for name, value in saved_arguments(folder).items() if name in cls._saved_args} | own
            dtype = pop_dtype(rest)
            if revision is not None:
                rest["revision"] = revision
            base = load_adapters(source, lambda path: load_model(cls._auto_model_parent_class, path, dtype, **rest)[0])
        else:
            kind = type(source).__name__
            raise UserError(f"from_pretrained takes a folder, a hub id or a transformers model, not {kind}")
        cls._check_kind(base)
        model = cls(base if is_adapted(base) else add_adapters(base, peft_config), **own)
        model.load_saved_heads(folder)
        return model

    @classmethod
    def _check_kind(cls, base: Any) -> None:
        if bool(base.config.is_encoder_decoder) != (cls._auto_model_parent_class is AutoModelForSeq2SeqLM):
            kind = "an encoder-decoder" if base.config.is_encoder_decoder else "a causal model"
            raise UserError(f"{cls.__name__} does not take {kind} ({base.config.model_type})")

    @classmethod
    def _split_kwargs(cls, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """(the constructor's, the rest)."""
        own = {name: value for name, value in kwargs.items() if name in cls._supported_args}
        return own, {name: value for name, value in kwargs.items() if name not in own}

    def save_pretrained(
        self, directory: str | os.PathLike[str], state_dict: Mapping[str, Tensor] | None = None
    ) -> None:
        """Write the base model in its own format, and the heads beside it.

        Args:
            state_dict: of the whole wrapper, to write instead of its present weights.
        """
        whole = dict(self.state_dict()) if state_dict is None else dict(state_dict)
        prefix = "base_model."
        base = {name.removeprefix(prefix): value for name, value in whole.items() if name.startswith(prefix)}
        self.base_model.save_pretrained(str(directory), state_dict=base)
        save_heads(directory, whole, {name: getattr(self, name) for name in self._saved_args})

    def load_heads(self, folder: str | os.PathLike[str]) -> None:
        """Read the heads that `save_pretrained` wrote. Raises: UserError when they are of another shape."""
        saved = load_file(Path(folder) / HEADS_FILE)
        wanted = {name for name in self.state_dict() if is_head(name)}
        own = self.state_dict()
        if set(saved) != wanted or any(saved[name].shape != own[name].shape for name in wanted):
            found = sorted({name.split(".")[0] for name in saved})
            raise UserError(
                f"{folder}: its heads ({', '.join(found)}) are not those of this {type(self).__name__}; "
                f"take the settings that made them, or remove {HEADS_FILE} to start with new ones"
            )
        self.load_state_dict(saved, strict=False)

    def load_saved_heads(self, source: Any) -> None:
        """`load_heads` where `source` is a folder that has some."""
        if isinstance(source, (str, os.PathLike)) and (Path(source) / HEADS_FILE).exists():
            self.load_heads(source)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The base model's `generate`. `return_dict`, which older transformers let pass, says nothing to it."""
        kwargs.pop("return_dict", None)
        return self.base_model.generate(*args, **kwargs)  # type: ignore[operator]

    def get_compatible_forward_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        """Those of the keyword arguments that the base model's `forward` takes."""
        return {name: value for name, value in kwargs.items() if name in self.forward_kwargs}


def _names_taken(forward: Any) -> list[str]:
    parameters = inspect.signature(forward).parameters
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return [*parameters, *(["output_hidden_states", "output_attentions"] if open_ended else [])]


def is_head(name: str) -> bool:
    """Whether a wrapper's weight of this name is saved beside the base model."""
    return not name.startswith(("base_model.", *_DERIVED))


def save_heads(
    directory: str | os.PathLike[str], state_dict: Mapping[str, Tensor], arguments: Mapping[str, Any] | None = None
) -> None:
    """Write the weights of a wrapper's state dict that are not the base model's; nothing when there are none.

    Args:
        arguments: of the wrapper's constructor, to be found again by `saved_arguments`.
    """
    heads = {name: value.detach().clone().contiguous() for name, value in state_dict.items() if is_head(name)}
    if heads:
        save_file(heads, Path(directory) / HEADS_FILE, {"arguments": json.dumps(dict(arguments or {}))})


def saved_arguments(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The constructor's arguments that lie with a folder's heads; none where there are none."""
    path = Path(folder) / HEADS_FILE
    if not path.exists():
        return {}
    with safe_open(path, "pt") as file:
        return dict(json.loads((file.metadata() or {}).get("arguments", "{}")))
