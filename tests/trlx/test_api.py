"""The names, signatures, fields and defaults that scripts written for trlX rely on."""

import copy
import dataclasses
import importlib
import inspect
import json
import subprocess
import sys
from typing import Any

import pytest
import torch

import trlx
from trlx.data.configs import (
    ModelConfig,
    OptimizerConfig,
    SchedulerConfig,
    TokenizerConfig,
    TrainConfig,
    TRLConfig,
)
from trlx.data.default_configs import default_ppo_config
from trlx.data.method_configs import MethodConfig, PPOConfig, get_method, register_method
from trlx.pipeline import BasePipeline, register_datapipeline
from trlx.trainer import BaseRLTrainer, register_trainer
from trlx.trainer.accelerate_base_trainer import AccelerateRLTrainer
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.utils.errors import UserError
from trlx.utils.loading import get_pipeline, get_trainer


def words(text: str) -> list[str]:
    return text.split()


NAMES = {
    "trlx": "train logging",
    "trlx.trlx": "train",
    "trlx.data.configs": "TRLConfig ModelConfig TokenizerConfig OptimizerConfig SchedulerConfig TrainConfig",
    "trlx.data.method_configs": "MethodConfig register_method get_method",
    "trlx.data.default_configs": """TRLConfig ModelConfig TokenizerConfig OptimizerConfig SchedulerConfig TrainConfig
        PPOConfig ILQLConfig SFTConfig RFTConfig default_ppo_config default_ilql_config default_sft_config
        default_nemo_20b_config default_nemo_2b_config default_nemo_1_3b_config""",
    "trlx.data.ppo_types": "PPORLElement PPORLBatch",
    "trlx.data.ilql_types": "ILQLElement ILQLBatch ILQLSeq2SeqElement ILQLSeq2SeqBatch",
    "trlx.data.accelerate_base_datatypes": "PromptElement PromptBatch AccelerateRLElement AccelerateRLBatchElement",
    "trlx.models.modeling_base": "PreTrainedModelWrapper",
    "trlx.models.modeling_ppo": """PPOConfig AdaptiveKLController FixedKLController CausalLMOutputWithValue
        Seq2SeqLMOutputWithValue AutoModelForCausalLMWithValueHead AutoModelForCausalLMWithHydraValueHead
        AutoModelForSeq2SeqLMWithValueHead AutoModelForSeq2SeqLMWithHydraValueHead""",
    "trlx.models.modeling_ilql": """ILQLConfig ILQLHeads AutoModelForCausalLMWithILQLHeads
        AutoModelForSeq2SeqLMWithILQLHeads""",
    "trlx.pipeline": "BasePipeline BaseRolloutStore MiniBatchIterator register_datapipeline",
    "trlx.pipeline.offline_pipeline": """PromptPipeline DialogMessage DialogStore tokenize_dialogue ILQLRolloutStorage
        ILQLSeq2SeqRolloutStorage""",
    "trlx.pipeline.ppo_pipeline": "PPORolloutStorage ppo_collate_fn",
    "trlx.trainer": "BaseRLTrainer register_trainer",
    "trlx.trainer.accelerate_base_trainer": "AccelerateRLTrainer",
    "trlx.trainer.accelerate_ppo_trainer": "AcceleratePPOTrainer",
    "trlx.trainer.accelerate_ilql_trainer": "AccelerateILQLTrainer",
    "trlx.trainer.accelerate_sft_trainer": "AccelerateSFTTrainer SFTConfig",
    "trlx.trainer.accelerate_rft_trainer": "AccelerateRFTTrainer RFTConfig",
    "trlx.trainer.nemo_ppo_trainer": "NeMoPPOTrainer",
    "trlx.trainer.nemo_ilql_trainer": "NeMoILQLTrainer",
    "trlx.trainer.nemo_sft_trainer": "NeMoSFTTrainer",
    "trlx.utils": """Clock set_seed significant tree_map to_device infinite_dataloader get_git_tag get_optimizer_class
        get_scheduler_class OptimizerName SchedulerName""",
    "trlx.utils.loading": "get_trainer get_pipeline",
    "trlx.utils.logging": "get_logger set_verbosity get_verbosity disable_progress_bar enable_progress_bar",
    "trlx.utils.modeling": """make_head freeze_bottom_causal_layers freeze_bottom_seq2seq_layers hf_get_decoder
        hf_get_decoder_blocks hf_get_decoder_final_norm hf_get_lm_head hf_get_hidden_size hf_get_num_hidden_layers
        whiten get_global_statistics logprobs_of_labels RunningMoments flatten_dict gather_dict get_tensor_stats""",
    "trlx.sweep": "main",
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in NAMES for name in words(NAMES[module])])
def test_names(module: str, name: str) -> None:
    assert getattr(importlib.import_module(module), name) is not None


