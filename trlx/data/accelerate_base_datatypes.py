"""Plain records of prompts and of scored outputs, for scripts that make their own; the engine has its own records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


@dataclass
class PromptElement:
    """One prompt."""

    text: str
    tokens: Tensor  # (P,) ids


@dataclass
class PromptBatch:
    """B prompts."""

    text: Iterable[str]
    tokens: Tensor  # (B, P) ids


@dataclass
class AccelerateRLElement:
    """One output and its rewards."""

    output_tokens: Tensor  # (R,) ids
    rewards: Tensor  # (R,) one a token


@dataclass
class AccelerateRLBatchElement:
    """B outputs and their rewards."""

    output_tokens: Tensor  # (B, R) ids
    rewards: Tensor  # (B, R) one a token
