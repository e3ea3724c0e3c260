"""Fine-tuning on the best of a model's own samples: what is kept, worked by hand, and whole runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_engine import END, EOS, VOCAB, neo_config, ppo_config
from tiny_runs import fresh_accelerate
from transformers import T5Config

import trlx
from trlx.data.configs import TRLConfig
from trlx.data.method_configs import get_method
from trlx.pipeline.offline_pipeline import PromptPipeline
from trlx.trainer.accelerate_rft_trainer import AccelerateRFTTrainer, RFTConfig, Sample, pack, select, unpack
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics

PROMPTS = [{"prompt": "ab", "tag": "x"}, {"prompt": "abc", "tag": "y"}, {"prompt": "ab", "tag": "z"}]


@pytest.fixture(autouse=True)
def fresh() -> None:
    fresh_accelerate()


def rft_config(
    folder: Path, tokenizer_folder: str, method: dict[str, Any] | None = None, **overrides: Any
) -> TRLConfig:
    changes = {"model__model_path": neo_config(layers=2), "model__num_layers_unfrozen": -1, **overrides}
    config = ppo_config(folder, tokenizer_folder, train__trainer="AccelerateRFTTrainer", **changes)
    config.method = RFTConfig.from_dict(
        {
            "name": "RFTConfig",
            "gen_kwargs": {"max_new_tokens": 4, "do_sample": True},
            "n_generations_per_prompt": 8,
            "n_improve_steps": 2,
            **(method or {}),
        }
    )
    return config


def letters(outputs: list[str], tag: list[str], tokenizer: Any, **_: Any) -> list[float]:
    """How many lower-case ASCII letters an output has."""
    assert len(tag) == len(outputs) and tokenizer.eos_token == END
    return [float(sum(c.isascii() and c.islower() for c in output.removesuffix(END))) for output in outputs]


def scored(*scores: float) -> list[Sample]:
    return [Sample((index,), score) for index, score in enumerate(scores)]


def test_the_percentile_rises_from_round_to_round() -> None:
    method = RFTConfig(name="RFTConfig", gen_kwargs={}, start_percentile=0.5, end_percentile=0.9, n_improve_steps=4)
    assert [method.percentile(epoch) for epoch in range(6)] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.5, 0.6])
    default = get_method("rftconfig")(name="RFTConfig", gen_kwargs={})
    assert default.n_generations_per_prompt == 32
    assert [default.percentile(epoch) for epoch in range(4)] == pytest.approx([0.7, 0.7625, 0.825, 0.8875])


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_percentile": 0.9, "end_percentile": 0.8},
        {"end_percentile": 70},
        {"n_improve_steps": 0},
        {"n_generations_per_prompt": 0},
        {"n_generation_per_prompt": 8},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        RFTConfig.from_dict({"name": "RFTConfig", "gen_kwargs": {}, **wrong})


def test_samples_above_the_threshold_are_kept() -> None:
    samples = scored(1.0, 4.0, 3.0, 2.0)
    assert select(samples, 2.5) == [samples[1], samples[2]]
    assert select(samples, 3.0) == [samples[1]]  # at the threshold is not above it


def test_the_best_are_kept_where_many_share_their_score() -> None:
    # Three of four score 1: the 0.7 quantile is 1, and none lies above it.
    samples = scored(1.0, 0.0, 1.0, 1.0)
    assert select(samples, 1.0) == [samples[0], samples[2], samples[3]]
    assert select(scored(1.0, 1.0), 1.0) == []  # nothing is better than anything


def test_a_response_is_kept_once() -> None:
    twice = [Sample((5, 6), 2.0), Sample((5,), 1.0), Sample((5, 6), 2.0)]
    assert select(twice, 1.5) == [Sample((5, 6), 2.0)]


@given(
    st.dictionaries(
        st.integers(0, 9),
        st.lists(st.builds(Sample, st.lists(st.integers(0, 99), max_size=4).map(tuple), st.floats(-9, 9)), min_size=1),
        min_size=1,
    )
)
def test_samples_travel_whole_in_a_checkpoint(generations: dict[int, list[Sample]]) -> None:
    packed = pack(generations)
    assert packed is not None and unpack(packed) == generations


def test_a_round_keeps_what_is_above_each_prompts_own_threshold(tmp_path: Path, tokenizer_folder: str) -> None:
    """The scores are made up: 0 … 7 for the first prompt, 10 … 17 for the second, 3 for all of the third.

    The 0.7 quantile of 0 … 7 lies at place 0.7 · 7 = 4.9: 5, 6 and 7 are kept; so of the second 15, 16 and 17.
    """
    asked: list[dict[str, list[Any]]] = []

    def reward(**given: Any) -> list[float]:
        asked.append(given)
        return [*range(8), *range(10, 18), *[3] * 8]

    trainer = AccelerateRFTTrainer(rft_config(tmp_path, tokenizer_folder), reward_fn=reward)
    trainer.add_prompt_pipeline(PromptPipeline(PROMPTS, 10, trainer.tokenizer))
    trainer.start_epoch()
    (given,) = asked  # once, for all prompts
    assert given["tag"] == ["x"] * 8 + ["y"] * 8 + ["z"] * 8
    assert given["prompts"] == ["ab"] * 8 + ["abc"] * 8 + ["ab"] * 8
    assert given["tokenizer"] is trainer.tokenizer
    assert [[sample.score for sample in trainer.generations[i]] for i in range(3)] == [
        [*range(8)],
        [*range(10, 18)],
        [3] * 8,
    ]
    kept = [trainer.generations[0][i].tokens for i in (5, 6, 7)] + [trainer.generations[1][i].tokens for i in (5, 6, 7)]
    prompts = [trainer.prompt_pipeline.token_ids[i] for i in (0, 0, 0, 1, 1, 1)]  # type: ignore[union-attr]
    rows = [(row["input_ids"].tolist(), row["labels"].tolist()) for row in trainer.store]
    assert rows == [
        ([*prompt, *tokens], [-100] * len(prompt) + list(tokens)) for prompt, tokens in zip(prompts, kept, strict=True)
    ]
    (line,) = (line for line in read_metrics(tmp_path / "logs") if "thresholds" in line)
    assert line["thresholds"] == pytest.approx([3.0, 4.9, 14.9])
    assert line["scores_per_single_prompt"] == [*range(8)]
    assert line["scores_mean"] == pytest.approx((28 + 108 + 24) / 24)
    assert len(line["scores_dist"]) == 24 and line["len_samples_selected"] == 6
    assert line["samples_per_single_prompt"] == [0, 3, 3]


def test_the_next_epoch_raises_the_bar_on_the_same_samples(tmp_path: Path, tokenizer_folder: str) -> None:
    calls = []

    def reward(outputs: list[str], **_: Any) -> list[float]:
        calls.append(len(outputs))
        return [float(i % 8) for i in range(len(outputs))]

    method = {"start_percentile": 0.0, "end_percentile": 1.0}
    trainer = AccelerateRFTTrainer(rft_config(tmp_path, tokenizer_folder, method), reward_fn=reward)
    trainer.add_prompt_pipeline(PromptPipeline(["a", "b"], 10, trainer.tokenizer))
    sizes = []
    for epoch in range(3):
        trainer.epoch = epoch
        trainer.start_epoch()
        sizes.append(len(trainer.store))
        trainer.post_epoch_callback()
    # Of 0 … 7, above 0: 7; above the median 3.5: 4. The third epoch samples again: 14 of 0 … 7 twice.
    assert sizes == [14, 8, 28]
    assert calls == [16, 16]


def test_sampled_ids_are_learned_as_they_were_sampled(tmp_path: Path, tokenizer_folder: str) -> None:
    """Bytes that are no text: decoding and encoding them again would give other ids."""
    trainer = AccelerateRFTTrainer(
        rft_config(tmp_path, tokenizer_folder), reward_fn=lambda outputs, **_: [float(i) for i in range(len(outputs))]
    )
    trainer.add_prompt_pipeline(PromptPipeline(["a"], 10, trainer.tokenizer))
    trainer.start_epoch()
    changed = 0
    for row in trainer.store:
        tokens = row["labels"][row["labels"] != -100].tolist()
        assert len(tokens) == 4 or tokens[-1] == EOS
        assert EOS not in tokens[:-1]
        changed += trainer.tokenizer(trainer.tokenizer.decode(tokens))["input_ids"] != tokens
    assert changed > 0  # or this test shows nothing


def test_the_score_rises(tmp_path: Path, tokenizer_folder: str) -> None:
    config = rft_config(
        tmp_path,
        tokenizer_folder,
        {"n_generations_per_prompt": 64, "gen_kwargs": {"max_new_tokens": 3, "do_sample": True}},
        train__epochs=8,
        optimizer__kwargs__lr=1e-2,
    )
    trainer = trlx.train(reward_fn=letters, prompts=PROMPTS, config=config)
    lines = read_metrics(tmp_path / "logs")
    rounds = [line["rollout_scores/mean"] for line in lines if "rollout_scores/mean" in line]
    assert len(rounds) == 4 and trainer.iter_count > 0
    assert rounds[0] < 0.6  # a random model: about 26 of 256 bytes, so 0.3 of 3
    assert rounds[-1] > 1.2, rounds
    assert all(line["loss"] == pytest.approx(line["losses/total_loss"]) for line in lines if "loss" in line)


def test_a_resumed_run_ends_as_one_that_never_stopped(tmp_path: Path, tokenizer_folder: str) -> None:
    def run(folder: str, **overrides: Any) -> AccelerateRFTTrainer:
        config = rft_config(tmp_path / folder, tokenizer_folder, train__epochs=4, train__batch_size=2, **overrides)
        return trlx.train(reward_fn=letters, prompts=PROMPTS, config=config)  # type: ignore[return-value]

    whole = run("whole", train__checkpoint_interval=1)
    losses = [line for line in read_metrics(tmp_path / "whole" / "logs") if "loss" in line]
    assert whole.iter_count == len(losses) >= 6
    reached = {}
    for folder in sorted((tmp_path / "whole").glob("checkpoint_0*")):
        state = json.loads((folder / "trainer_state.json").read_text())
        reached[state["epoch"]] = (state["iter_count"], folder)
    assert sorted(reached) == [0, 1, 2, 3]
    for step, checkpoint in (reached[0], reached[1]):  # the last step on samples of epoch 0, and before a new round
        resumed = run(f"resumed_{step}", train__resume_from_checkpoint=str(checkpoint))
        assert resumed.iter_count == whole.iter_count
        for name, value in whole.unwrapped_model.state_dict().items():
            assert torch.equal(value, resumed.unwrapped_model.state_dict()[name]), (step, name)


def test_an_encoder_decoder_learns_its_own_best(tmp_path: Path, tokenizer_folder: str) -> None:
    ends = {"decoder_start_token_id": 1, "eos_token_id": EOS, "pad_token_id": EOS}
    t5 = T5Config(vocab_size=VOCAB, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, **ends)
    config = rft_config(
        tmp_path, tokenizer_folder, model__model_path=t5, model__model_arch_type="seq2seq", train__epochs=1
    )
    trainer = AccelerateRFTTrainer(config, reward_fn=lambda outputs, **_: [float(i) for i in range(len(outputs))])
    trainer.add_prompt_pipeline(PromptPipeline(["ab", "c"], 10, trainer.tokenizer, add_special_tokens=True))
    trainer.start_epoch()
    assert {tuple(row["input_ids"].tolist()) for row in trainer.store} == {
        tuple(ids)
        for ids in trainer.prompt_pipeline.token_ids  # type: ignore[union-attr]
    }
    best = trainer.generations[0][-1].tokens
    assert any(tuple(row["labels"].tolist()) == best for row in trainer.store)
    trainer.store = None
    trainer.learn()
    assert trainer.iter_count == 1


def test_an_epoch_with_nothing_to_learn_is_said_and_passed(tmp_path: Path, tokenizer_folder: str) -> None:
    config = rft_config(tmp_path, tokenizer_folder, train__epochs=2)
    with pytest.warns(UserWarning, match="has nothing to train on: the samples of a prompt all score alike"):
        trainer = trlx.train(reward_fn=lambda outputs, **_: [1.0] * len(outputs), prompts=["a"], config=config)
    assert trainer.iter_count == 0


def test_what_cannot_work_is_refused(tmp_path: Path, tokenizer_folder: str) -> None:
    with pytest.raises(UserError, match="needs a reward_fn"):
        AccelerateRFTTrainer(rft_config(tmp_path, tokenizer_folder))
    greedy = rft_config(tmp_path, tokenizer_folder, {"gen_kwargs": {"max_new_tokens": 4}})
    with pytest.raises(UserError, match=r"gen_kwargs\.do_sample"):
        AccelerateRFTTrainer(greedy, reward_fn=letters)
    other = ppo_config(tmp_path, tokenizer_folder)
    with pytest.raises(UserError, match=r"needs method\.name RFTConfig, not PPOConfig"):
        AccelerateRFTTrainer(other, reward_fn=letters)
    with pytest.raises(UserError, match="call add_prompt_pipeline first"):
        AccelerateRFTTrainer(rft_config(tmp_path, tokenizer_folder), reward_fn=letters).make_experience()