def test_train_takes_what_trlx_took() -> None:
    taken = inspect.signature(trlx.train).parameters
    theirs = [
        "model_path",
        "reward_fn",
        "dataset",
        "samples",
        "rewards",
        "prompts",
        "eval_prompts",
        "metric_fn",
        "config",
        "stop_sequences",
    ]
    assert list(taken) == [*theirs, "ptx_texts"]  # ours come after all of theirs
    assert all(not parameter.default for parameter in taken.values())


REQUIRED = "required"
FIELDS: dict[type, dict[str, Any]] = {
    ModelConfig: {
        "model_path": REQUIRED,
        "model_arch_type": "causal",
        "num_layers_unfrozen": -1,
        "peft_config": None,
        "model_extra_configs": {},
    },
    TokenizerConfig: {
        "tokenizer_path": REQUIRED,
        "padding_side": "left",
        "truncation_side": "right",
        "tokenizer_extra_configs": {},
    },
    OptimizerConfig: {"name": REQUIRED, "kwargs": {}},
    SchedulerConfig: {"name": REQUIRED, "kwargs": {}},
    TrainConfig: {
        **dict.fromkeys(
            words("""total_steps seq_length epochs batch_size checkpoint_interval eval_interval"""), REQUIRED
        ),
        "pipeline": REQUIRED,
        "trainer": REQUIRED,
        "trainer_kwargs": {},
        "project_name": "trlx",
        "run_name": None,
        "entity_name": None,
        "group_name": None,
        "checkpoint_dir": "ckpts",
        "rollout_logging_dir": None,
        "save_best": True,
        "save_optimizer": True,
        "resume_from_checkpoint": None,
        "tracker": "wandb",
        "logging_dir": None,
        "tags": [],
        "seed": 1000,
        "minibatch_size": None,
    },
    PPOConfig: {
        **dict.fromkeys(
            [
                "name",
                "ppo_epochs",
                "num_rollouts",
                "chunk_size",
                "init_kl_coef",
                "target",
                "horizon",
                "gamma",
                "lam",
                "cliprange",
                "cliprange_value",
                "vf_coef",
                "scale_reward",
                "ref_mean",
                "ref_std",
                "cliprange_reward",
                "gen_kwargs",
            ],
            REQUIRED,
        ),
        "gen_experience_kwargs": None,
        "num_value_layers_unfrozen": 0,
    },
}


