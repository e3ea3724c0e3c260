"""The settings of fine-tuning on the model's own best samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trlx.data.method_configs import MethodConfig, register_method
from trlx.utils.errors import UserError


@dataclass
@register_method
class RFTConfig(MethodConfig):
    """Reward-ranked fine-tuning (rejection sampling; "ReST", Gulcehre et al. 2023, arXiv 2308.08998).

    Args:
        name: "RFTConfig".
        gen_kwargs: transformers' generation options, of sampling and of evaluation; of a swept one (a list of values)
            samples take the first value.
        start_percentile: share (0 to 1) of a prompt's samples that the first improvement step leaves out.
        end_percentile: share towards which it rises, in `n_improve_steps` equal parts of which the last is not taken.
        n_improve_steps: epochs between two rounds of sampling.
        n_generations_per_prompt: samples a prompt in each round.

    Raises: UserError when the percentiles or counts are out of range.
    """

    gen_kwargs: dict[str, Any]
    start_percentile: float = 0.7
    end_percentile: float = 0.95
    n_improve_steps: int = 4
    n_generations_per_prompt: int = 32

    def __post_init__(self) -> None:
        if not 0.0 <= self.start_percentile <= self.end_percentile <= 1.0:
            raise UserError(
                "method.start_percentile and method.end_percentile must be between 0 and 1 and not fall, "
                f"not {self.start_percentile} and {self.end_percentile}"
            )
        for name in ("n_improve_steps", "n_generations_per_prompt"):
            if getattr(self, name) < 1:
                raise UserError(f"method.{name} must be at least 1, not {getattr(self, name)}")

    def percentile(self, epoch: int) -> float:
        """The share of samples left out in an epoch, counted from 0: it rises, and falls back at each new round."""
        step = (self.end_percentile - self.start_percentile) / self.n_improve_steps
        return self.start_percentile + step * (epoch % self.n_improve_steps)
