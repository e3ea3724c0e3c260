"""What the stages that train a policy against a reward (PPO, RFT) share: options, checks, prompts.

Left out: the reward (`launch.policy_reward`), what is measured besides (`launch.policy_monitor`), where they write
(`launch.policy_outputs`), and their methods, which are the engine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from launch.checks import require_start
from launch.policy_outputs import log_folder
from reward_model.reward_options import RewardOptions, check_reward_options
from tasks.chosen import train_and_valid
from tasks.encoding import cut_prompts
from tasks.reading.rows import OnBadRows
from tasks.records import Post
from tasks.registry import get_task
from tasks.run_folder import DEFAULT_ROOT
from trlx.data.configs import ModelConfig, OptimizerConfig, SchedulerConfig, TokenizerConfig, TrainConfig, TRLConfig
from trlx.data.limits import require_limits
from trlx.models.loading import load_policy_tokenizer
from trlx.trlx import max_prompt_length
from trlx.utils.disk import require_writable
from trlx.utils.distributed import is_main_rank
from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_config, require_own_tokenizer, require_vocabulary
from trlx.utils.ranges import AT_LEAST_1, require_ranges


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
class PolicyOptions(RewardOptions):
    """Options of every stage that trains a policy; a stage adds its `method` and other defaults.

    Args:
        root: the run's root folder; `{root}` in a path means it.
        overwrite: replace what an earlier run of this stage left.
        resume: true or auto: go on from the newest whole checkpoint, or begin where there is none.
        preflight: look at versions, tokenizers and models first (the doctor's short form), and stop at a fault.
        task: how rows of data are read; see `tasks/`.
        data: hub id, local folder (or folder/prefix), or JSONL, JSON, CSV or Parquet files (also .gz).
        columns: where the data call a column otherwise: our name → theirs, e.g. `--columns.summary tldr`.
        bad_rows: stop at the first row that cannot be used, or skip such rows and count them.
        valid_data: the same, of the evaluation prompts; null for the data above.
        valid_percentage: hold out this share of the training prompts, and evaluate on those; null for none.
        train_split: the split whose posts are prompts.
        valid_split: the split to evaluate on while training.
        train_limit: the first so many posts; null for all.
        eval_limit: the first so many evaluation posts.
        model: the policy.
        tokenizer: its tokenizer.
        optimizer: of the policy.
        scheduler: of the learning rate.
        train: the loop.
    """

    root: str = DEFAULT_ROOT
    overwrite: bool = False
    resume: bool | Literal["auto"] = False
    preflight: bool = True
    task: str = "tldr"
    data: str = "CarperAI/openai_summarize_tldr"
    columns: dict[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"
    valid_data: str | None = None
    valid_percentage: float | None = None
    train_split: str = "train"
    valid_split: str = "valid"
    train_limit: int | None = None
    eval_limit: int | None = 1000
    model: ModelConfig = field(default_factory=lambda: ModelConfig("{root}/ckpts/sft", num_layers_unfrozen=8))
    tokenizer: TokenizerConfig = field(default_factory=lambda: TokenizerConfig("{root}/ckpts/sft"))
    optimizer: OptimizerConfig = field(default_factory=_default_optimizer)
    scheduler: SchedulerConfig = field(
        default_factory=lambda: SchedulerConfig("cosine_annealing", {"T_max": 100000, "eta_min": 5e-6})
    )
    train: TrainConfig = field(default_factory=_default_train)

    def engine_config(self) -> TRLConfig:
        """The sections that the engine reads; of a stage, which has a method."""
        return TRLConfig(**{item.name: getattr(self, item.name) for item in fields(TRLConfig)})


def check_options(options: PolicyOptions, config: TRLConfig) -> None:
    """Refuse numbers that cannot be meant and folders that cannot be written. Raises: UserError."""
    require_ranges(options, dict.fromkeys(("train_limit", "eval_limit"), AT_LEAST_1))
    check_reward_options(options)
    require_limits(config)
    if config.model.critic_path:
        require_start(config.model.critic_path, "--model.critic_path")
    require_writable(config.train.checkpoint_dir, "--root or --train.checkpoint_dir")
    require_writable(log_folder(config.train), "--root or --train.logging_dir")


def check_policy(config: TRLConfig) -> Any:
    """Refuse a policy whose tokenizer is another model's; returns the tokenizer. Raises: UserError."""
    model_path, tokenizer_path = str(config.model.model_path), str(config.tokenizer.tokenizer_path)
    tokenizer = load_policy_tokenizer(tokenizer_path)
    require_vocabulary(load_config(model_path, "--model.model_path"), tokenizer, tokenizer_path)
    require_own_tokenizer(model_path, tokenizer, tokenizer_path)
    return tokenizer


def load_prompts(
    stage: str, options: PolicyOptions, config: TRLConfig, tokenizer: Any
) -> tuple[list[Post], list[Post]]:
    """The posts to train on and those to evaluate on, cut so that prompt and response fit.

    Args:
        stage: its name, to begin lines on the console with.

    Raises: UserError as `Chosen.load_posts`, for prompts that leave no room for a response, and for posts without a
        reference whose score the reward should take off.
    """
    room, form = max_prompt_length(config), get_task(options.task).form
    longest = config.train.seq_length - room
    train, valid = (
        cut_prompts(chosen.load_posts(), form, tokenizer, room, response_tokens=longest, bad_rows=options.bad_rows)
        for chosen in train_and_valid(options, options.eval_limit)
    )
    if options.reward_relative:
        _require_references([*train, *valid])
    if is_main_rank() and [post.prompt for post in valid] == [post.prompt for post in train]:
        print(f"[{stage}] evaluating on the prompts that are trained on: --valid_data names others", flush=True)
    return train, valid


def _require_references(posts: Sequence[Post]) -> None:
    without = [post for post in posts if not post.summary]
    if without:
        raise UserError(
            f"{without[0].where}: no response whose score could be taken off ({len(without)} of {len(posts)} posts are "
            "like that): pass --reward_relative false, or give data with responses"
        )


def as_prompt(post: Post) -> dict[str, Any]:
    """A prompt for the engine with what rewards and metrics need to know of it."""
    return {"prompt": post.prompt, "sample_id": post.id, "reference": post.summary}
