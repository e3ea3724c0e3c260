"""Reward-ranked fine-tuning of a summarizer: it learns from those of its own samples that the reward model likes best.

    accelerate launch --num_processes 3 --config_file configs/default_accelerate_config.yaml \\
        trlx_gptneo_rft_summarization.py
    accelerate launch --num_processes 2 --config_file configs/tiny/accelerate.yaml \\
        trlx_gptneo_rft_summarization.py --config configs/tiny/rft.yaml --root runs/demo

The plain alternative to PPO, from the same SFT model against the same reward models (Gulcehre et al. 2023, arXiv
2308.08998): no values, no KL penalty; what keeps it near the SFT model is that it only ever imitates samples. The best
policy by evaluation reward ends in `<root>/ckpts/rft/best_checkpoint`, the best one by a score that training never sees
in `<root>/ckpts/rft/best_heldout_checkpoint`, logs in `<root>/ckpts/rft/logs`.
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
from trlx.data.configs import SchedulerConfig, TrainConfig
from trlx.data.limits import require_limits
from trlx.data.rft_config import RFTConfig
from trlx.trainer.accelerate_base_trainer import AccelerateRLTrainer
from trlx.utils.cli import parse_config
from trlx.utils.distributed import from_main_rank, is_main_rank
from trlx.utils.errors import run_main


def _default_method() -> RFTConfig:
    return RFTConfig(
        name="RFTConfig",
        gen_kwargs={"max_new_tokens": 50, "do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0},
        start_percentile=0.7,
        end_percentile=0.95,
        n_improve_steps=4,
        n_generations_per_prompt=16,
    )


def _default_train() -> TrainConfig:
    return TrainConfig(
        seq_length=550,
        epochs=50,
        total_steps=5000,
        batch_size=4,
        checkpoint_interval=10000,
        eval_interval=200,
        pipeline="PromptPipeline",
        trainer="AccelerateRFTTrainer",
        checkpoint_dir="{root}/ckpts/rft",
        logging_dir="{root}/ckpts/rft/logs",
        tracker="tensorboard",
        seed=42,
    )


@dataclass
class RFTOptions(MonitoredOptions):
    """Options of reward-ranked fine-tuning.

    Args:
        method: the fine-tuning itself.
    """

    train_limit: int | None = 2000  # each is sampled many times, and all samples are scored before the first step
    method: RFTConfig = field(default_factory=_default_method)
    scheduler: SchedulerConfig = field(default_factory=lambda: SchedulerConfig("constant", {}))
    train: TrainConfig = field(default_factory=_default_train)


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    options = parse_config(RFTOptions, "Fine-tuning of a summarizer on the best of its own samples.", argv)
    with ranks():
        run(fill_places(options, options.root))


def run(options: RFTOptions) -> AccelerateRLTrainer:
    """Run the stage; call on every rank."""
    require_model("SFT", str(options.model.model_path), f"`{MAKERS['ckpts', 'sft']}` with the same --root makes it")
    reward_models = require_reward_models(options, options.root)
    config = options.engine_config()
    check_options(options, config)
    tokenizer = check_policy(config)
    from_main_rank(lambda: say_verdicts("rft", reward_models, options.accept_failing_reward_model))
    train_posts, valid_posts = load_prompts("rft", options, config, tokenizer)
    reward = policy_reward(options, reward_models, config.train.seq_length)
    metrics = policy_metrics("rft", options, reward_models, valid_posts, tokenizer, config.train.seq_length)
    watching = choose_monitor(options, metrics, config.train)
    require_limits(config)  # once more, now that it is known what is watched and before anything is removed
    config.train.resume_from_checkpoint = from_main_rank(
        lambda: claim_outputs("rft", config, options.overwrite, options.resume)
    )
    samples = len(train_posts) * options.method.n_generations_per_prompt
    on = reward_device(options.reward_device)
    say(f"{len(train_posts)} prompts, {samples} samples a round; reward model on {on}; {watching}")
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
        print(f"[rft] {message}", flush=True)


if __name__ == "__main__":
    run_main(main)
