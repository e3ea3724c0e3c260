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
from typing import Any

import trlx
from evaluation.policies import require_model
from launch.policy_monitor import MonitoredOptions, choose_monitor, policy_metrics
from launch.policy_outputs import claim_outputs, finish
from launch.policy_reward import policy_reward, require_reward_models, reward_device, say_verdicts
from launch.policy_stage import as_prompt, check_options, check_policy, load_prompts
from launch.stage import ranks
from tasks.run_folder import MAKERS, fill_places
from trlx.data.limits import require_limits
from trlx.data.method_configs import PPOConfig
from trlx.trainer.accelerate_base_trainer import AccelerateRLTrainer
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
class PPOOptions(MonitoredOptions):
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


def run(options: PPOOptions) -> AccelerateRLTrainer:
    """Run the stage; call on every rank."""
    require_model("SFT", str(options.model.model_path), f"`{MAKERS['ckpts', 'sft']}` with the same --root makes it")
    reward_models = require_reward_models(options, options.root)
    config = options.engine_config()
    check_options(options, config)
    tokenizer = check_policy(config)
    from_main_rank(lambda: say_verdicts("ppo", reward_models, options.accept_failing_reward_model))
    train_posts, valid_posts = load_prompts("ppo", options, config, tokenizer)
    reward = policy_reward(options, reward_models, config.train.seq_length)
    metrics = policy_metrics("ppo", options, reward_models, valid_posts, tokenizer, config.train.seq_length)
    watching = choose_monitor(options, metrics, config.train)
    require_limits(config)  # once more, now that it is known what is watched and before anything is removed
    config.train.resume_from_checkpoint = from_main_rank(
        lambda: claim_outputs("ppo", config, options.overwrite, options.resume)
    )
    on = reward_device(options.reward_device)
    say(f"{len(train_posts)} prompts, {len(valid_posts)} to evaluate on; reward model on {on}; {watching}")
    trainer: Any = trlx.train(
        reward_fn=reward,
        metric_fn=metrics,
        prompts=[as_prompt(post) for post in train_posts],
        eval_prompts=[as_prompt(post) for post in valid_posts],
        config=config,
    )
    for line in finish(trainer, config.train):
        say(line)
    return trainer


def say(message: str) -> None:
    """Print one line on the main rank."""
    if is_main_rank():
        print(f"[ppo] {message}", flush=True)


if __name__ == "__main__":
    run_main(main)
