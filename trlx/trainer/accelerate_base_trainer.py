"""The loop every accelerate trainer shares: step, log, evaluate, checkpoint, with trlX's hooks between.

A method supplies the model (`get_arch`), the data (`make_experience`, `create_train_dataloader`) and the objective
(`loss`, with `loss_weight` saying how many tokens it is the mean of).
"""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import set_seed
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel

from trlx.data.configs import TRLConfig
from trlx.pipeline import MiniBatchIterator
from trlx.pipeline.offline_pipeline import PromptPipeline
from trlx.trainer import BaseRLTrainer, register_trainer
from trlx.trainer.checkpoint_folder import BEST_NAME, RESUME_NAME, evict, find_resumable
from trlx.trainer.checkpointer import Checkpointer
from trlx.trainer.ema import WeightAverage
from trlx.trainer.engine import Engine, make_accelerator
from trlx.trainer.evaluator import Evaluator, best_of_sweep
from trlx.trainer.export import ModelExport
from trlx.trainer.heldout import HeldoutWatch
from trlx.trainer.peers import peers_alive
from trlx.trainer.responder import Responder
from trlx.trainer.resumable import Resumable
from trlx.trainer.setup import base_model_of, check_tokenizer, minibatches_of, tokenizer_of, tracker_of
from trlx.trainer.skipping import require_finite_steps
from trlx.trainer.step import Term, run_step
from trlx.trainer.stopping import Stopper
from trlx.utils.distributed import from_main_rank
from trlx.utils.errors import UserError
from trlx.utils.lock import holding
from trlx.utils.logging import tqdm
from trlx.utils.optimizers import make_optimizer, make_scheduler
from trlx.utils.timeouts import limited

Loss = tuple[Tensor, dict[str, Any]]


