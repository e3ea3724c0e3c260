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

import os
import shutil
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch

import trlx
from evaluation.devices import choose_dtype, existing_device
from evaluation.policies import require_model
from launch.checks import require_ppo_room, require_start
from launch.stage import ranks
from reward_model.model import check_reward_model
from reward_model.reward import ReferenceReward
from reward_model.scorer import RewardScorer
from tasks.encoding import cut_prompts
from tasks.reading.rows import OnBadRows
from tasks.records import Post
from tasks.registry import get_task
from tasks.run_folder import DEFAULT_ROOT, MAKERS, default_under, fill_places
from tasks.text import response_text, truncate_prompt
from trlx.data.configs import ModelConfig, OptimizerConfig, SchedulerConfig, TokenizerConfig, TrainConfig, TRLConfig
from trlx.data.limits import require_limits
from trlx.data.method_configs import PPOConfig
from trlx.models.loading import load_policy_tokenizer
from trlx.trainer import BaseRLTrainer
from trlx.trainer.checkpointer import RESUME_NAME, find_resumable
from trlx.trlx import max_prompt_length
from trlx.utils.cli import parse_config
from trlx.utils.disk import require_writable
from trlx.utils.distributed import from_main_rank, is_main_rank
from trlx.utils.errors import UserError, run_main
from trlx.utils.metrics import METRICS_FILE
from trlx.utils.pretrained import load_config, require_own_tokenizer, require_vocabulary
from trlx.utils.ranges import AT_LEAST_1, require_ranges

# What this stage writes into train.checkpoint_dir and train.logging_dir; `--overwrite` removes these and nothing else.
CHECKPOINTS = ("best_checkpoint", RESUME_NAME, "checkpoint_*", ".*checkpoint*.writing", ".*checkpoint*.old")
LOGS = (METRICS_FILE, "events.out.tfevents.*", "eval")


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


def _default_train() -> TrainConfig:
    return TrainConfig(
        seq_length=550,
        epochs=50,
        total_steps=100000,
        batch_size=4,
        checkpoint_interval=10000,
        eval_interval=200,
        pipeline="PromptPipeline",
        trainer="AcceleratePPOTrainer",
        checkpoint_dir="{root}/ckpts",
        logging_dir="{root}/ckpts/ppo",
        tracker="tensorboard",
        seed=42,
    )


def _default_optimizer() -> OptimizerConfig:
    return OptimizerConfig("adamw", {"lr": 5e-6, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01})


