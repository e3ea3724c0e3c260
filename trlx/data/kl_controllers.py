"""What holds the KL penalty's coefficient β during training."""

from __future__ import annotations

from trlx.functional.kl import update_kl_coef


class FixedKLController:
    """β stays as it is."""

    def __init__(self, kl_coef: float):
        self.value = kl_coef

    def update(self, current: float, n_steps: int) -> None:
        """Nothing to do."""


class AdaptiveKLController:
    """β follows the KL to a target (Ziegler et al. 2019, section 2.2); see `update_kl_coef`.

    Args:
        init_kl_coef: β at the start. target: KL in nats a response. horizon: samples over which it acts fully.
    """

    def __init__(self, init_kl_coef: float, target: float, horizon: float):
        self.value, self.target, self.horizon = init_kl_coef, target, horizon

    def update(self, current: float, n_steps: int) -> None:
        """Move β after `n_steps` samples (all ranks) whose mean Σ_t k1 is `current` nats."""
        self.value = update_kl_coef(self.value, current, self.target, self.horizon, n_steps)


def make_kl_controller(
    init_kl_coef: float, target: float | None, horizon: float
) -> AdaptiveKLController | FixedKLController:
    """Adaptive where there is a target."""
    if target is None:
        return FixedKLController(init_kl_coef)
    return AdaptiveKLController(init_kl_coef, target, horizon)
