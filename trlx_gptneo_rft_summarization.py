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

from launch.policy_monitor import MonitoredOptions
from launch.policy_training import train_policy
from launch.stage import ranks
from tasks.run_folder import fill_places
from trlx.data.configs import SchedulerConfig, TrainConfig
from trlx.data.rft_config import RFTConfig
from trlx.utils.cli import parse_config
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
        train_policy("rft", fill_places(options, options.root))


if __name__ == "__main__":
    run_main(main)
