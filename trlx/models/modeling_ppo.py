"""Where trlX's users import PPO's names from."""

from __future__ import annotations

from trlx.data.method_configs import PPOConfig
from trlx.models.policy import CausalLMPolicy, make_head

__all__ = ["CausalLMPolicy", "PPOConfig", "make_head"]
