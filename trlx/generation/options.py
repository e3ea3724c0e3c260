"""Generation options: their names, sweeps over several values, and what our own decoding loop makes of them."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation.logits_process import (
    LogitsProcessor,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from trlx.utils.errors import UserError, nearest

# Options whose one value is a list; a list anywhere else is a sweep.
LISTS_BY_NATURE = frozenset(
    {
        "bad_words_ids",
        "begin_suppress_tokens",
        "constraints",
        "dola_layers",
        "eos_token_id",
        "force_words_ids",
        "forced_decoder_ids",
        "forced_eos_token_id",
        "sequence_bias",
        "stop_strings",
        "suppress_tokens",
    }
)

# Values that leave an option without effect, where None is not the only one.
NEUTRAL: dict[str, Any] = {
    "diversity_penalty": 0.0,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "length_penalty": 1.0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_logits": False,
    "output_scores": False,
    "remove_invalid_values": False,
    "renormalize_logits": False,
    "repetition_penalty": 1.0,
    "return_dict_in_generate": False,
    "typical_p": 1.0,
}

# What the loop does itself. `use_cache` changes no token: the loop has its cache always.
PLAIN = frozenset(
    {
        "do_sample",
        "eos_token_id",
        "max_length",
        "max_new_tokens",
        "pad_token_id",
        "temperature",
        "top_k",
        "top_p",
        "use_cache",
    }
)


@dataclass(frozen=True)
class DecodingOptions:
    """What the decoding loop needs to know; see `generate` for the meaning of each."""

    limit: int  # new tokens at most
    sample: bool
    temperature: float
    top_k: int
    top_p: float
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    processors: LogitsProcessorList = field(default_factory=LogitsProcessorList)


def check_gen_kwargs(gen_kwargs: Mapping[str, Any], extra: Collection[str] = ()) -> None:
    """Refuse names that transformers' GenerationConfig does not know.

    Args:
        extra: further names a method takes, e.g. ILQL's beta.

    Raises: UserError naming the key and the nearest known one.
    """
    known = {*GenerationConfig().to_dict(), *extra}
    for name in gen_kwargs:
        if name not in known:
            raise UserError(f"unknown generation option 'gen_kwargs.{name}'{nearest(name, known)}")
    if gen_kwargs.get("stop_strings"):
        raise UserError("'gen_kwargs.stop_strings' is not read: give stop_sequences to trlx.train")


def split_sweep(gen_kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """(options with one value, options to try several values of): a list is a sweep, except where lists belong.

    Raises: UserError for a sweep over no values.
    """
    fixed: dict[str, Any] = {}
    sweeps: dict[str, list[Any]] = {}
    for name, value in gen_kwargs.items():
        if not _is_sweep(name, value):
            fixed[name] = value
        elif not value:
            raise UserError(f"'gen_kwargs.{name}' is an empty list: give a value, or several to sweep over")
        else:
            sweeps[name] = list(value)
    return fixed, sweeps


def sweep_points(sweeps: Mapping[str, list[Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Every combination of the swept values with its suffix for metric names, e.g. "@beta=1@top_k=20"; "" for none."""
    points = [dict(zip(sweeps, values, strict=True)) for values in itertools.product(*sweeps.values())]
    return [("".join(f"@{name}={value}" for name, value in point.items()), point) for point in points]


def refuse_sweep(gen_kwargs: Mapping[str, Any]) -> None:
    """Raises: UserError naming an option that has several values where one is needed."""
    for name, value in gen_kwargs.items():
        if _is_sweep(name, value):
            raise UserError(
                f"'gen_kwargs.{name}' is a list: one value is needed here; only evaluation sweeps over several"
                " (give the rollouts theirs in gen_experience_kwargs)"
            )


def warn_of_cuts(gen_kwargs: Mapping[str, Any], masked: bool = False) -> None:
    """Warn when tokens are sampled from another distribution than the one whose log-probabilities PPO trains on.

    Args:
        masked: whether a logit mask forbids tokens besides.
    """
    cuts = [name for name in ("top_k", "top_p") if gen_kwargs.get(name) not in (None, 0, 1, 1.0)]
    cuts += [name for name in sorted(effective_options(gen_kwargs) - PLAIN) if name != "num_beams"]
    cuts += ["logit_mask"] if masked else []
    if gen_kwargs.get("do_sample") and cuts:
        warnings.warn(
            f"{' / '.join(cuts)} change the distribution that is sampled; PPO's log-probabilities are of the uncut one",
            stacklevel=3,
        )


