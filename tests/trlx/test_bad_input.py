"""What cannot work is said in one line that names the argument, before anything is trained."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import VOCAB, neo_config, ppo_config
from tiny_runs import PROMPTS, fresh_accelerate, run
from transformers import T5Config

import trlx
from trlx.data.default_configs import default_sft_config
from trlx.utils.errors import UserError

T5 = T5Config(vocab_size=VOCAB, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=1)


def refused(config: Any, message: str, **options: Any) -> None:
    """The run ends with that message on one line, and wrote no metrics of a step."""
    with pytest.raises(UserError, match=message) as caught:
        run(config, **options)
    assert "\n" not in str(caught.value)
    metrics = Path(config.train.checkpoint_dir) / "logs" / "metrics.jsonl"
    assert not metrics.exists() or "losses/total_loss" not in metrics.read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train__minibatch_size": 3}, r"train.batch_size \(8\) must be a multiple of train.minibatch_size \(3\)"),
        ({"train__seq_length": 8}, r"train.seq_length \(8\) must exceed max_new_tokens \(8\)"),
        ({"train__seq_length": 7}, r"train.seq_length \(7\) must exceed max_new_tokens \(8\)"),
        ({"train__seq_length": 65}, "train.seq_length"),  # the model has 64 positions
        ({"model__num_layers_unfrozen": 9}, "num_layers_unfrozen is 9 but the model has 4 layers"),
        ({"method__gen_kwargs__temprature": 1}, "'gen_kwargs.temprature'; did you mean 'temperature'"),
        ({"method__gen_kwargs__beta": 1.0}, "'gen_kwargs.beta'"),  # ILQL's
        ({"method__gen_experience_kwargs": {"top_k": 3}}, "method.gen_experience_kwargs must have max_new_tokens"),
        ({"method__gen_experience_kwargs": {"max_new_tokens": 4, "top_q": 1}}, "'gen_kwargs.top_q'"),
        ({"train__trainer": "PPOTrainer"}, "unknown trainer 'PPOTrainer'; did you mean '.*ppotrainer'"),
        ({"model__peft_config": {"r": 8}}, "model.peft_config must be a peft config or a dict with 'peft_type'"),
        ({"model__peft_config": {"peft_type": "LORO"}}, "model.peft_config.peft_type 'LORO'; did you mean 'LORA'"),
        ({"model__peft_config": {"peft_type": "LORA", "rank": 8}}, "unknown key 'model.peft_config.rank'"),
        ({"method__num_value_layers_unfrozen": 4}, "method.num_value_layers_unfrozen is 4"),
        ({"model__model_arch_type": "seq2seq"}, "model_arch_type is seq2seq but gpt_neo is a causal model"),
        ({"model__model_path": T5}, "model_arch_type is causal but t5 is an encoder-decoder"),
        ({"model__model_arch_type": "seq2sec"}, "model.model_arch_type must be causal or seq2seq, not 'seq2sec'"),
        ({"optimizer__kwargs__learning_rate": 1.0}, "learning_rate"),
    ],
)
def test_settings(tmp_path: Path, tokenizer_folder: str, overrides: dict[str, Any], message: str) -> None:
    refused(ppo_config(tmp_path, tokenizer_folder, **overrides), message)


def a_score_each(value: Any) -> Any:
    return lambda outputs, **_: [value] * len(outputs)


@pytest.mark.parametrize(
    ("reward_fn", "message"),
    [
        (lambda outputs, **_: [1.0] * (len(outputs) - 1), "reward_fn returned 3 scores for 4 samples"),
        (lambda outputs, **_: [1.0] * (len(outputs) + 1), "reward_fn returned 5 scores for 4 samples"),
        (lambda **_: [], "reward_fn returned 0 scores for 4 samples"),
        (lambda **_: None, "reward_fn must return a list with one score a sample, not None"),
        (lambda **_: 1.0, "reward_fn must return a list with one score a sample, not 1.0"),
        (lambda **_: torch.tensor(1.0), "reward_fn must return a list"),
        (lambda **_: "good", "reward_fn must return a list with one score a sample, not 'good'"),
        (lambda outputs, **_: {"reward": [1.0] * len(outputs)}, "reward_fn must return a list with one score a sample"),
        (a_score_each("good"), "reward_fn must return numbers, not 'good' for sample 0"),
        (a_score_each(None), "reward_fn must return numbers, not None for sample 0"),
        (a_score_each({"a": 1}), "reward_fn must return numbers"),
        (a_score_each(math.nan), "reward_fn returned nan, which is not finite, for sample 0"),
        (a_score_each(-math.inf), "reward_fn returned -inf, which is not finite, for sample 0"),
        (a_score_each([1.0, math.nan]), r"reward_fn returned \[1.0, nan\], which is not finite"),
        (a_score_each([[1.0], [2.0]]), "one number for each sample, or a list of numbers for each"),
        (lambda outputs, **_: [1.0, [1.0], 1.0, 1.0][: len(outputs)], "or a list of numbers for each"),
    ],
)
def test_reward_functions(tmp_path: Path, tokenizer_folder: str, reward_fn: Any, message: str) -> None:
    refused(ppo_config(tmp_path, tokenizer_folder), message, reward_fn=reward_fn)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "there are no prompts"),
        ("one text", "there are no prompts"),
        (["a", ""], "prompt 1 is empty"),
        (["a", 3], "prompt 1 must be text, not int"),
        ([{"text": "a"}], "prompt 0 must have the keys prompt"),
        ([{"prompt": "a", "tag": 1}, {"prompt": "b"}], "prompt 1 must have the keys prompt, tag"),
        ([{"prompt": "a", "outputs": 1}], "prompts cannot have a key 'outputs'"),
    ],
)
def test_prompts(tmp_path: Path, tokenizer_folder: str, prompts: Any, message: str) -> None:
    refused(ppo_config(tmp_path, tokenizer_folder), message, prompts=prompts)
    refused(ppo_config(tmp_path, tokenizer_folder), message, eval_prompts=prompts)


@pytest.mark.parametrize(
    ("stops", "message"),
    [([""], "stop_sequences holds ''"), (["a", 3], "stop_sequences holds 3"), ([None], "stop_sequences holds None")],
)
def test_stop_sequences(tmp_path: Path, tokenizer_folder: str, stops: Any, message: str) -> None:
    refused(ppo_config(tmp_path, tokenizer_folder), message, stop_sequences=stops)


def test_ppo_needs_a_reward_function(tmp_path: Path, tokenizer_folder: str) -> None:
    refused(ppo_config(tmp_path, tokenizer_folder), "reward_fn", reward_fn=None, samples=["a b"])
    with pytest.raises(UserError, match=r"reward_fn= .* or samples="):
        trlx.train(config=ppo_config(tmp_path, tokenizer_folder), prompts=["a"])


def test_samples(tmp_path: Path, tokenizer_folder: str) -> None:
    config = default_sft_config().evolve(
        train={"seq_length": 48, "tracker": None, "checkpoint_dir": str(tmp_path)},
        tokenizer={"tokenizer_path": tokenizer_folder},
    )
    config.model.model_path = neo_config()
    config.method.gen_kwargs = {"max_new_tokens": 8}
    for given, message in (
        ({"samples": []}, "empty samples="),
        ({"samples": ["a b", "c d"], "rewards": [1.0]}, "2 samples= but 1 rewards="),
    ):
        fresh_accelerate()
        with pytest.raises(UserError, match=message):
            trlx.train(config=config, **given)  # type: ignore[arg-type]


def test_rollouts_need_prompts(tmp_path: Path, tokenizer_folder: str) -> None:
    from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer

    fresh_accelerate()
    trainer = AcceleratePPOTrainer(ppo_config(tmp_path, tokenizer_folder), reward_fn=a_score_each(1.0))
    with pytest.raises(UserError, match="add_prompt_pipeline"):
        trainer.make_experience(4)


def test_a_metric_function_that_breaks_says_so(tmp_path: Path, tokenizer_folder: str) -> None:
    def metric_fn(**_: Any) -> dict[str, Any]:
        raise KeyError("no such metric")

    with pytest.raises(KeyError, match="no such metric"):
        run(ppo_config(tmp_path, tokenizer_folder), metric_fn=metric_fn, prompts=PROMPTS)
