"""What the Trainer stages (SFT, reward model) share: their options, how they start, what they record and publish.

A stage is begun (`begin_stage`), trained by `launch.stage_trainer.StageTrainer`, and ended by `publish_model`, which
puts config, float32 weights and tokenizer into the output folder itself, where the next stage looks for them;
`run.json` there tells what ran. DeepSpeed is used when the options name a config file, a launcher started the process
and the package and a C++ compiler are there; otherwise the plain Trainer runs and says so. Placeholders in paths
(`{root}`, `{repo}`) are explained in `tasks.run_folder`. Left out: TPUs, pushing to a hub.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from transformers import PreTrainedModel, SchedulerType, TrainingArguments, set_seed

from launch.checks import require_stage_room, require_start
from launch.outputs import (
    RUN_FILE,
    check_output,
    checkpoint_step,
    claim_output,
    require_own,
    require_same_engine,
)
from launch.resuming import changed_options
from launch.stage_deepspeed import is_sharded_by, load_models_whole, settle_deepspeed
from launch.versions import versions
from tasks.run_folder import DEFAULT_ROOT
from trlx.trainer.layout import layout, require_same_model
from trlx.utils.disk import writing
from trlx.utils.distributed import from_main_rank, is_main_rank, start_process_group
from trlx.utils.errors import UserError, nearest
from trlx.utils.files import fsync_tree, fsync_tree_top, write_json, write_text
from trlx.utils.lock import let_go_of_all, take
from trlx.utils.metrics import METRICS_FILE, read_metrics
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, NOT_NEGATIVE, POSITIVE, SHARE, require_ranges

Item = TypeVar("Item")
MODEL_STAGING = ".model.writing"
CACHE = "{root}/.cache/tokens"
RANGES = {
    **dict.fromkeys(("max_length", "batch_size", "eval_batch_size", "gradient_accumulation"), AT_LEAST_1),
    **dict.fromkeys(("eval_steps", "save_steps", "save_total_limit", "log_steps"), AT_LEAST_1),
    **dict.fromkeys(("warmup_steps", "seed"), AT_LEAST_0),
    **dict.fromkeys(("learning_rate", "epochs"), POSITIVE),
    **dict.fromkeys(("weight_decay", "max_grad_norm"), NOT_NEGATIVE),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), SHARE),
}


@dataclass
class StageOptions:
    """Options of every Trainer stage.

    Args:
        root: the run's root folder; outputs and earlier stages' outputs lie under it, `{root}` in a path means it.
        out: the output folder; by default the stage's own under `root/ckpts`.
        overwrite: replace what an earlier run of this stage left in the output folder.
        resume: true or auto: go on from the last whole checkpoint in the output folder, or begin where there is none.
        model: a folder or hub id of the model to start from.
        max_length: longest prompt + response in tokens; prompts are cut to fit.
        learning_rate: peak learning rate of AdamW.
        batch_size: samples per rank and forward pass.
        eval_batch_size: samples per rank and evaluation pass.
        gradient_accumulation: forward passes per optimizer step.
        epochs: passes over the training data.
        max_steps: optimizer steps; overrides epochs when positive.
        warmup_steps: optimizer steps of linear warm-up.
        lr_scheduler: transformers' name of the schedule after warm-up.
        adam_beta1: AdamW's β1.
        adam_beta2: AdamW's β2.
        weight_decay: AdamW's weight decay.
        max_grad_norm: gradients are clipped to this norm.
        precision: fp16 and bf16 keep float32 master weights; fp16 needs a GPU and is fp32 without one.
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        eval_steps: optimizer steps between evaluations; the last step is always evaluated.
        save_steps: optimizer steps between checkpoints; each new best is saved besides.
        save_total_limit: newest checkpoints that are kept, besides the best.
        log_steps: optimizer steps between logged lines.
        best_metric: the evaluation metric that picks the model that is kept; lower is better for losses only.
        deepspeed: a DeepSpeed JSON file, or null to use the plain Trainer.
        preflight: look at versions, tokenizer and model first (the doctor's short form), and stop at a fault.
        seed: of data order and new weights.
    """

    root: str = DEFAULT_ROOT
    out: str | None = None
    overwrite: bool = False
    resume: bool | Literal["auto"] = False
    model: str = ""
    max_length: int = 550
    learning_rate: float = 1e-5
    batch_size: int = 16
    eval_batch_size: int = 1
    gradient_accumulation: int = 1
    epochs: float = 5.0
    max_steps: int = -1
    warmup_steps: int = 100
    lr_scheduler: str = "linear"
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    precision: Literal["fp16", "bf16", "fp32"] = "fp16"
    gradient_checkpointing: bool = True
    eval_steps: int = 500
    save_steps: int = 500
    save_total_limit: int = 2
    log_steps: int = 10
    best_metric: str = "eval_loss"
    deepspeed: str | None = None
    preflight: bool = True
    seed: int = 42


@dataclass
class Stage:
    """One run of a stage: where it writes, how it trains, and the record kept of it in `run.json`."""

    name: str
    out: Path
    args: TrainingArguments
    checkpoint: Path | None  # to go on from
    options: StageOptions
    record: dict[str, Any] = field(default_factory=dict)
    taken: bool = False

    def take_output(self, model: PreTrainedModel) -> None:
        """From here on the output folder is this run's: what is to be replaced goes, `run.json` is written.

        To be called once everything that the stage reads has been found good. A collective.

        Args:
            model: to train, with the frozen weights frozen; the disk must have room for its checkpoints.

        Raises: UserError also for a checkpoint of another model.
        """
        if self.checkpoint is not None:
            require_same_model(self.checkpoint, layout(model))
        if self.options.preflight:
            from_main_rank(self._preflight)
        half = self.args.fp16 or self.args.bf16
        copies = self.options.save_total_limit + 2  # the best, and the one being written
        config: Any = self.args.deepspeed
        deepspeed, sharded = config is not None, is_sharded_by(config)
        from_main_rank(lambda: require_stage_room(self.out, model, deepspeed, half, copies, sharded))
        from_main_rank(lambda: _claim(self.out, self.options))
        self.taken = True
        self.note()

    def _preflight(self) -> None:
        from launch.doctor import preflight, require_healthy  # it imports much, and only here

        require_healthy(preflight(self.options.model), self.say)

    def note(self, **facts: Any) -> None:
        """Add facts to `run.json`; written by the main rank, once the output folder is taken."""
        self.record.update(facts)
        if self.taken and is_main_rank():
            write_json(self.out / RUN_FILE, self.record)

    def say(self, message: str) -> None:
        """Print one line on the main rank."""
        if is_main_rank():
            print(f"[{self.name}] {message}", flush=True)


@contextlib.contextmanager
def ranks() -> Iterator[None]:
    """The process group for a whole script: joined at the start, taken down at a normal end.

    Folders that the script's stage took are free again at any end.
    """
    start_process_group()
    try:
        yield
    finally:
        let_go_of_all()
    # Left standing, a group can abort the interpreter at exit after all work is done.
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def gather_objects(value: Any) -> list[Any]:
    """`value` of every rank, in rank order; `[value]` without a process group. A collective."""
    if not dist.is_initialized():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def share_out(items: Sequence[Item], work: Callable[[Sequence[Item]], list[float]]) -> list[float]:
    """One number an item, in order, each rank working on its share of them. A collective."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    results = [0.0] * len(items)
    for index, share in enumerate(gather_objects(work(items[rank::world]))):
        results[index::world] = share
    return results


def begin_stage(name: str, options: StageOptions, out: Path, metrics: Sequence[str]) -> Stage:
    """Check options and output folder, settle precision and DeepSpeed, seed. Call on every rank.

    Nothing is written yet: see `Stage.take_output`.

    Args:
        name: the stage's name, shown in messages.
        options: with placeholders already filled (`tasks.run_folder.fill_places`).
        out: the output folder.
        metrics: what an evaluation of this stage measures, of which `best_metric` names one.

    Raises: UserError for options that cannot be meant, a folder that may not be written, or a DeepSpeed file that
        cannot be used.
    """
    check_options(options, metrics)
    require_start(options.model)
    checkpoint = from_main_rank(lambda: check_output(out, options.overwrite, options.resume))
    from_main_rank(lambda: require_own(out, checkpoint, name))
    precision, precision_note = settle_precision(options.precision)
    deepspeed, deepspeed_note = settle_deepspeed(options.deepspeed)
    from_main_rank(lambda: require_same_engine(checkpoint, deepspeed is not None))
    stage = Stage(name, out, training_arguments(options, out, precision, deepspeed), checkpoint, options)
    load_models_whole()
    set_seed(options.seed)
    for note in filter(None, (precision_note, deepspeed_note)):
        stage.say(note)
    if options.resume:
        stage.say(f"resuming from {checkpoint}" if checkpoint else "no whole checkpoint to resume: from the beginning")
    if checkpoint and is_main_rank() and (changed := changed_options(out, options)):
        stage.say(changed)
    stage.note(
        stage=name,
        finished=False,
        resumed_from=checkpoint.name if checkpoint else None,
        world_size=stage.args.world_size,
        device=stage.args.device.type,
        precision=precision,
        deepspeed=deepspeed is not None,
        versions=versions(),
        options=dataclasses.asdict(options),
    )
    return stage


def check_options(options: StageOptions, metrics: Sequence[str]) -> None:
    """Refuse numbers and names that cannot be meant. Raises: UserError naming the option."""
    known = [f"eval_{name}" for name in metrics]
    if options.best_metric not in known:
        raise UserError(
            f"--best_metric '{options.best_metric}' is not measured here{nearest(options.best_metric, known)}"
        )
    require_ranges(options, RANGES)
    schedules = [kind.value for kind in SchedulerType]
    if options.lr_scheduler not in schedules:
        raise UserError(f"unknown --lr_scheduler '{options.lr_scheduler}'{nearest(options.lr_scheduler, schedules)}")


def _claim(out: Path, options: StageOptions) -> None:
    """`claim_output` of a folder that is ours alone, and the metrics of steps that will be run again dropped.

    Call on the main rank only. Raises: UserError where another run is writing there.
    """
    take(out)
    checkpoint = claim_output(out, options.overwrite, options.resume)
    _forget_metrics_after(out, checkpoint_step(checkpoint) if checkpoint else -1)


def _forget_metrics_after(out: Path, step: int) -> None:
    """Drop logged lines of steps that will be run again."""
    lines = read_metrics(out)
    kept = [line for line in lines if line["step"] <= step]
    if len(kept) < len(lines):
        write_text(out / METRICS_FILE, "".join(json.dumps(line) + "\n" for line in kept))


def settle_precision(asked: str) -> tuple[str, str | None]:
    """The precision this device can train in, and a line to print when it is not the one asked for."""
    if not torch.cuda.is_available():
        if asked == "fp16":
            return "fp32", "fp16 needs a GPU and there is none: training in fp32"
        return asked, None
    if asked == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "fp16", "this GPU has no bf16: training in fp16"
    return asked, None


def training_arguments(
    options: StageOptions, out: Path, precision: str, deepspeed: dict[str, Any] | None
) -> TrainingArguments:
    """transformers' arguments for a stage; metrics, rotation and publishing are ours, so those are switched off."""
    args = TrainingArguments(
        output_dir=str(out),
        learning_rate=options.learning_rate,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.eval_batch_size,
        gradient_accumulation_steps=options.gradient_accumulation,
        num_train_epochs=options.epochs,
        max_steps=options.max_steps,
        warmup_steps=options.warmup_steps,
        lr_scheduler_type=options.lr_scheduler,
        adam_beta1=options.adam_beta1,
        adam_beta2=options.adam_beta2,
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        optim="adamw_torch",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        eval_strategy="steps",
        eval_steps=options.eval_steps,
        save_strategy="steps",
        save_steps=options.save_steps,
        logging_steps=options.log_steps,
        logging_first_step=True,
        metric_for_best_model=options.best_metric,
        greater_is_better=not options.best_metric.endswith("loss"),
        seed=options.seed,
        data_seed=options.seed,
        use_cpu=not torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=False,
        deepspeed=deepspeed,
        **_checkpointing(options.gradient_checkpointing),
    )
    # Set afterwards: the constructor would demand that save_steps be a multiple of eval_steps, which `KeepCheckpoints`
    # makes needless by saving at every new best.
    args.load_best_model_at_end = True
    # One process is one device: without a launcher the Trainer would otherwise spread over every GPU (DataParallel).
    if args.n_gpu > 1:
        args._n_gpu = 1
    return args


def _checkpointing(on: bool) -> dict[str, Any]:
    """The arguments for recomputing activations, under the name this transformers version gives them."""
    known = {f.name for f in dataclasses.fields(TrainingArguments)}
    name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    return {name: on, f"{name}_kwargs": {"use_reentrant": False}}


def write_model(folder: Path, model: PreTrainedModel, weights: dict[str, torch.Tensor], tokenizer: Any) -> None:
    """Save config, weights and tokenizer as float32, whatever dtype the module itself is in. One process only.

    Args:
        folder: made anew.
        model: gives class and config; its own weights are not read.
        weights: name → float32 tensor, tied names once.
        tokenizer: saved beside the weights.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with writing(folder):
        model.save_pretrained(folder, state_dict=weights)
        # save_pretrained writes the module's dtype, and from_pretrained would then load the weights in it.
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config.pop("torch_dtype", None)
        config.pop("gradient_checkpointing", None)
        config["dtype"] = "float32"
        config["use_cache"] = True
        write_json(folder / "config.json", config)
        tokenizer.save_pretrained(folder)


def publish_model(stage: Stage, staging: Path) -> None:
    """Move a written model into the stage's folder; the folder loads as a model only once all is there.

    `config.json`, without which nothing loads, is removed first and comes last.
    """
    fsync_tree(staging)
    (stage.out / "config.json").unlink(missing_ok=True)
    files = sorted(staging.iterdir(), key=lambda path: path.name == "config.json")
    for path in files:
        os.replace(path, stage.out / path.name)
    fsync_tree_top(stage.out)
    staging.rmdir()


def finish_stage(stage: Stage, began: float, **facts: Any) -> None:
    """Record the end in `run.json` and say where the model is."""
    stage.note(finished=True, seconds=round(time.monotonic() - began, 1), **facts)
    stage.say(f"done in {time.monotonic() - began:.0f} s; the model is in {stage.out}")