def effective_options(gen_kwargs: Mapping[str, Any]) -> set[str]:
    """The names of the options that have an effect."""
    return {name for name, value in gen_kwargs.items() if value is not None and value != NEUTRAL.get(name, _NO_VALUE)}


def is_plain(gen_kwargs: Mapping[str, Any]) -> bool:
    """Whether our own loop does all that is asked for, a limit included."""
    effective = effective_options(gen_kwargs)
    limited = {"max_new_tokens", "max_length"} & effective
    return bool(limited) and effective <= PLAIN | _PROCESSORS.keys()


def read_options(
    gen_kwargs: Mapping[str, Any],
    prompt_width: int,
    eos_token_id: int | None,
    pad_token_id: int,
    device: torch.device | str = "cpu",
) -> DecodingOptions:
    """The loop's options from transformers' names, for which `is_plain` holds.

    Args:
        prompt_width: P, pads included; `max_length` and `min_length` count from its start, as in transformers.
        eos_token_id, pad_token_id: what holds unless `gen_kwargs` has its own.

    Raises: UserError naming the option that has an impossible value.
    """
    given = {name: value for name, value in gen_kwargs.items() if value is not None}
    eos = end_token_ids(given.get("eos_token_id", eos_token_id))
    temperature, top_k, top_p = given.get("temperature", 1.0), given.get("top_k", 0), given.get("top_p", 1.0)
    sample = bool(given.get("do_sample", False))
    _check("temperature", temperature, not sample or temperature > 0, "above 0; do_sample: false takes the likeliest")
    _check("top_k", top_k, top_k >= 0, "0 (all tokens) or more")
    _check("top_p", top_p, 0 < top_p <= 1, "above 0 and at most 1")
    processors = LogitsProcessorList(
        make(given[name], prompt_width, eos, device) for name, make in _PROCESSORS.items() if given.get(name)
    )
    return DecodingOptions(
        limit=_limit(given, prompt_width),
        sample=sample,
        temperature=float(temperature) or 1.0,
        top_k=int(top_k) if sample else 0,
        top_p=float(top_p) if sample else 1.0,
        eos_token_ids=eos,
        pad_token_id=int(given.get("pad_token_id", pad_token_id)),
        processors=processors,
    )


def end_token_ids(eos_token_id: int | list[int] | tuple[int, ...] | None) -> tuple[int, ...]:
    """The ids that end a response; none for None or a negative id."""
    several = eos_token_id if isinstance(eos_token_id, (list, tuple)) else (eos_token_id,)
    return tuple(int(token) for token in several if token is not None and token >= 0)


def _limit(given: Mapping[str, Any], prompt_width: int) -> int:
    if "max_new_tokens" in given:
        _check("max_new_tokens", given["max_new_tokens"], given["max_new_tokens"] >= 1, "1 or more")
        return int(given["max_new_tokens"])
    wanted = f"more than the prompts' {prompt_width} tokens; better give max_new_tokens"
    _check("max_length", given["max_length"], given["max_length"] > prompt_width, wanted)
    return int(given["max_length"]) - prompt_width


def _check(name: str, value: Any, right: bool, wanted: str) -> None:
    if not right:
        raise UserError(f"'gen_kwargs.{name}' is {value}: it must be {wanted}")


def _is_sweep(name: str, value: Any) -> bool:
    return isinstance(value, (list, tuple)) and name not in LISTS_BY_NATURE


_NO_VALUE = object()
_Maker = Callable[[Any, int, tuple[int, ...], Any], LogitsProcessor]


def _ends(eos: tuple[int, ...]) -> list[int]:
    if not eos:
        raise UserError("'gen_kwargs.min_new_tokens' and 'min_length' need an end-of-sequence token: set eos_token_id")
    return list(eos)


# transformers' own processors, in its own order. Each changes the logits before log-probabilities are taken. The
# repetition penalty is not among them: it holds each row's padding by the row's place in the batch, and rows leave.
_PROCESSORS: dict[str, _Maker] = {
    "no_repeat_ngram_size": lambda value, prompt, eos, device: NoRepeatNGramLogitsProcessor(int(value)),
    "bad_words_ids": lambda value, prompt, eos, device: NoBadWordsLogitsProcessor(value, list(eos)),
    "min_length": lambda value, prompt, eos, device: MinLengthLogitsProcessor(int(value), _ends(eos), device),
    "min_new_tokens": lambda value, prompt, eos, device: MinNewTokensLengthLogitsProcessor(
        prompt, int(value), _ends(eos), device
    ),
    "suppress_tokens": lambda value, prompt, eos, device: SuppressTokensLogitsProcessor(value, device),
}