def fields_of(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        made = item.default_factory is not dataclasses.MISSING
        default = item.default_factory() if made else item.default  # type: ignore[misc]
        found[item.name] = REQUIRED if default is dataclasses.MISSING else default
    return found


def check_fields(cls: type, expected: dict[str, Any]) -> None:
    """trlX's fields come first, in its order, with its defaults; further ones have defaults."""
    found = fields_of(cls)
    assert list(found)[: len(expected)] == list(expected)
    assert {name: found[name] for name in expected} == expected
    assert REQUIRED not in [default for name, default in found.items() if name not in expected]


@pytest.mark.parametrize("cls", FIELDS)
def test_config_fields_and_defaults(cls: type) -> None:
    check_fields(cls, FIELDS[cls])


def test_the_other_methods_fields_and_defaults() -> None:
    check_fields(
        get_method_after_import("ILQLConfig", "trlx.models.modeling_ilql"),
        dict.fromkeys(
            [
                "name",
                "tau",
                "gamma",
                "cql_scale",
                "awac_scale",
                "alpha",
                "beta",
                "steps_for_target_q_sync",
                "two_qs",
                "gen_kwargs",
            ],
            REQUIRED,
        ),
    )
    check_fields(
        get_method_after_import("SFTConfig", "trlx.trainer.accelerate_sft_trainer"),
        dict.fromkeys(["name", "gen_kwargs"], REQUIRED),
    )
    rft = get_method_after_import("RFTConfig", "trlx.trainer.accelerate_rft_trainer")
    expected = {"start_percentile": 0.7, "end_percentile": 0.95, "n_improve_steps": 4, "n_generations_per_prompt": 32}
    check_fields(rft, {"name": REQUIRED, "gen_kwargs": REQUIRED, **expected})


def get_method_after_import(name: str, module: str) -> type:
    cls = getattr(importlib.import_module(module), name)
    assert get_method(name.upper()) is cls
    return cls


def test_sections_of_a_config() -> None:
    sections = [item.name for item in dataclasses.fields(TRLConfig)]
    assert sections == words("""method model optimizer scheduler tokenizer train""")


TRAINERS = ["AcceleratePPOTrainer", "AccelerateILQLTrainer", "AccelerateSFTTrainer", "AccelerateRFTTrainer"]


@pytest.mark.parametrize("name", [*TRAINERS, "AccelerateRLTrainer", "BaseRLTrainer"])
def test_trainers_by_name(name: str) -> None:
    assert get_trainer(name) is get_trainer(name.lower()) is get_trainer(name.upper())
    assert get_trainer(name).__name__ == name and issubclass(get_trainer(name), BaseRLTrainer)


def test_pipelines_and_methods_by_name() -> None:
    assert get_pipeline("promptPIPELINE").__name__ == "PromptPipeline"
    assert get_pipeline("BasePipeline") is BasePipeline
    assert get_method("ppoCONFIG") is PPOConfig and get_method("methodconfig") is MethodConfig


def test_a_fresh_process_knows_every_method() -> None:
    names = ["PPOConfig", "ILQLConfig", "SFTConfig", "RFTConfig"]
    code = f"from trlx.data.method_configs import get_method; print([get_method(name).__name__ for name in {names}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(names), done.stderr[-300:]


def test_unknown_names_name_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown trainer 'AcceleratePPOTraner'; did you mean 'accelerateppotrainer'"):
        get_trainer("AcceleratePPOTraner")
    with pytest.raises(UserError, match=r"unknown pipeline 'PromptPipe'; did you mean 'promptpipeline'"):
        get_pipeline("PromptPipe")


def test_registering_ones_own() -> None:
    @register_trainer
    class ApiTestTrainer(AccelerateRLTrainer):
        pass

    @register_trainer("other-name")
    class Another(ApiTestTrainer):
        pass

    @register_datapipeline
    class ApiTestPipeline(BasePipeline):
        pass

    @dataclasses.dataclass
    @register_method
    class ApiTestConfig(MethodConfig):
        depth: int = 3

    assert get_trainer("apitesttrainer") is ApiTestTrainer and get_trainer("OTHER-name") is Another
    assert get_pipeline("APITESTPIPELINE") is ApiTestPipeline
    assert get_method("apiTestConfig") is ApiTestConfig
    values = default_ppo_config().to_dict() | {"method": {"name": "ApiTestConfig", "depth": 4}}
    assert TRLConfig.from_dict(values).method == ApiTestConfig(name="ApiTestConfig", depth=4)


@pytest.mark.parametrize(
    ("name", "instead"), [("NeMoPPOTrainer", "PPO"), ("nemoilqltrainer", "ILQL"), ("NeMoSFTTrainer", "SFT")]
)
def test_nemo_says_what_to_use(name: str, instead: str) -> None:
    with pytest.raises(
        ImportError, match=f"^NeMo{instead}Trainer needs .* use Accelerate{instead}Trainer with DeepSpeed"
    ):
        get_trainer(name)(config=default_ppo_config(), reward_fn=None, metric_fn=None, stop_sequences=[])


HOOKS = {
    "setup_model": [],
    "setup_optimizer": [],
    "setup_scheduler": [],
    "get_arch": ["config"],
    "decode": ["prompts", "samples", "prompt_sizes", "append_eos_token"],
    "generate": ["input_ids", "attention_mask"],
    "generate_eval": ["input_ids", "attention_mask"],
    "save_pretrained": ["directory"],
    "save": ["directory"],
    "load": ["directory"],
    "add_prompt_pipeline": ["pipeline"],
    "add_eval_pipeline": ["eval_pipeline"],
    "evaluate": [],
    "learn": [],
    "create_train_dataloader": [],
    "prepare_learning": [],
    "loss": ["batch"],
    "post_backward_callback": [],
    "post_epoch_callback": [],
}


@pytest.mark.parametrize("name", HOOKS)
def test_what_trainers_let_one_override(name: str) -> None:
    taken = list(inspect.signature(getattr(AccelerateRLTrainer, name)).parameters)
    assert taken[1 : 1 + len(HOOKS[name])] == HOOKS[name]


def test_what_the_ppo_trainer_adds() -> None:
    assert list(inspect.signature(AcceleratePPOTrainer.make_experience).parameters) == [
        "self",
        "num_rollouts",
        "iter_count",
    ]
    assert list(inspect.signature(AcceleratePPOTrainer.push_to_store).parameters) == ["self", "data"]
    made = list(inspect.signature(AccelerateRLTrainer).parameters)
    assert made == words("""config reward_fn metric_fn logit_mask stop_sequences train_mode""")


def ppo_method(**changes: Any) -> Any:
    return default_ppo_config().evolve(method=changes).method


def test_advantages_golden() -> None:
    # gamma 1, lam 0.5; V = 1 2 3, r = 0 0 1. From the end: d2 = 1 - 3 = -2, A2 = -2; d1 = 3 - 2 = 1, A1 = 1 - 1 = 0;
    # d0 = 2 - 1 = 1, A0 = 1. Returns A + V = 2 2 1.
    values, rewards = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    method = ppo_method(gamma=1.0, lam=0.5)
    advantages, returns = method.get_advantages_and_returns(values, rewards, 3, use_whitening=False)
    assert advantages.tolist() == [[1.0, 0.0, -2.0]] and returns.tolist() == [[2.0, 2.0, 1.0]]
    whitened, _ = method.get_advantages_and_returns(values, rewards, 3)
    assert float(whitened.mean()) == pytest.approx(0.0, abs=1e-6)
    assert not whitened.requires_grad


def test_loss_golden() -> None:
    # Ratio 1 everywhere: policy loss -mean(A) = -(1 - 2) / 2 = .5; values off by 1 and 3, clip .2 around the old ones
    # (equal to the new): value loss (1 + 9) / 2 / 2 = 2.5; vf_coef .1. The third place is a pad.
    ones = torch.zeros(1, 3)
    loss, stats = ppo_method(vf_coef=0.1, cliprange=0.2, cliprange_value=0.2).loss(
        logprobs=ones,
        values=ones,
        old_logprobs=ones,
        old_values=ones,
        advantages=torch.tensor([[1.0, -2.0, 50.0]]),
        returns=torch.tensor([[1.0, -3.0, 50.0]]),
        mask=torch.tensor([[1, 1, 0]]),
    )
    assert float(loss) == pytest.approx(0.5 + 0.1 * 2.5)
    names = """losses/total_loss losses/policy_loss losses/value_loss values/mean values/min values/max values/std
        values/values_error values/values_mape_error values/clipfrac old_values/mean old_values/min old_values/max
        old_values/std returns/mean returns/min returns/max returns/std policy/approx_kl policy/clipfrac ratio"""
    assert set(names.split()) <= set(stats)
    expected = {
        "losses/policy_loss": 0.5,
        "losses/value_loss": 2.5,
        "ratio": 1.0,
        "policy/approx_kl": 0.0,
        "returns/mean": -1.0,
        "returns/max": 1.0,
        "returns/min": -3.0,
        "returns/std": 2.0,
        "values/values_error": 5.0,
    }
    assert {name: float(stats[name]) for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    "changes", [{"train.batch_siez": 1}, {"seed": 3}, {"modle.model_path": "x"}, {"train": {"sead": 1}}]
)
def test_misspelt_overrides_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="unknown key"):
        TRLConfig.update(default_ppo_config(), changes)


