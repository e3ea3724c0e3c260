"""The configuration of a training run: typed sections, YAML, overrides. Unknown keys are errors at every depth."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trlx.data.method_configs import MethodConfig, get_method
from trlx.utils.errors import UserError, nearest
from trlx.utils.strict import build, coerce
from trlx.utils.yaml_file import read_yaml


@dataclass
class _Section:
    """What every section can do."""

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Any:
        """Build from a dict; an unknown key raises UserError."""
        return build(cls, config, cls.__name__.removesuffix("Config").lower())


@dataclass
class ModelConfig(_Section):
    """The policy.

    Args:
        model_path: a folder, a hub id, or a transformers config object (then weights are random).
        model_arch_type: "causal", or "seq2seq" for an encoder-decoder such as T5.
        num_layers_unfrozen: top blocks that train; -1 trains everything, 0 the heads alone.
        peft_config: a peft config or a dict of one (`peft_type: LORA, r: 8, ...`); only the adapters train then.
        model_extra_configs: further keyword arguments of `from_pretrained`.
        critic_path: PPO only: a reward model's folder or hub id, from which a critic of its own starts; null puts the
            critic on the policy.
    """

    model_path: Any
    model_arch_type: str = "causal"
    num_layers_unfrozen: int = -1
    peft_config: Any = None
    model_extra_configs: dict[str, Any] = field(default_factory=dict)
    critic_path: str | None = None


@dataclass
class TokenizerConfig(_Section):
    """The tokenizer.

    Args:
        tokenizer_path: a folder or a hub id.
        padding_side: prompts are padded on the "left".
        truncation_side: over-long prompts lose their "right" or "left" end.
        tokenizer_extra_configs: further keyword arguments of `from_pretrained`.
    """

    tokenizer_path: str
    padding_side: str = "left"
    truncation_side: str = "right"
    tokenizer_extra_configs: dict[str, Any] = field(default_factory=dict)


@dataclass
class OptimizerConfig(_Section):
    """The optimizer.

    Args:
        name: adam, adamw or sgd.
        kwargs: its keyword arguments (lr, betas, eps, weight_decay, ...).
    """

    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class SchedulerConfig(_Section):
    """The learning rate's course.

    Args:
        name: cosine_annealing, linear or constant.
        kwargs: torch's keyword arguments for it (T_max, eta_min, ...).
    """

    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainConfig(_Section):
    """The loop.

    Args:
        total_steps: optimizer steps at most.
        seq_length: tokens of prompt and response together, at most.
        epochs: rollout phases (PPO) at most.
        batch_size: samples a process takes into one optimizer step.
        checkpoint_interval: optimizer steps between kept checkpoints.
        eval_interval: optimizer steps between evaluations.
        pipeline: name of the prompt pipeline.
        trainer: name of the trainer.
        trainer_kwargs: further keyword arguments of the trainer.
        project_name: tracker's project.
        run_name: tracker's run; null makes one.
        entity_name: tracker's entity.
        group_name: tracker's group.
        checkpoint_dir: where checkpoints go.
        rollout_logging_dir: where rollouts are written as JSON lines; null writes none.
        save_best: keep the checkpoint of the best evaluation reward in `checkpoint_dir/best_checkpoint`.
        save_optimizer: save what training needs to go on, besides the weights.
        resume_from_checkpoint: a checkpoint folder to go on from, or "auto" for the newest in `checkpoint_dir`.
        tracker: "tensorboard", "wandb" or null; `metrics.jsonl` is always written.
        logging_dir: where event files and metrics.jsonl go; null takes `checkpoint_dir/logs`.
        tags: tracker's tags.
        seed: of every random choice.
        minibatch_size: samples of one forward and backward pass; null takes batch_size.
        resume_interval: optimizer steps between the rolling checkpoint that only resuming uses; 0 writes none.
        keep_checkpoints: how many kept checkpoints stay; null keeps all.
        gradient_checkpointing: recompute activations in the backward pass, for less memory.
        heldout_metric: a metric of metric_fn with one number a prompt, e.g. "metrics/gold", that training does not see;
            it is watched for parting from the reward, and its best checkpoint, step 0's too, is kept in
            `checkpoint_dir/best_heldout_checkpoint`; null watches nothing.
        heldout_patience: evaluations in a row that must have parted before it counts.
        on_overoptimization: "warn", or "stop" to end training there and load the best held-out checkpoint back.
        max_skipped_steps: optimizer steps in a row, or batches of rollouts in a row, that are skipped because a loss,
            gradient or reward is not finite, at which the run ends. fp16 finds its loss scale by skipping at first.
        reward_timeout: seconds that one call of the reward function or of metric_fn may take, else every rank ends;
            null for no limit but that of the collective which other ranks wait in, an hour.
        ema_decay: d of a moving average of the policy's weights, average ← d · average + (1 − d) · weights after every
            optimizer step, which is exported as `hf_model_ema` beside each `hf_model`; null keeps none.
    """

    total_steps: int
    seq_length: int
    epochs: int
    batch_size: int
    checkpoint_interval: int
    eval_interval: int
    pipeline: str
    trainer: str
    trainer_kwargs: dict[str, Any] = field(default_factory=dict)
    project_name: str = "trlx"
    run_name: str | None = None
    entity_name: str | None = None
    group_name: str | None = None
    checkpoint_dir: str = "ckpts"
    rollout_logging_dir: str | None = None
    save_best: bool = True
    save_optimizer: bool = True
    resume_from_checkpoint: str | None = None
    tracker: str | None = "wandb"
    logging_dir: str | None = None
    tags: list[str] = field(default_factory=list)
    seed: int = 1000
    minibatch_size: int | None = None
    resume_interval: int = 200
    keep_checkpoints: int | None = None
    gradient_checkpointing: bool = False
    heldout_metric: str | None = None
    heldout_patience: int = 2
    on_overoptimization: Literal["warn", "stop"] = "warn"
    max_skipped_steps: int = 10
    reward_timeout: float | None = 1800.0
    ema_decay: float | None = None


@dataclass
class TRLConfig:
    """A whole run's configuration."""

    method: MethodConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    tokenizer: TokenizerConfig
    train: TrainConfig

    @classmethod
    def load_yaml(cls, path: str | Path) -> TRLConfig:
        """Read a YAML file. Raises: UserError naming the file, the line and what is wrong there."""
        file = read_yaml(path)
        try:
            return cls.from_dict(file.values)
        except UserError as error:
            raise file.refusal(error) from error

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> TRLConfig:
        """Build from nested dicts; `method.name` chooses the method's class. Raises: UserError."""
        if not isinstance(config, Mapping):
            raise UserError("the configuration must have the sections method, model, optimizer, scheduler, ...")
        values = copy.deepcopy(dict(config))
        method = values.get("method")
        if isinstance(method, Mapping):
            if "name" not in method:
                raise UserError("missing key 'method.name' (e.g. PPOConfig)")
            name = coerce(method["name"], str, "method.name")
            values["method"] = build(get_method(name), method, "method")
        return build(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Two levels of plain dicts, copied; values that are objects (a model's config, say) stay objects."""
        sections = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {name: copy.deepcopy(vars(section)) for name, section in sections.items()}

    def evolve(self, **changes: Any) -> TRLConfig:
        """A copy with nested changes merged in, e.g. `evolve(train=dict(seed=1))`; this one stays as it is."""
        return self.from_dict(_merge(self.to_dict(), changes, _open_dicts(self)))

    @classmethod
    def update(cls, baseconfig: Mapping[str, Any] | TRLConfig, config: Mapping[str, Any]) -> TRLConfig:
        """A copy of `baseconfig` with nested or dotted ("train.seed") overrides. Raises: UserError on unknown keys."""
        base = baseconfig if isinstance(baseconfig, TRLConfig) else cls.from_dict(baseconfig)
        nested: dict[str, Any] = {}
        for key, value in config.items():
            *sections, name = str(key).split(".")
            node = nested
            for section in sections:
                node = node.setdefault(section, {})
                if not isinstance(node, dict):
                    raise UserError(f"'{key}' and '{section}' are both set: give one of them")
            node[name] = _merge(node.get(name, {}), value, None) if isinstance(value, Mapping) else value
        return base.evolve(**nested)

    def __str__(self) -> str:
        return json.dumps(self.to_dict(), indent=4, default=str)


def _open_dicts(config: TRLConfig) -> set[str]:
    """Dotted names of the fields that hold free dicts, whose keys their consumer checks."""
    names = set()
    for section in dataclasses.fields(config):
        for item in dataclasses.fields(getattr(config, section.name)):
            if "dict" in str(item.type) or item.name == "peft_config":
                names.add(f"{section.name}.{item.name}")
    return names


def _merge(base: Any, changes: Mapping[str, Any], open_dicts: set[str] | None, where: str = "") -> dict[str, Any]:
    """`base` with `changes` merged in at every depth; keys new to a section are refused, in open dicts welcome."""
    merged = dict(base) if isinstance(base, Mapping) else {}
    for key, value in changes.items():
        path = f"{where}{key}"
        is_open = open_dicts is None or any(path == name or path.startswith(f"{name}.") for name in open_dicts)
        if key not in merged and not is_open:
            raise UserError(f"unknown key '{path}'{nearest(str(key), merged)}")
        if isinstance(value, Mapping):
            merged[key] = _merge(merged.get(key), value, open_dicts, f"{path}.")
        else:
            merged[key] = copy.deepcopy(value)
    return merged
