"""PPO of a summarizer: the SFT model writes, the reward model judges, the policy learns.

    accelerate launch --num_processes 3 --config_file configs/default_accelerate_config.yaml \\
        trlx_gptneo_text_summarization.py
    accelerate launch --num_processes 2 --config_file configs/tiny/accelerate.yaml \\
        trlx_gptneo_text_summarization.py --config configs/tiny/ppo.yaml --root runs/demo

Starts from `<root>/ckpts/sft` with the reward model in `<root>/ckpts/reward_model`; the best policy by evaluation
reward ends in `<root>/ckpts/best_checkpoint` (`hf_model` in it loads with transformers), logs in `<root>/ckpts/ppo`.
The reward model sits on the GPU after the PPO ranks where there is one, else it shares the main rank's device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

import trlx
from evaluation.devices import choose_dtype
from evaluation.policies import require_model
from launch.policy_outputs import claim_outputs
from launch.policy_stage import PolicyOptions, as_prompt, check_options, check_policy, load_prompts, reward_device
from launch.stage import ranks
from reward_model.model import check_reward_model
from reward_model.reward import ReferenceReward
from reward_model.scorer import RewardScorer
from tasks.run_folder import MAKERS, default_under, fill_places
from tasks.text import response_text, truncate_prompt
from trlx.data.method_configs import PPOConfig
from trlx.trainer import BaseRLTrainer
from trlx.utils.cli import parse_config
from trlx.utils.distributed import from_main_rank, is_main_rank
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
class PPOOptions(PolicyOptions):
    """Options of the PPO stage.

    Args:
        method: PPO itself.
    """

    method: PPOConfig = field(default_factory=_default_method)


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    options = parse_config(PPOOptions, "PPO of a summarizer against a reward model.", argv)
    with ranks():
        run(fill_places(options, options.root))


def run(options: PPOOptions) -> BaseRLTrainer:
    """Run the stage; call on every rank."""
    reward_path = options.reward_model or str(default_under(options.root, None, "ckpts", "reward_model"))
    require_model("SFT", str(options.model.model_path), f"`{MAKERS['ckpts', 'sft']}` with the same --root makes it")
    require_model("reward", reward_path, f"`{MAKERS['ckpts', 'reward_model']}` with the same --root makes it")
    config = options.engine_config()
    check_options(options, config)
    check_reward_model(reward_path)
    tokenizer = check_policy(config)
    train_posts, valid_posts = load_prompts("ppo", options, config, tokenizer)
    config.train.resume_from_checkpoint = from_main_rank(
        lambda: claim_outputs("ppo", config, options.overwrite, options.resume)
    )
    device = reward_device(options.reward_device)
    if is_main_rank():
        print(
            f"[ppo] {len(train_posts)} prompts, {len(valid_posts)} to evaluate on; reward model on {device}", flush=True
        )

    def load_scorer() -> RewardScorer:
        dtype = choose_dtype(options.reward_dtype, torch.device(device))
        return RewardScorer.load(
            reward_path, device, dtype, config.train.seq_length, options.reward_batch_size, truncate_prompt
        )

    trainer = trlx.train(
        reward_fn=ReferenceReward(load_scorer, response_text, options.reward_relative),
        prompts=[as_prompt(post) for post in train_posts],
        eval_prompts=[as_prompt(post) for post in valid_posts],
        config=config,
    )
    if is_main_rank():
        best = Path(config.train.checkpoint_dir) / "best_checkpoint"
        print(f"[ppo] done after {trainer.iter_count} steps; the best policy is in {best / 'hf_model'}", flush=True)
    return trainer


if __name__ == "__main__":
    run_main(main)
