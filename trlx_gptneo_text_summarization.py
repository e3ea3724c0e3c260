"""PPO of a summarizer: the SFT model writes, the reward model judges, the policy learns.

    accelerate launch --num_processes 3 --config_file configs/default_accelerate_config.yaml \\
        trlx_gptneo_text_summarization.py
    accelerate launch --num_processes 2 --config_file configs/tiny/accelerate.yaml \\
        trlx_gptneo_text_summarization.py --config configs/tiny/ppo.yaml --root runs/demo

Starts from `<root>/ckpts/sft` with the reward model in `<root>/ckpts/reward_model`, whose gate must not have failed.
The best policy by evaluation reward ends in `<root>/ckpts/best_checkpoint`, the best one by a score that training never
sees in `<root>/ckpts/best_heldout_checkpoint` (`hf_model` in them loads with transformers), logs in `<root>/ckpts/ppo`.
The reward models sit on the GPU after the PPO ranks where there is one, else they share the main rank's device.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from launch.policy_pretraining import PretrainingOptions
from launch.policy_training import train_policy
from launch.stage import ranks
from tasks.run_folder import fill_places
from trlx.data.method_configs import PPOConfig
from trlx.utils.cli import parse_config
from trlx.utils.errors import run_main


def _default_method() -> PPOConfig:
    return PPOConfig(
        name="PPOConfig",
        ppo_epochs=4,
        num_rollouts=128,
        chunk_size=16,
        init_kl_coef=0.1,
        target=6.0,
        horizon=10000,
        gamma=1.0,
        lam=0.95,
        cliprange=0.2,
        cliprange_value=0.2,
        vf_coef=0.2,
        scale_reward=None,
        ref_mean=None,
        ref_std=None,
        cliprange_reward=10.0,
        gen_kwargs={"max_new_tokens": 50, "do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0},
    )


@dataclass
class PPOOptions(PretrainingOptions):
    """Options of the PPO stage.

    Args:
        method: PPO itself.
    """

    method: PPOConfig = field(default_factory=_default_method)


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    options = parse_config(PPOOptions, "PPO of a summarizer against a reward model.", argv)
    with ranks():
        train_policy("ppo", fill_places(options, options.root))


if __name__ == "__main__":
    run_main(main)
