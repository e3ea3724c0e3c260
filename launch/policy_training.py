"""A stage that trains a policy against a reward, from options to last line; PPO and RFT differ in `method` alone, but
that PPO may mix in pretraining texts.

What may be refused is refused before anything is removed or written.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trlx
from evaluation.policies import require_model
from launch.doctor import preflight, require_healthy
from launch.outputs import RUN_FILE
from launch.policy_monitor import MonitoredOptions, choose_monitor, policy_metrics
from launch.policy_outputs import claim_outputs, finish, log_folder
from launch.policy_pretraining import PretrainingOptions, load_pretraining_texts
from launch.policy_reward import policy_reward, require_reward_models, reward_device, say_verdicts
from launch.policy_stage import as_prompt, check_options, check_policy, load_prompts
from launch.resuming import changed_options
from launch.versions import versions
from reward_model.labels import is_classifier
from tasks.registry import get_task
from tasks.run_folder import MAKERS
from trlx.data.configs import TRLConfig
from trlx.data.limits import require_limits
from trlx.trainer.accelerate_base_trainer import AccelerateRLTrainer
from trlx.utils.distributed import from_main_rank, is_main_rank
from trlx.utils.files import write_json


def train_policy(stage: str, options: MonitoredOptions) -> AccelerateRLTrainer:
    """Run the stage; call on every rank, within `launch.stage.ranks`.

    Args:
        stage: its name, to begin lines on the console with. options: with a `method`, places filled.
    """
    require_model("SFT", str(options.model.model_path), f"`{MAKERS['ckpts', 'sft']}` with the same --root makes it")
    reward_models = require_reward_models(options, options.root)
    config = options.engine_config()
    check_options(options, config)
    tokenizer = check_policy(config)
    judged = [folder for folder in reward_models if not is_classifier(folder)]
    from_main_rank(lambda: say_verdicts(stage, judged, options.accept_failing_reward_model))
    texts = load_pretraining_texts(options, config, tokenizer) if isinstance(options, PretrainingOptions) else None
    train_posts, valid_posts = load_prompts(stage, options, config, tokenizer)
    reward = policy_reward(options, get_task(options.task).form, reward_models, config.train.seq_length)
    metrics = policy_metrics(stage, options, reward_models, valid_posts, tokenizer, config.train.seq_length)
    watching = choose_monitor(options, metrics, config.train)
    require_limits(config)  # once more, now that it is known what is watched
    if options.preflight:
        from_main_rank(lambda: _preflight(stage, config, reward_models, options.reward_label))
    resumed = from_main_rank(lambda: claim_outputs(stage, config, options.overwrite, options.resume))
    config.train.resume_from_checkpoint = resumed
    if resumed and is_main_rank() and (changed := changed_options(log_folder(config.train), options)):
        _say(stage, changed)
    record = _record(stage, options, resumed)
    _note(config, record)
    prompts = f"{len(train_posts)} prompts, {len(valid_posts)} to evaluate on"
    if texts is not None:
        prompts += f", {len(texts)} pretraining texts mixed in"
    _say(stage, f"{prompts}; reward model on {reward_device(options.reward_device)}; {watching}")
    trainer: Any = trlx.train(
        reward_fn=reward,
        metric_fn=metrics,
        prompts=[as_prompt(post) for post in train_posts],
        eval_prompts=[as_prompt(post) for post in valid_posts],
        config=config,
        ptx_texts=texts,
    )
    for line in finish(trainer, config.train):
        _say(stage, line)
    _note(config, record | {"finished": True, "steps": trainer.iter_count})
    return trainer


def _record(stage: str, options: MonitoredOptions, resumed: str | None) -> dict[str, Any]:
    return {
        "stage": stage,
        "finished": False,
        "resumed_from": Path(resumed).name if resumed else None,
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        "versions": versions(),
        "options": dataclasses.asdict(options),
    }


def _note(config: TRLConfig, record: Mapping[str, Any]) -> None:
    """Write the stage's record beside its logs; a start that ends before its end leaves it unfinished."""
    if is_main_rank():
        write_json(log_folder(config.train) / RUN_FILE, record)


def _preflight(stage: str, config: TRLConfig, reward_models: Sequence[str], reward_label: str | None) -> None:
    unfrozen = config.model.num_layers_unfrozen
    found = preflight(
        str(config.model.model_path), reward_models, reward_label=reward_label, num_layers_unfrozen=unfrozen
    )
    require_healthy(found, lambda line: _say(stage, line))


def _say(stage: str, message: str) -> None:
    if is_main_rank():
        print(f"[{stage}] {message}", flush=True)
