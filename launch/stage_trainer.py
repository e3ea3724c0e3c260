"""transformers' Trainer as the stages use it: exact evaluation over ranks, whole checkpoints, the best one kept.

The differences from the stock Trainer: every rank evaluates its own share of the rows on the unwrapped model and the
sums are joined (so neither batch size nor rank count changes a metric, and uneven shares cannot deadlock); a checkpoint
is written aside, with a manifest, and renamed into place before an older one is removed; every new best evaluation is
saved, whatever `save_steps` says; the first batch proves that the ranks see different data. Under ZeRO stage 3 an
evaluation has the weights whole on every rank.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME

from launch.not_finite import SkipNotFinite
from launch.outputs import SAVING, checkpoint_step
from launch.stage import MODEL_STAGING, Stage, gather_objects, write_model
from launch.stage_deepspeed import load_models_whole
from launch.stopping import StopOnSignal
from trlx.trainer.layout import LAYOUT_FILE, layout
from trlx.utils.disk import writing
from trlx.utils.distributed import forget_shared_buffers, from_main_rank, is_main_rank
from trlx.utils.errors import UserError
from trlx.utils.files import publish, write_json
from trlx.utils.manifest import write_manifest
from trlx.utils.metrics import MetricsWriter, is_scalar
from trlx.utils.zero import is_sharded, master_weight, whole

Sums = dict[str, tuple[float, float]]  # metric name → (sum, count); their quotient over all ranks is the metric


class Rows(Dataset):
    """Encoded samples in memory. `rows[i]` is the sample's dict with its index added as `row`."""

    def __init__(self, items: Sequence[Mapping[str, Any]], lengths: Sequence[int]):
        self.items = items
        self.lengths = lengths  # tokens of each item, to batch alike lengths in evaluation

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.items[index], "row": index}