def test_overrides_copy_and_open_dicts_take_new_keys() -> None:
    base = default_ppo_config()
    before = copy.deepcopy(base)
    for given in (base, base.to_dict()):
        new = TRLConfig.update(given, {"method.gen_kwargs.temperature": 0.5, "train": {"seed": 2}})
        assert new.method.gen_kwargs["temperature"] == 0.5 and new.method.gen_kwargs["max_new_tokens"] == 40  # type: ignore[attr-defined]
        assert new.train.seed == 2
    evolved = base.evolve(model={"peft_config": {"peft_type": "LORA"}}, method={"gen_experience_kwargs": {"top_k": 5}})
    assert evolved.model.peft_config == {"peft_type": "LORA"}
    assert evolved.method.gen_experience_kwargs == {"top_k": 5}  # type: ignore[attr-defined]
    assert base == before


def test_to_dict_gives_copies_that_from_dict_takes() -> None:
    config = default_ppo_config()
    values = config.to_dict()
    assert TRLConfig.from_dict(values) == config
    values["method"]["gen_kwargs"]["max_new_tokens"] = 1
    values["train"]["tags"].append("x")
    assert config == default_ppo_config()
    assert json.loads(str(config))["train"]["batch_size"] == 32


def test_peft_configs_and_model_configs_travel() -> None:
    peft = pytest.importorskip("peft")
    from transformers import GPT2Config

    lora = peft.LoraConfig(r=4, task_type="CAUSAL_LM")
    config = default_ppo_config().evolve(model={"peft_config": lora, "model_path": GPT2Config(n_layer=3)})
    again = TRLConfig.from_dict(config.to_dict())
    assert again.model.peft_config == lora and again.model.peft_config is not lora
    assert again.model.model_path.n_layer == 3
    assert "LORA" in str(config) or "LoraConfig" in str(config)  # trlX could not print it
    assert TRLConfig.update(config, {"train.seed": 1}).model.peft_config.r == 4
