"""Statistics over real tokens of all microbatches and ranks."""

from __future__ import annotations

from collections import defaultdict

import torch
from accelerate import Accelerator
from torch import Tensor


class TokenStats:
    """Collects values of real tokens under names, then reduces them over ranks in two collectives."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, mask: Tensor, **values: Tensor) -> None:
        """Note the entries of (B, R) tensors where `mask` (B, R) is True; "__" in a name stands for "/"."""
        for name, value in values.items():
            self._values[name.replace("__", "/")].append(value.detach()[mask].float())

    def reduce(self, accelerator: Accelerator, spread: tuple[str, ...] = ()) -> dict[str, float]:
        """Means by name; those in `spread` as name/mean, /min, /max and /std instead. Every rank must call it."""
        names = sorted(self._values)
        joined = [torch.cat(self._values[name]) for name in names]
        sums = torch.stack(
            [torch.stack([v.sum(), v.square().sum(), torch.tensor(float(v.numel())).to(v)]) for v in joined]
        )
        extremes = torch.stack([_extremes(value) for value in joined])
        sums = accelerator.reduce(sums.double(), "sum")
        extremes = accelerator.gather(extremes.unsqueeze(0)).max(dim=0).values
        result = {}
        for name, (total, squares, count), (high, minus_low) in zip(
            names, sums.tolist(), extremes.tolist(), strict=True
        ):
            count = max(count, 1.0)
            mean = total / count
            if name not in spread:
                result[name] = mean
                continue
            std = max(squares / count - mean**2, 0.0) ** 0.5
            result |= {f"{name}/mean": mean, f"{name}/std": std, f"{name}/max": high, f"{name}/min": -minus_low}
        return result


def _extremes(values: Tensor) -> Tensor:
    """(maximum, −minimum), so that a maximum over ranks reduces both."""
    if values.numel() == 0:
        return torch.full((2,), -torch.inf, device=values.device)
    return torch.stack([values.max(), -values.min()])