class StageTrainer(Trainer):
    """A Trainer whose loss and metrics are plain functions.

    Args:
        stage: the run.
        measure: (model, batch) → `Sums` of one evaluation batch; called without gradients, in eval mode.
        loss_fn: (wrapped model, batch, items) → loss of the batch. Items are the labelled tokens of the whole optimizer
            step, given when `compute_loss_func` says that the loss is divided by them; else the batch's mean is due.
        extra_eval: model → further metrics of an evaluation, the same on every rank; called on every rank.
        keywords: Trainer's. Datasets are `Rows`; the collator puts their indices into the batch as `rows`.
    """

    def __init__(
        self,
        *,
        stage: Stage,
        measure: Callable[[PreTrainedModel, dict[str, Tensor]], Sums],
        loss_fn: Callable[[nn.Module, dict[str, Tensor], Any], Tensor],
        extra_eval: Callable[[PreTrainedModel], dict[str, float]] | None = None,
        **keywords: Any,
    ):
        super().__init__(args=stage.args, **keywords)
        load_models_whole()
        self.stage = stage
        self.measure = measure
        self.loss_fn = loss_fn
        self.extra_eval = extra_eval
        self.ranks_checked = False
        self.frozen_weights = self._frozen_weights()
        self.add_callback(WriteMetrics(stage.out))
        self.add_callback(KeepCheckpoints(stage.out, stage.options.save_total_limit))
        self.add_callback(SkipNotFinite(stage))
        self.stopping = StopOnSignal(stage.say)
        self.add_callback(self.stopping)  # the last: it ends the process once the others have done their part

    @property
    def module(self) -> PreTrainedModel:
        """The model itself, not wrapped for DDP or DeepSpeed."""
        return cast(PreTrainedModel, self.model)

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """As the Trainer's; a signal in the meantime ends the process between two steps."""
        with self.stopping.request:
            return super().train(*arguments, **keywords)

    def _prepare_for_training(self, *arguments: Any, **keywords: Any) -> Any:
        prepared = super()._prepare_for_training(*arguments, **keywords)
        if self.is_deepspeed_enabled:
            forget_shared_buffers()
        return prepared

    def _run_epoch(self, *arguments: Any, **keywords: Any) -> None:
        """As the Trainer's, which of a run killed between its last step and its end would take one step more."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*arguments, **keywords)

    def _frozen_weights(self) -> dict[str, Tensor]:
        """Float32 copies of the untrained weights, of which DeepSpeed keeps no master when it casts to 16 bit."""
        if not (self.is_deepspeed_enabled and is_main_rank()):
            return {}
        named = self.module.named_parameters()
        return {name: weight.detach().float().cpu().clone() for name, weight in named if not weight.requires_grad}

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        if not self.ranks_checked:
            self._check_ranks(inputs)
            self.ranks_checked = True
        return super().training_step(model, inputs, num_items_in_batch)

    def _check_ranks(self, inputs: dict[str, Any]) -> None:
        """Record the first batch of every rank. Raises: UserError when two ranks were given the same rows."""
        ids = inputs["input_ids"].cpu().numpy().tobytes()
        mine = {"rows": inputs["rows"].tolist(), "sha256": hashlib.sha256(ids).hexdigest()}
        every = gather_objects(mine)
        self.stage.note(first_batches=every, accelerate_ranks=self.accelerator.num_processes)
        rows = [row for one in every for row in one["rows"]]
        if len(set(rows)) < len(rows) <= len(self.train_dataset):  # type: ignore[arg-type]
            raise UserError(
                f"the {len(every)} ranks were given the same training rows (accelerate sees "
                f"{self.accelerator.num_processes} processes): start with `deepspeed` or `torchrun`"
            )

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs = {name: value for name, value in inputs.items() if name != "rows"}
        return self.loss_fn(model, inputs, num_items_in_batch)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Metrics of the evaluation rows, logged under `metric_key_prefix_`; the same on every rank."""
        rows = cast(Rows, self.eval_dataset if eval_dataset is None else eval_dataset)
        with self.whole_model() as model:
            measured = self.measure_rows(rows)
            if self.extra_eval is not None:
                measured |= self.extra_eval(model)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _get_output_dir(self, trial: Any) -> str:
        """Where the Trainer writes a checkpoint, which `_save_checkpoint` then moves into place."""
        return str(self.stage.out / SAVING)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint aside, list its files, rename it into place. A collective."""
        staging, name = self.stage.out / SAVING, f"checkpoint-{self.state.global_step}"
        with writing(self.stage.out):
            from_main_rank(lambda: shutil.rmtree(staging, ignore_errors=True))
            super()._save_checkpoint(model, trial)
            if dist.is_initialized():
                dist.barrier()  # every rank has written its part
            # The Trainer noted the best checkpoint where it was being written.
            if self.state.best_model_checkpoint is not None:
                best = self.stage.out / Path(self.state.best_model_checkpoint).name
                self.state.best_model_checkpoint = str(best)
            from_main_rank(lambda: self._put_in_place(staging / name, self.stage.out / name))

    def _put_in_place(self, written: Path, folder: Path) -> None:
        self.state.save_to_json(str(written / TRAINER_STATE_NAME))
        write_json(written / LAYOUT_FILE, layout(self.module))
        write_manifest(written)
        publish(written, folder)
        written.parent.rmdir()

    @contextlib.contextmanager
    def whole_model(self) -> Iterator[PreTrainedModel]:
        """The model itself in eval mode, of which each rank can run what it likes; without gradient only.

        Under ZeRO stage 3 its weights are fetched once, so each device must hold them all, in the precision they train
        in, beside its shards; module by module, ranks with unequally many rows would wait for each other for ever. A
        collective on entering.
        """
        model = self.module
        model.eval()
        if not any(is_sharded(weight) for weight in model.parameters()):
            yield model
            return
        engine: Any = self.model_wrapped
        engine.empty_partition_cache()  # what training has left fetched
        with whole(model):
            yield model

    def measure_rows(self, rows: Rows) -> dict[str, float]:
        """`measure` over every row, each counted once, whatever the number of ranks. A collective.

        To be called within `whole_model`.
        """
        model = self.module
        order = sorted(range(len(rows)), key=lambda index: -rows.lengths[index])
        mine = order[self.args.process_index :: max(self.args.world_size, 1)]
        size = self.args.per_device_eval_batch_size
        starts = range(0, len(mine), size)
        totals: dict[str, list[float]] = {}
        for start in tqdm(starts, desc="evaluating", leave=False, disable=not is_main_rank()):
            batch = self.data_collator([rows[index] for index in mine[start : start + size]])
            batch.pop("rows")
            with torch.no_grad():
                sums = self.measure(model, self._prepare_inputs(batch))
            for name, (total, count) in sums.items():
                running = totals.setdefault(name, [0.0, 0.0])
                running[0] += total
                running[1] += count
        return joined(gather_objects(totals))

    def float32_weights(self) -> dict[str, Tensor]:
        """Name → float32 CPU tensor of the trained model: DeepSpeed's master weights where it keeps them. A collective.

        Tied weights appear once. Only the main rank's answer holds the parameters.
        """
        weights = {}
        kept = self.module.state_dict().keys()
        for name, weight in self.module.named_parameters():
            whole = master_weight(weight) if self.is_deepspeed_enabled else weight.detach()
            if is_main_rank():
                weights[name] = self.frozen_weights.get(name, whole).float().cpu()
        buffers = {name: value.detach().cpu() for name, value in self.module.named_buffers() if name in kept}
        return weights | buffers

    def write_aside(self) -> Path:
        """Write the trained model in float32 beside where it will be published; returns the folder. A collective."""
        weights, staging = self.float32_weights(), self.stage.out / MODEL_STAGING
        from_main_rank(lambda: write_model(staging, self.module, weights, self.processing_class))
        return staging


def joined(shares: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """Sum of sums over sum of counts, for each metric of any rank; metrics that counted nothing are left out."""
    names = sorted({name for share in shares for name in share})
    metrics = {}
    for name in names:
        total = sum(share[name][0] for share in shares if name in share)
        count = sum(share[name][1] for share in shares if name in share)
        if count:
            metrics[name] = total / count
    return metrics


def _is_summary(name: str) -> bool:
    return name.startswith("train_") or name == "total_flos"


class WriteMetrics(TrainerCallback):
    """Every logged line to `metrics.jsonl` and to TensorBoard files in `logs/`, from the main rank."""

    def __init__(self, out: Path):
        self.out = out
        self.board: Any = None

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any) -> None:
        if not is_main_rank():
            return
        from torch.utils.tensorboard import SummaryWriter

        # Left out: the Trainer's summary, whose mean loss and speed are of the steps since the last resume alone.
        logs = {name: value for name, value in keywords["logs"].items() if is_scalar(value) and not _is_summary(name)}
        if not logs.keys() - {"epoch"}:  # the summary, which a run that was killed after its last step logs again
            return
        MetricsWriter(self.out).write(logs, state.global_step)
        self.board = self.board or SummaryWriter(str(self.out / "logs"))
        for name, value in logs.items():
            self.board.add_scalar(name, value, state.global_step)
        self.board.flush()


class KeepCheckpoints(TrainerCallback):
    """Evaluates at the last step, saves at every new best, keeps the best and the newest.

    Args:
        keep: newest ones; the one before the last is there for a disk that damages the last.
    """

    def __init__(self, out: Path, keep: int):
        self.out, self.keep = out, keep

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any
    ) -> None:
        # Of a resumed run that was moved since, the Trainer has looked for the best checkpoint where it was.
        if state.best_global_step:
            best = self.out / f"checkpoint-{state.best_global_step}"
            state.best_model_checkpoint = str(best) if best.is_dir() else None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any
    ) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any
    ) -> None:
        name = str(args.metric_for_best_model)
        value, best = keywords["metrics"][name], state.best_metric
        if best is None or (value > best if args.greater_is_better else value < best):
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any) -> None:
        self._remove_older(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any
    ) -> None:
        self._remove_older(state)  # a run that was killed after its last save does not save again

    def _remove_older(self, state: TrainerState) -> None:
        if not is_main_rank():
            return
        best = Path(state.best_model_checkpoint).name if state.best_model_checkpoint else None
        numbered = [path for path in self.out.glob("checkpoint-*") if checkpoint_step(path) >= 0]
        for old in sorted(numbered, key=checkpoint_step)[: -self.keep]:
            if old.name != best:
                shutil.rmtree(old)
