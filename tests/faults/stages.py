"""The stages that are killed: a few steps each, with saves and evaluations between them, in float32."""

from __future__ import annotations

from pathlib import Path

from harness import PPO, REWARD, SFT

NAMES = {SFT: "sft", REWARD: "reward_model", PPO: "ppo"}
_COMMON = ["--root", "{root}", "--preflight", "false"]
_TRAINER = [
    *(*_COMMON, "--model", "{root}/ckpts/sft", "--out", "{root}/new", "--max_steps", "6", "--batch_size", "2"),
    *("--eval_steps", "3", "--save_steps", "2", "--max_length", "200", "--log_steps", "1", "--precision", "fp32"),
]
OPTIONS = {
    SFT: [*_TRAINER, "--data", "{root}/data/sft", "--rouge_samples", "2", "--max_new_tokens", "8"],
    REWARD: [*_TRAINER, "--data", "{root}/data/comparisons", "--references", "null", "--gate", "null"],
    PPO: [
        *(*_COMMON, "--data", "{root}/data/sft", "--accept_failing_reward_model", "--train.seq_length", "200"),
        *("--train.checkpoint_dir", "{root}/new", "--train.logging_dir", "{root}/new/logs"),
        *("--train.total_steps", "6", "--train.batch_size", "4", "--train.eval_interval", "3"),
        *("--train.checkpoint_interval", "4", "--train.resume_interval", "1", "--method.num_rollouts", "8"),
        *("--method.chunk_size", "4", "--method.ppo_epochs", "2", "--method.gen_kwargs.max_new_tokens", "12"),
        *("--model.num_layers_unfrozen", "1", "--method.scale_reward", "running", "--eval_limit", "4"),
    ],
}


def options(script: str, root: Path) -> list[str]:
    """Of a stage that reads what lies below `root` and writes into `root/new`."""
    return [one.replace("{root}", str(root)) for one in OPTIONS[script]]
