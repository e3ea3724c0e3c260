"""The loop every accelerate trainer shares: step, log, evaluate, checkpoint.

A method adds two things: where batches come from (`batches`) and what one optimizer step does (`train_step`).
"""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from trlx.data.configs import TRLConfig
from trlx.generation.sampling import Generated, check_gen_kwargs, generate
from trlx.models.loading import load_causal_lm, load_policy_tokenizer
from trlx.pipeline.offline_pipeline import PromptPipeline
from trlx.trainer import BaseRLTrainer, register_trainer
from trlx.trainer.checkpointer import RESUME_NAME, Checkpointer, evict, find_resumable
from trlx.trainer.engine import Engine, make_accelerator
from trlx.trainer.evaluator import Evaluator
from trlx.trainer.tracker import Tracker
from trlx.utils.errors import UserError
from trlx.utils.optimizers import make_optimizer, make_scheduler
from trlx.utils.pretrained import require_positions


@register_trainer
class AccelerateRLTrainer(BaseRLTrainer):
    """Sets a run up from its configuration and runs it.

    Attributes people read: model (the bare policy module), tokenizer, accelerator, opt, scheduler, config (a copy),
    iter_count (optimizer steps done), total_steps, best_reward.
    """

    def __init__(
        self,
        config: TRLConfig,
        reward_fn: Callable[..., Any] | None = None,
        metric_fn: Callable[..., Any] | None = None,
        **options: Any,
    ):
        super().__init__(copy.deepcopy(config), reward_fn, metric_fn, **options)
        train = self.config.train
        self._refuse_unsupported()
        self.n_minibatches = _minibatches(train.batch_size, train.minibatch_size)
        minibatch_size = train.minibatch_size or train.batch_size
        self.max_grad_norm: float | None = getattr(self.config.method, "max_grad_norm", None)
        self.accelerator = make_accelerator(self.n_minibatches, minibatch_size, self.max_grad_norm)
        set_seed(train.seed, device_specific=True)
        self.tokenizer = load_policy_tokenizer(
            self.config.tokenizer.tokenizer_path,
            padding_side=self.config.tokenizer.padding_side,
            truncation_side=self.config.tokenizer.truncation_side,
            **self.config.tokenizer.tokenizer_extra_configs,
        )
        self.model = self.get_arch(self.config)
        self.engine = self._make_engine()
        self.opt, self.scheduler = self.engine.optimizer, self.engine.scheduler
        self.checkpointer = Checkpointer(
            self.accelerator, self.engine, self.policy, self.tokenizer, save_optimizer=train.save_optimizer
        )
        self.logging_dir = Path(train.logging_dir or Path(train.checkpoint_dir) / "logs")
        self.tracker = Tracker(
            self.logging_dir,
            train.tracker,
            self.accelerator.is_main_process,
            {"project": train.project_name, "name": train.run_name, "entity": train.entity_name,
             "group": train.group_name, "tags": train.tags, "config": self.config.to_dict()},
        )  # fmt: skip
        self.iter_count, self.total_steps = 0, train.total_steps
        self.best_reward = -float("inf")
        self.evaluator: Evaluator | None = None

    @abstractmethod
    def get_arch(self, config: TRLConfig) -> torch.nn.Module:
        """The bare module that trains."""

    @property
    @abstractmethod
    def policy(self) -> PreTrainedModel:
        """The bare language model that generates and is exported."""

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """What each optimizer step trains on, until the configured end; after `load`, from where the run stopped."""

    @abstractmethod
    def train_step(self, batch: Any) -> dict[str, float]:
        """One optimizer step; returns what to log."""

    @abstractmethod
    def add_prompt_pipeline(self, pipeline: PromptPipeline) -> None:
        """Take the prompts to train on."""

    def state_dict(self) -> dict[str, Any]:
        """What a method needs to resume besides weights and generators, JSON-able; extended by methods."""
        return {
            "iter_count": self.iter_count,
            "metrics_lines": self.tracker.position(),
            "best_reward": self.best_reward if self.best_reward > -float("inf") else None,
            "world_size": self.accelerator.num_processes,
        }

    def load_state_dict(self, state: Mapping[str, Any], rollouts: dict[str, Tensor] | None) -> None:
        """Take back what `state_dict` gave; extended by methods."""
        self.iter_count = state["iter_count"]
        self.tracker.rewind(state["metrics_lines"])
        self.best_reward = -float("inf") if state["best_reward"] is None else state["best_reward"]

    def rollout_tensors(self) -> dict[str, Tensor] | None:
        """This rank's tensors that a checkpoint in the middle of a phase must hold."""
        return None

    def load_base_model(self) -> PreTrainedModel:
        """The language model that the configuration names, in float32, dropout off."""
        options = dict(self.config.model.model_extra_configs)
        dtype = options.pop("dtype", torch.float32)
        model = load_causal_lm(self.config.model.model_path, dtype=dtype, **options)
        require_positions(model.config, self.config.train.seq_length, "train.seq_length")
        if self.config.train.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return model

    def _make_engine(self) -> Engine:
        optimizer = make_optimizer(self.config.optimizer.name, self.model.parameters(), self.config.optimizer.kwargs)
        scheduler = make_scheduler(self.config.scheduler.name, optimizer, self.config.scheduler.kwargs)
        return Engine(self.accelerator, self.model, optimizer, scheduler, self.max_grad_norm)

    def _refuse_unsupported(self) -> None:
        refused = {
            "model.peft_config": self.config.model.peft_config is not None,
            "model.model_arch_type": self.config.model.model_arch_type != "causal",
            "stop_sequences": bool(self.stop_sequences),
            "logit_mask": self.logit_mask is not None,
        }
        for name, given in refused.items():
            if given:
                raise UserError(f"{name} is not available yet: leave it at its default")

    def add_eval_pipeline(self, pipeline: PromptPipeline) -> None:
        """Take the prompts to evaluate on."""
        self.evaluator = Evaluator(
            self.accelerator,
            self.tokenizer,
            pipeline,
            self.generate_eval,
            self.eval_batch_size,
            self.reward_fn,
            self.metric_fn,
        )

    @property
    def eval_batch_size(self) -> int:
        """Prompts continued at once in evaluation."""
        return self.config.train.batch_size

    def generate(self, input_ids: Tensor, attention_mask: Tensor, **gen_kwargs: Any) -> Generated:
        """Continue left-padded prompts (B, P) with the policy, on its device, at the run's precision."""
        check_gen_kwargs(gen_kwargs)
        return self._continue(input_ids, attention_mask, gen_kwargs, with_logprobs=False)

    def generate_eval(self, input_ids: Tensor, attention_mask: Tensor) -> Generated:
        """Continue with the settings of evaluation, `method.gen_kwargs`."""
        return self._continue(input_ids, attention_mask, self.gen_kwargs, with_logprobs=False)

    @property
    def gen_kwargs(self) -> dict[str, Any]:
        """The method's generation options."""
        return self.config.method.gen_kwargs  # type: ignore[attr-defined]

    def _continue(self, ids: Tensor, mask: Tensor, gen_kwargs: Mapping[str, Any], with_logprobs: bool) -> Generated:
        with self.accelerator.autocast():
            return generate(
                self.policy,
                ids,
                mask,
                gen_kwargs,
                eos_token_id=int(self.tokenizer.eos_token_id),
                pad_token_id=int(self.tokenizer.pad_token_id),
                with_logprobs=with_logprobs,
            )

    def learn(self) -> None:
        """Train until `total_steps` or the last epoch, evaluating and saving on the way."""
        bar = tqdm(
            total=self.total_steps,
            initial=self.iter_count,
            desc="training",
            disable=not self.accelerator.is_main_process,
        )
        if self.iter_count == 0:
            self.evaluate()
        if self.iter_count < self.total_steps:
            for batch in self.batches():
                start = time.perf_counter()
                stats = self.train_step(batch)
                self.iter_count += 1
                stats["time/step"] = time.perf_counter() - start
                self.tracker.log(stats, self.iter_count)
                bar.update()
                bar.set_postfix(loss=f"{stats['losses/total_loss']:.3f}", refresh=False)
                self._after_step()
                if self.iter_count >= self.total_steps:
                    break
        bar.close()
        self.tracker.close()

    def _after_step(self) -> None:
        train, step = self.config.train, self.iter_count
        last = step >= self.total_steps
        if step % train.eval_interval == 0 or last:
            reward = self.evaluate().get("reward/mean")
            if train.save_best and reward is not None and reward > self.best_reward:
                self.best_reward = reward
                self.save(str(Path(train.checkpoint_dir) / "best_checkpoint"))
        if step % train.checkpoint_interval == 0 or last:
            self.save(str(Path(train.checkpoint_dir) / f"checkpoint_{step:0{len(str(self.total_steps))}d}"))
            if self.accelerator.is_main_process:
                evict(train.checkpoint_dir, train.keep_checkpoints)
        elif train.resume_interval and train.save_optimizer and step % train.resume_interval == 0:
            self.save(str(Path(train.checkpoint_dir) / RESUME_NAME))

    def evaluate(self) -> dict[str, float]:
        """Continue and score the evaluation prompts; logs, shows samples, returns the statistics."""
        if self.evaluator is None:
            return {}
        stats, table = self.evaluator.run(f"evaluation at step {self.iter_count}")
        self.tracker.log(stats, self.iter_count)
        self.tracker.log_table("samples", table, self.iter_count)
        return stats

    def save(self, directory: str | None = None) -> None:
        """Write a whole checkpoint, `hf_model` included; every rank must call it."""
        folder = Path(directory or Path(self.config.train.checkpoint_dir) / f"checkpoint_{self.iter_count}")
        self.checkpointer.save(folder, self.state_dict(), self.rollout_tensors())

    def save_pretrained(self, directory: str | None = None) -> None:
        """Write what transformers' from_pretrained loads, by default to `checkpoint_dir/hf_model`."""
        self.checkpointer.save_hf_model(directory or Path(self.config.train.checkpoint_dir) / "hf_model")

    def load(self, directory: str) -> None:
        """Go on from a checkpoint: weights, optimizer, schedule, generators, and the method's own state."""
        self.load_state_dict(*self.checkpointer.load(directory))

    def resume(self, source: str) -> None:
        """`load` a checkpoint by path, or the newest in `checkpoint_dir` for "auto".

        Raises: UserError when there is none to resume from.
        """
        found = find_resumable(self.config.train.checkpoint_dir) if source == "auto" else Path(source)
        if found is None or not found.exists():
            where = self.config.train.checkpoint_dir if found is None else found
            raise UserError(f"there is no checkpoint to resume from at {where}: start afresh, or name another")
        self.load(str(found))


def _minibatches(batch_size: int, minibatch_size: int | None) -> int:
    if not minibatch_size:
        return 1
    if batch_size % minibatch_size:
        raise UserError(
            f"train.batch_size ({batch_size}) must be a multiple of train.minibatch_size ({minibatch_size})"
        )
    return batch_size // minibatch_size
