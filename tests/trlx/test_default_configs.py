"""trlX's default values, and the configs of its NeMo backend."""

from collections.abc import Callable
from typing import Any

import pytest

from trlx.data import default_configs
from trlx.data.configs import TRLConfig
from trlx.trainer.setup import minibatches_of
from trlx.utils.optimizers import get_optimizer_class, get_scheduler_class

SAMPLED = {"max_new_tokens": 40, "top_k": 0, "top_p": 1.0, "do_sample": True}
EXPECTED: dict[str, dict[str, Any]] = {
    "ppo": {
        "train.seq_length": 1024,
        "train.batch_size": 32,
        "train.total_steps": 10000,
        "train.checkpoint_interval": 10000,
        "train.trainer": "AcceleratePPOTrainer",
        "model.model_path": "lvwerra/gpt2-imdb",
        "model.num_layers_unfrozen": 2,
        "optimizer.kwargs.lr": 3e-5,
        "method.name": "PPOConfig",
        "method.num_rollouts": 128,
        "method.chunk_size": 128,
        "method.ppo_epochs": 4,
        "method.init_kl_coef": 0.001,
        "method.target": None,
        "method.horizon": 10000,
        "method.gamma": 1,
        "method.lam": 0.95,
        "method.cliprange": 0.2,
        "method.cliprange_value": 0.2,
        "method.vf_coef": 1,
        "method.scale_reward": "ignored",
        "method.ref_mean": None,
        "method.ref_std": None,
        "method.cliprange_reward": 10,
        "method.gen_kwargs": SAMPLED,
    },
    "ilql": {
        "train.seq_length": 64,
        "train.batch_size": 128,
        "train.total_steps": 1000,
        "train.checkpoint_interval": 1000,
        "train.trainer": "AccelerateILQLTrainer",
        "model.model_path": "gpt2",
        "model.num_layers_unfrozen": -1,
        "optimizer.kwargs.lr": 5e-5,
        "method.name": "ilqlconfig",
        "method.tau": 0.7,
        "method.gamma": 0.99,
        "method.cql_scale": 0.1,
        "method.awac_scale": 1,
        "method.alpha": 0.001,
        "method.beta": 0,
        "method.steps_for_target_q_sync": 5,
        "method.two_qs": True,
        "method.gen_kwargs": {"max_new_tokens": 56, "top_k": 20, "beta": 1, "temperature": 1.0},
    },
    "sft": {
        "train.seq_length": 1024,
        "train.batch_size": 8,
        "train.total_steps": 1000,
        "train.checkpoint_interval": 10000,
        "train.trainer": "AccelerateSFTTrainer",
        "model.model_path": "gpt2",
        "model.num_layers_unfrozen": -1,
        "optimizer.kwargs.lr": 1e-4,
        "method.name": "sftconfig",
        "method.gen_kwargs": SAMPLED,
    },
}
SHARED: dict[str, Any] = {
    "train.epochs": 100,
    "train.eval_interval": 100,
    "train.pipeline": "PromptPipeline",
    "tokenizer.tokenizer_path": "gpt2",
    "tokenizer.truncation_side": "right",
    "optimizer.name": "adamw",
    "optimizer.kwargs.betas": (0.9, 0.95),
    "optimizer.kwargs.eps": 1e-8,
    "optimizer.kwargs.weight_decay": 1e-6,
    "scheduler.name": "cosine_annealing",
    "scheduler.kwargs.T_max": 1e12,
}


def default(method: str) -> TRLConfig:
    make: Callable[[], TRLConfig] = getattr(default_configs, f"default_{method}_config")
    return make()


def at(config: TRLConfig, key: str) -> Any:
    section, name, *rest = key.split(".")
    value = config.to_dict()[section][name]
    return value[rest[0]] if rest else value


@pytest.mark.parametrize("method", EXPECTED)
def test_values(method: str) -> None:
    config = default(method)
    expected = SHARED | EXPECTED[method]
    assert {key: at(config, key) for key in expected} == expected
    assert at(config, "scheduler.kwargs.eta_min") == at(config, "optimizer.kwargs.lr")  # the rate stays


@pytest.mark.parametrize("method", EXPECTED)
def test_new_objects_that_can_be_read_back(method: str) -> None:
    default(method).method.gen_kwargs["changed"] = True  # type: ignore[attr-defined]
    config = default(method)
    assert "changed" not in config.method.gen_kwargs  # type: ignore[attr-defined]
    assert TRLConfig.from_dict(config.to_dict()) == config
    get_optimizer_class(config.optimizer.name), get_scheduler_class(config.scheduler.name)
    assert minibatches_of(config.train) == (config.train.batch_size, 1)


@pytest.mark.parametrize("size", ["20b", "2b", "1_3b"])
def test_nemo_configs_say_what_to_use(size: str) -> None:
    with pytest.raises(ImportError, match=f"^default_nemo_{size}_config needs NVIDIA NeMo.* default_ppo_config"):
        default(f"nemo_{size}")