@dataclass
class PPOOptions:
    """Options of the PPO stage.

    Args:
        root: the run's root folder; `{root}` in a path means it.
        overwrite: replace what an earlier PPO run left.
        resume: go on from the newest whole checkpoint.
        task: how rows of data are read; see `tasks/`.
        data: hub id, local folder (or folder/prefix), or JSONL, JSON, CSV or Parquet files (also .gz).
        columns: where the data call a column otherwise: our name → theirs, e.g. `--columns.summary tldr`.
        bad_rows: stop at the first row that cannot be used, or skip such rows and count them.
        valid_data: the same, of the evaluation prompts; null for the data above.
        train_split: the split whose posts are prompts.
        valid_split: the split to evaluate on while training.
        train_limit: the first so many posts; null for all.
        eval_limit: the first so many evaluation posts.
        reward_model: its folder or hub id; null for root/ckpts/reward_model.
        reward_relative: subtract the reference summary's score from the sample's.
        reward_batch_size: texts scored at once.
        reward_dtype: of the reward model; auto is bfloat16 on a GPU.
        reward_device: null for the GPU after the PPO ranks, else the main rank's device.
        method: PPO itself.
        model: the policy.
        tokenizer: its tokenizer.
        optimizer: of the policy.
        scheduler: of the learning rate.
        train: the loop.
    """

    root: str = DEFAULT_ROOT
    overwrite: bool = False
    resume: bool = False
    task: str = "tldr"
    data: str = "CarperAI/openai_summarize_tldr"
    columns: dict[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"
    valid_data: str | None = None
    train_split: str = "train"
    valid_split: str = "valid"
    train_limit: int | None = None
    eval_limit: int | None = 1000
    reward_model: str | None = None
    reward_relative: bool = True
    reward_batch_size: int = 32
    reward_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    reward_device: str | None = None
    method: PPOConfig = field(default_factory=_default_method)
    model: ModelConfig = field(default_factory=lambda: ModelConfig("{root}/ckpts/sft", num_layers_unfrozen=8))
    tokenizer: TokenizerConfig = field(default_factory=lambda: TokenizerConfig("{root}/ckpts/sft"))
    optimizer: OptimizerConfig = field(default_factory=_default_optimizer)
    scheduler: SchedulerConfig = field(
        default_factory=lambda: SchedulerConfig("cosine_annealing", {"T_max": 100000, "eta_min": 5e-6})
    )
    train: TrainConfig = field(default_factory=_default_train)

    def engine_config(self) -> TRLConfig:
        """The sections that the engine reads."""
        return TRLConfig(**{item.name: getattr(self, item.name) for item in fields(TRLConfig)})


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
    length = max_prompt_length(config)
    train_posts = load_prompts(options, options.data, options.train_split, options.train_limit, tokenizer, length)
    valid_data = options.valid_data or options.data
    valid_posts = load_prompts(options, valid_data, options.valid_split, options.eval_limit, tokenizer, length)
    if is_main_rank() and [post.prompt for post in valid_posts] == [post.prompt for post in train_posts]:
        print("[ppo] evaluating on the prompts that are trained on: --valid_data names others", flush=True)
    config.train.resume_from_checkpoint = from_main_rank(lambda: claim_outputs(options))
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


def check_options(options: PPOOptions, config: TRLConfig) -> None:
    """Refuse numbers that cannot be meant and folders that cannot be written."""
    require_ranges(options, dict.fromkeys(("train_limit", "eval_limit", "reward_batch_size"), AT_LEAST_1))
    require_limits(config)
    if config.model.critic_path:
        require_start(config.model.critic_path, "--model.critic_path")
    require_writable(config.train.checkpoint_dir, "--root or --train.checkpoint_dir")
    require_writable(log_folder(config.train), "--root or --train.logging_dir")


def check_policy(config: TRLConfig) -> Any:
    """Refuse a policy whose tokenizer is another model's; returns the tokenizer."""
    model_path, tokenizer_path = str(config.model.model_path), str(config.tokenizer.tokenizer_path)
    tokenizer = load_policy_tokenizer(tokenizer_path)
    require_vocabulary(load_config(model_path, "--model.model_path"), tokenizer, tokenizer_path)
    require_own_tokenizer(model_path, tokenizer, tokenizer_path)
    return tokenizer


def log_folder(train: TrainConfig) -> Path:
    """Where metrics and event files go."""
    return Path(train.logging_dir or Path(train.checkpoint_dir) / "logs")


def load_prompts(
    options: PPOOptions, source: str, split: str, limit: int | None, tokenizer: Any, max_tokens: int
) -> list[Post]:
    """The posts of a split, cut so that prompt and response fit."""
    load = get_task(options.task).load_posts
    posts = load(source, split, limit=limit, columns=options.columns, bad_rows=options.bad_rows)
    return cut_prompts(posts, tokenizer, max_tokens, bad_rows=options.bad_rows)


def as_prompt(post: Post) -> dict[str, str]:
    """A prompt for the engine with what the reward needs to know of it."""
    return {"prompt": post.prompt, "sample_id": post.id, "reference": post.summary}


def claim_outputs(options: PPOOptions) -> str | None:
    """Make sure that nothing is overwritten by surprise; call on the main rank only.

    Returns: the checkpoint to resume from, or None to begin at the beginning.
    Raises: UserError when an earlier run is there and neither --overwrite nor --resume was given.
    """
    if options.overwrite and options.resume:
        raise UserError("--overwrite and --resume exclude each other: give one of them")
    folder = Path(options.train.checkpoint_dir)
    logs = log_folder(options.train)
    written = [path for pattern in CHECKPOINTS for path in folder.glob(pattern)]
    held = sorted(written + [path for pattern in LOGS for path in logs.glob(pattern)])
    if held and not options.overwrite and not options.resume:
        raise UserError(f"{held[0]} already holds a run: pass --overwrite to replace it or --resume to go on with it")
    found = find_resumable(folder) if options.resume else None
    finished = [path for path in written if (path / "hf_model").is_dir()]
    if options.resume and found is None and finished:
        raise UserError(f"{finished[0]} holds a model but nothing to resume from: pass --overwrite to train it anew")
    require_ppo_room(options.engine_config(), written)
    if found is None:
        for path in held:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    if options.resume:
        print(f"[ppo] resuming from {found}" if found else "[ppo] no whole checkpoint: from the beginning", flush=True)
    return None if found is None else str(found)


def reward_device(given: str | None) -> str:
    """Where the reward model goes: as given, the GPU after the PPO ranks, or the main rank's own device."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if given is not None:
        return str(existing_device(given, gpus))
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if gpus == 0:
        return "cpu"
    return f"cuda:{ranks_here}" if gpus > ranks_here else "cuda:0"


if __name__ == "__main__":
    run_main(main)