@register_trainer
class AccelerateRLTrainer(BaseRLTrainer):
    """Sets a run up from its configuration and runs it.

    Attributes people read: model (what forwards for training go through: bare in one process, else wrapped by DDP or
    DeepSpeed), unwrapped_model, tokenizer, accelerator, opt, scheduler, config (a copy), store, iter_count (optimizer
    steps done), total_steps, n_inner_epochs, epoch, inner_epoch, best_reward, nth_evaluation, eval_pipeline,
    generate_kwargs, generate_experience_kwargs, generate_sweep_kwarg.
    """

    generation_options: tuple[str, ...] = ()  # names in gen_kwargs that are the method's own, not transformers'

    def __init__(
        self,
        config: TRLConfig,
        reward_fn: Callable[..., Any] | None = None,
        metric_fn: Callable[..., Any] | None = None,
        logit_mask: Tensor | None = None,
        stop_sequences: Sequence[str] | None = None,
        train_mode: bool = True,
    ):
        super().__init__(
            copy.deepcopy(config), reward_fn, metric_fn, logit_mask, list(stop_sequences or []), train_mode
        )
        train = self.config.train
        self.mb_size, self.num_mb = minibatches_of(train)
        self.max_length = train.seq_length
        self.max_grad_norm: float | None = getattr(self.config.method, "max_grad_norm", None)
        self.accelerator = make_accelerator(self.num_mb, self.mb_size, self.max_grad_norm)
        set_seed(train.seed, device_specific=True)
        self.tokenizer = tokenizer_of(self.config.tokenizer)
        self.unwrapped_model: Any = self.setup_model()
        self.model = self.unwrapped_model
        self.opt = self.setup_optimizer()
        self.scheduler = self.setup_scheduler()
        self.engine = Engine(self.accelerator, self.unwrapped_model, self.opt, self.scheduler, self.max_grad_norm)
        self.model, self.opt = self.engine.model, self.engine.optimizer
        self.responder = Responder(self)
        self.ema = None if train.ema_decay is None else WeightAverage(train.ema_decay, self.engine, self.policy)
        self.export = ModelExport(self.accelerator, self.engine, self.policy, self.tokenizer, self.ema)
        self.checkpointer = Checkpointer(self.accelerator, self.engine, self.export, train.save_optimizer)
        self.tracker = tracker_of(self.config, self.accelerator)
        self.logging_dir = self.tracker.folder
        self.store: Any = None
        self.eval_pipeline: PromptPipeline | None = None
        self.iter_count, self.total_steps, self.n_inner_epochs = 0, train.total_steps, 1
        self.epoch = self.inner_epoch = self.batch_index = self.nth_evaluation = 0
        self.phase_over = False  # True = the rest of this epoch's passes is left out
        self.best_reward = -float("inf")
        self.heldout = HeldoutWatch(train, self.accelerator, self.checkpointer, self.tracker)
        self.stopper = Stopper(self)
        self._evaluated = self._saved = -1  # the last step that was
        self._unfinished = False  # whether a signal ended the run before all was done that follows a step
        self._samples: pd.DataFrame | None = None  # of the last evaluation
        self._reward: float | None = None  # its mean reward

    # -- what a method supplies -------------------------------------------------------------------------------------

    @abstractmethod
    def get_arch(self, config: TRLConfig) -> torch.nn.Module:
        """The bare module that trains."""

    @property
    @abstractmethod
    def policy(self) -> PreTrainedModel:
        """The bare language model that generates and is exported."""

    @abstractmethod
    def loss(self, batch: Any) -> Loss:
        """The mean over a microbatch's real tokens, through `self.model`, and flat statistics over the same tokens.

        A statistic whose name ends in "/min", "/max" or "/std" is pooled as such, any other as a mean.
        """

    @abstractmethod
    def loss_weight(self, batch: Any) -> Tensor:
        """How many tokens `loss` is the mean of, a scalar.

        Weighted by it, the losses of all microbatches and ranks make the mean over all tokens of the optimizer step.
        """

    def loss_terms(self, microbatches: list[Any]) -> list[Term]:
        """What an optimizer step minimises the sum of; see `run_step`."""
        return [Term(self.loss, self.loss_weight, microbatches)]

    @abstractmethod
    def create_train_dataloader(self) -> Iterable[Any]:
        """One pass: batches of at most `train.batch_size` rows of this rank, equally many on every rank.

        It must be the same again for the same `epoch` and `inner_epoch`: a resumed run skips what it has done.
        """

    @abstractmethod
    def make_experience(self, *args: Any, **kwargs: Any) -> None:
        """Fill `store` with what to train on."""

    @abstractmethod
    def prepare_learning(self) -> None:
        """Set `n_inner_epochs` and `total_steps`."""

    def start_epoch(self) -> None:
        """Called before the passes of each epoch, also of one that is resumed in the middle."""

    def post_backward_callback(self) -> None:
        """Called after each pass over the data."""

    def after_optimizer_step(self) -> None:
        """Called after each optimizer step."""

    def post_epoch_callback(self) -> None:
        """Called after the passes of each epoch."""

    # -- set-up -----------------------------------------------------------------------------------------------------

    def setup_model(self) -> torch.nn.Module:
        """The bare module that trains, frozen as the configuration says."""
        return self.get_arch(self.config)

    def setup_optimizer(self) -> Optimizer:
        """Over the weights of `self.model` that train."""
        return make_optimizer(self.config.optimizer.name, self.model.parameters(), self.config.optimizer.kwargs)

    def setup_scheduler(self) -> LRScheduler:
        """Of `self.opt`'s learning rate."""
        return make_scheduler(self.config.scheduler.name, self.opt, self.config.scheduler.kwargs)

    def load_base_model(self) -> PreTrainedModel:
        """The language model that the configuration names: float32, dropout off, with its adapters."""
        base = base_model_of(self.config)
        check_tokenizer(base, self.tokenizer, self.config)
        return base

    def add_prompt_pipeline(self, pipeline: PromptPipeline) -> None:
        """Take the prompts to train on. Raises: UserError in a trainer that has no use for them."""
        raise UserError(f"{type(self).__name__} trains on given samples, not on prompts")

    def add_eval_pipeline(self, eval_pipeline: PromptPipeline) -> None:
        """Take the prompts to evaluate on."""
        self.eval_pipeline = eval_pipeline
        self.heldout.judges(eval_pipeline.token_ids, self.metric_fn)

    # -- text -------------------------------------------------------------------------------------------------------

    @property
    def generate_kwargs(self) -> dict[str, Any]:
        """Generation options of evaluation; of a swept one the first value."""
        return self.responder.eval_kwargs

    @property
    def generate_experience_kwargs(self) -> dict[str, Any]:
        """Generation options of rollouts."""
        return self.responder.experience_kwargs

    @property
    def generate_sweep_kwarg(self) -> tuple[str, list[Any]] | None:
        """(name, values) of the swept generation option, the first of several; None without a sweep."""
        return next(iter(self.responder.sweeps.items()), None)

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Continue left-padded prompts with the settings of rollouts.

        Args:
            input_ids: (B, P) ids. attention_mask: (B, P), 1 = real; None for no pads. kwargs: further options.

        Returns: (B, P + R) ids, padded on the right; of an encoder-decoder the decoder's, (B, 1 + R).
        """
        return self.responder.samples(input_ids, attention_mask, self.generate_experience_kwargs | kwargs)

    def generate_eval(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The same with the settings of evaluation."""
        return self.responder.samples(input_ids, attention_mask, self.generate_kwargs | kwargs)

    def decode(
        self,
        prompts: Sequence[Tensor] | Tensor,
        samples: Sequence[Tensor] | Tensor,
        prompt_sizes: Sequence[int] | None = None,
        append_eos_token: bool = False,
    ) -> tuple[list[str], list[str], list[str]]:
        """Texts of prompts and of what `generate` returned for them.

        Args:
            prompts: (B, P) ids, or B rows of them. samples: (B, P + R) ids, or rows; an encoder-decoder's decoder ids.
            prompt_sizes: how many ids of each row are its prompt; P for all by default.
            append_eos_token: whether an output that ended (by EOS or a stop sequence) carries the EOS text.

        Returns: (samples, prompts, outputs); outputs are cut at the first stop sequence.
        """
        return self.responder.decode(prompts, samples, prompt_sizes, append_eos_token)

    # -- training ---------------------------------------------------------------------------------------------------

    def learn(self) -> None:
        """Train until `total_steps` or the last epoch, evaluating and saving on the way.

        SIGTERM or SIGUSR1 ends the process before that, with exit code 0, once what resumes the run is saved; see
        `trlx.trainer.stopping`.
        """
        with self.stopper.request, peers_alive(), holding(self.config.train.checkpoint_dir):
            self._learn()

    def _learn(self) -> None:
        self.prepare_learning()
        main = self.accelerator.is_main_process
        bar = tqdm(total=self.total_steps, initial=self.iter_count, desc="training", disable=not main)
        if self.iter_count == 0 and self._evaluated != 0:  # a resumed run may have been at step 0
            self._evaluate()
        self._make_up()
        if not self._is_over:
            for microbatches in self.batches():
                stats = self.train_step(microbatches)
                bar.update()
                bar.set_postfix(loss=f"{stats['losses/total_loss']:.3f}", refresh=False)
                self.stopper.after_step()
                self._after_step(last=self._is_over)
                if self._is_over:
                    break
            else:  # the epochs were over first
                self.total_steps = self.iter_count
                self._after_step(last=True)
        self.heldout.roll_back_if_stopped()
        bar.close()
        self.tracker.close()

    @property
    def _is_over(self) -> bool:
        return self.iter_count >= self.total_steps or self.heldout.stopped

    def batches(self) -> Iterator[list[Any]]:
        """The microbatches of each optimizer step, until the last epoch; after `load`, from where the run stopped."""
        while self.epoch < self.config.train.epochs:
            with self.stopper.before_next_step():
                self.start_epoch()
            while self.inner_epoch < self.n_inner_epochs:
                loader = MiniBatchIterator(self.create_train_dataloader(), self.mb_size, self.num_mb)
                for index, microbatches in enumerate(loader):
                    if self.phase_over:
                        break
                    if index >= self.batch_index:  # a resumed run skips what it has done
                        self.batch_index = index + 1
                        yield microbatches
                self.inner_epoch = self.n_inner_epochs if self.phase_over else self.inner_epoch + 1
                self.batch_index = 0
                self.post_backward_callback()
            self.post_epoch_callback()
            self.epoch, self.inner_epoch, self.phase_over = self.epoch + 1, 0, False

    def train_step(self, microbatches: list[Any]) -> dict[str, float]:
        """One optimizer step on this rank's microbatches; logs and returns its statistics over all ranks."""
        start = time.perf_counter()
        rates = [float(rate) for rate in self.scheduler.get_last_lr()]  # those that this step uses
        self.model.train()  # every dropout is 0; this lets gradient checkpointing work
        stats = run_step(self.engine, self.loss_terms(microbatches))
        if self.ema is not None:
            self.ema.update()
        stats |= {f"learning_rate_group_{i}": rate for i, rate in enumerate(rates)}
        stats["time/step"] = time.perf_counter() - start
        self.iter_count += 1
        self.check_step(stats)
        self.tracker.log(stats, self.iter_count)
        require_finite_steps(stats, self.iter_count, self.config.train.max_skipped_steps)
        self.after_optimizer_step()
        return stats

    def check_step(self, stats: dict[str, float]) -> None:
        """Look at an optimizer step's statistics before they are logged; may add to them."""

    def _after_step(self, last: bool) -> None:
        train, step = self.config.train, self.iter_count
        if (step % train.eval_interval == 0 or last) and step != self._evaluated:
            self._evaluate()
            self._keep_if_best()
        if step % train.checkpoint_interval == 0 or last or self.heldout.stopped:
            if step != self._saved:
                self._saved = step
                self.save()
            if self.accelerator.is_main_process:
                evict(train.checkpoint_dir, train.keep_checkpoints, step)
        elif train.resume_interval and train.save_optimizer and step % train.resume_interval == 0:
            self.save(str(Path(train.checkpoint_dir) / RESUME_NAME))

    def _make_up(self) -> None:
        """Do what a signal, or a kill after the evaluation of the step that was resumed from, kept from being done."""
        if self._unfinished:
            self._unfinished = False
            self._after_step(last=self._is_over)
            return
        if not self.iter_count or self._evaluated != self.iter_count:
            return
        self._keep_if_best()
        if self._is_over:
            if self._numbered_folder.exists():
                self._saved = self.iter_count  # older ones may be left to remove
            self._after_step(last=True)

    def _evaluate(self) -> None:
        """An evaluation on the way, which the held-out score is watched in; what is best by it is kept."""
        self._evaluated, self._samples = self.iter_count, None
        self._reward = best_of_sweep(self.evaluate())
        # Before the best by reward: a checkpoint must not know of a best that a kill kept from the disk.
        if self._samples is not None and self.heldout.is_best(self._samples, self.iter_count):
            self.save(str(self.heldout.folder))

    def _keep_if_best(self) -> None:
        """Keep the policy that was evaluated last where its reward is the best; also asked after a resume."""
        if self.config.train.save_best and self._reward is not None and self._reward > self.best_reward:
            self.best_reward = self._reward
            self.save(str(Path(self.config.train.checkpoint_dir) / BEST_NAME))

    def evaluate(self) -> dict[str, float]:
        """Continue and score the evaluation prompts at every point of the sweep; logs, shows and returns statistics."""
        if self.eval_pipeline is None:
            return {}
        self.nth_evaluation += 1
        judges = self.limited(self.reward_fn), self.limited(self.metric_fn)
        evaluator = Evaluator(self.responder, self.eval_pipeline, self.eval_batch_size, *judges)
        stats, self._samples = evaluator.run(f"evaluation at step {self.iter_count}")
        self.tracker.log(stats, self.iter_count)
        self.tracker.log_table("samples", self._samples, self.iter_count)
        return stats

    def limited(self, function: Callable[..., Any] | None) -> Callable[..., Any] | None:
        """A function of the user's that raises UserError where it takes longer than `train.reward_timeout`."""
        return function and limited(function, self.config.train.reward_timeout, "train.reward_timeout")

    @property
    def eval_batch_size(self) -> int:
        """Prompts continued at once in evaluation."""
        return self.config.train.batch_size

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a method needs to resume besides weights and generators, JSON-able; extended by methods."""
        return {
            "iter_count": self.iter_count,
            "epoch": self.epoch,
            "inner_epoch": self.inner_epoch,
            "batch_index": self.batch_index,
            "phase_over": self.phase_over,
            "nth_evaluation": self.nth_evaluation,
            "metrics_lines": self.tracker.position(),
            "best_reward": self.best_reward if self.best_reward > -float("inf") else None,
            "world_size": self.accelerator.num_processes,
            "evaluated": self._evaluated,
            "evaluated_reward": self._reward,
            "heldout": self.heldout.state_dict(),
            "skipped": self.engine.skipped,
            "step_unfinished": False,
            "reward_fn": self.reward_fn.resume_state() if isinstance(self.reward_fn, Resumable) else None,
        }

    def load_state_dict(self, state: Mapping[str, Any], tensors: dict[str, Tensor] | None) -> None:
        """Take back what `state_dict` and `state_tensors` gave; extended by methods."""
        for name in ("iter_count", "epoch", "inner_epoch", "batch_index", "phase_over", "nth_evaluation"):
            setattr(self, name, state[name])
        self.tracker.rewind(state["metrics_lines"])
        self.best_reward = -float("inf") if state["best_reward"] is None else state["best_reward"]
        self._evaluated, self._reward = state.get("evaluated", -1), state.get("evaluated_reward")
        self.heldout.load_state_dict(state.get("heldout", {}))
        self.engine.skipped, self._unfinished = state.get("skipped", 0), state.get("step_unfinished", False)
        if isinstance(self.reward_fn, Resumable) and state.get("reward_fn") is not None:
            self.reward_fn.load_resume_state(state["reward_fn"])

    def state_tensors(self) -> dict[str, Tensor] | None:
        """This rank's tensors that a checkpoint in the middle of an epoch must hold."""
        return None

    @property
    def _numbered_folder(self) -> Path:
        name = f"checkpoint_{self.iter_count:0{len(str(self.total_steps))}d}"
        return Path(self.config.train.checkpoint_dir) / name

    def save(self, directory: str | None = None) -> None:
        """Write a whole checkpoint, exports included; every rank must call it."""
        folder = Path(directory or self._numbered_folder)
        self.checkpointer.save(folder, self.state_dict(), self.state_tensors())

    def save_pretrained(self, directory: str | None = None) -> None:
        """Write what from_pretrained loads, to `checkpoint_dir/hf_model` by default; see `ModelExport`."""
        self.export.save(directory or Path(self.config.train.checkpoint_dir) / "hf_model")

    def load(self, directory: str | None = None) -> None:
        """Go on from a checkpoint: weights, optimizer, schedule, generators, and the method's own state.

        Args:
            directory: the checkpoint; None for the newest in `checkpoint_dir`.
        """
        folder = self.config.train.checkpoint_dir
        found = directory or from_main_rank(lambda: find_resumable(folder)) or folder
        self.load_state_dict(*self.checkpointer.load(found))

    def resume(self, source: str) -> None:
        """`load` a checkpoint by path, or the newest in `checkpoint_dir` for "auto".

        Raises: UserError when there is none to resume from.
        """
        folder = self.config.train.checkpoint_dir
        found = from_main_rank(lambda: find_resumable(folder)) if source == "auto" else Path(source)
        if found is None or not found.exists():
            where = self.config.train.checkpoint_dir if found is None else found
            raise UserError(f"there is no checkpoint to resume from at {where}: start afresh, or name another")
        self.load(str(found))
