"""Reading weights that DeepSpeed's ZeRO holds in pieces."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def master_weight(parameter: nn.Parameter) -> Tensor:
    """The whole float32 master of a trained parameter under ZeRO; the parameter itself where there is none.

    A collective: every rank must call it for the same parameters in the same order.
    """
    from deepspeed.utils import safe_get_full_fp32_param

    master: Any = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
    return parameter.detach() if master is None else master.detach().view(parameter.shape)
