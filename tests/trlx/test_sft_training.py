"""Supervised fine-tuning: the loss by hand, the same gradient however a batch is split, whole runs."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import EOS, VOCAB, neo_config, ppo_config
from tiny_runs import fresh_accelerate
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast, T5Config

import trlx
from trlx.data.configs import TRLConfig
from trlx.data.method_configs import get_method
from trlx.pipeline import MiniBatchIterator
from trlx.trainer.accelerate_sft_trainer import AccelerateSFTTrainer, SFTConfig
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics

DIALOGUES = [["ab", "cd"], ["x", "yz and more"], ["q", "r", "s", "t"], ["a longer prompt", "u"]] * 2
PAIRS = [["ab", "cd"], ["x", "yz and more"], ["q", "r"], ["a longer prompt", "u"]] * 2


@pytest.fixture(autouse=True)
def fresh() -> None:
    fresh_accelerate()


def t5_config() -> T5Config:
    ends = {"decoder_start_token_id": 1, "eos_token_id": EOS, "pad_token_id": EOS}
    return T5Config(vocab_size=VOCAB, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, **ends)


def sft_config(folder: Path, tokenizer_folder: str, **overrides: Any) -> TRLConfig:
    changes = {"model__model_path": neo_config(layers=2), "model__num_layers_unfrozen": -1, **overrides}
    config = ppo_config(folder, tokenizer_folder, train__trainer="AccelerateSFTTrainer", **changes)
    config.method = SFTConfig(name="SFTConfig", gen_kwargs={"max_new_tokens": 8})
    return config


def seq2seq_config(folder: Path, tokenizer_folder: str, **overrides: Any) -> TRLConfig:
    return sft_config(
        folder, tokenizer_folder, model__model_path=t5_config(), model__model_arch_type="seq2seq", **overrides
    )


def trainer_on(samples: list[Any], config: TRLConfig) -> AccelerateSFTTrainer:
    """A trainer with its samples, and weights far from their initialisation, so that a mistake shows."""
    trainer = AccelerateSFTTrainer(config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainer.unwrapped_model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    trainer.make_experience(samples, config.train.seq_length)
    return trainer


def test_the_config_is_found_by_name_and_strict() -> None:
    assert get_method("sftconfig") is SFTConfig
    with pytest.raises(UserError, match=r"gen_kwarg'; did you mean 'gen_kwargs'"):
        SFTConfig.from_dict({"name": "SFTConfig", "gen_kwarg": {}})


def test_the_loss_is_the_cross_entropy_of_the_outputs(
    tmp_path: Path, tokenizer_folder: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    trainer = trainer_on(DIALOGUES, sft_config(tmp_path, tokenizer_folder))
    (batch,) = trainer.store.create_loader(len(DIALOGUES))
    loss, stats = trainer.loss(batch)
    nats = []
    for dialogue in DIALOGUES:  # one row at a time, without pads
        rows = [tokenizer(text)["input_ids"] for text in dialogue]
        rows[-1] = rows[-1] + [EOS]
        ids = [token for row in rows for token in row]
        is_output = [i % 2 == 1 for i, row in enumerate(rows) for _ in row]
        with torch.no_grad():
            logits = trainer.unwrapped_model(input_ids=torch.tensor([ids])).logits[0]
        nats += [
            cross_entropy(logits[place - 1], torch.tensor(ids[place])).item()
            for place in range(1, len(ids))
            if is_output[place]
        ]
    # outputs and their EOS: 3 + 12 + (1 + 2) + 2 tokens, twice
    assert len(nats) == 40 == trainer.loss_weight(batch).item()
    assert loss.item() == pytest.approx(sum(nats) / len(nats), abs=1e-5)
    assert stats["loss"].item() == loss.item()


def test_of_a_text_every_token_but_the_first_is_learned(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = trainer_on(["abcd", "a"], sft_config(tmp_path, tokenizer_folder))
    (batch,) = trainer.store.create_loader(2)
    assert trainer.loss_weight(batch).item() == 4 + 1  # b c d EOS, EOS
    with torch.no_grad():
        logits = trainer.unwrapped_model(input_ids=batch["input_ids"]).logits
    a, b, c, d = (batch["input_ids"][0, i] for i in range(4))
    end = torch.tensor(EOS)
    by_hand = [cross_entropy(logits[0, i], token) for i, token in enumerate((b, c, d, end))]
    by_hand.append(cross_entropy(logits[1, 0], end))
    assert batch["input_ids"][1, 0] == a
    assert trainer.loss(batch)[0].item() == pytest.approx(sum(x.item() for x in by_hand) / 5, abs=1e-5)


def test_an_encoder_decoder_learns_its_outputs(
    tmp_path: Path, tokenizer_folder: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    trainer = trainer_on(PAIRS, seq2seq_config(tmp_path, tokenizer_folder))
    (batch,) = trainer.store.create_loader(len(PAIRS))
    nats = []
    for prompt, output in PAIRS:
        ids = [*tokenizer(output)["input_ids"], EOS]
        with torch.no_grad():
            logits = trainer.unwrapped_model(
                input_ids=torch.tensor([tokenizer(prompt)["input_ids"]]),
                decoder_input_ids=torch.tensor([[1, *ids[:-1]]]),
            ).logits[0]
        nats += [cross_entropy(row, torch.tensor(token)).item() for row, token in zip(logits, ids, strict=True)]
    assert trainer.loss_weight(batch).item() == len(nats) == 2 * (3 + 12 + 2 + 2)
    assert trainer.loss(batch)[0].item() == pytest.approx(sum(nats) / len(nats), abs=1e-5)


@pytest.mark.parametrize("make", [sft_config, seq2seq_config])
def test_microbatches_change_nothing(tmp_path: Path, tokenizer_folder: str, make: Any) -> None:
    weights = []
    for size in (8, 3, 1):
        config = make(tmp_path / str(size), tokenizer_folder)
        config.optimizer.name, config.optimizer.kwargs = "sgd", {"lr": 0.1}  # so that weights differ as gradients do
        trainer = trainer_on(PAIRS, config)
        before = copy.deepcopy(trainer.unwrapped_model.state_dict())
        stats = trainer.train_step(next(MiniBatchIterator(trainer.create_train_dataloader(), size, 8)))
        weights.append(trainer.unwrapped_model.state_dict())
        assert stats["loss"] == pytest.approx(stats["losses/total_loss"])
    moved = max((weights[0][name] - before[name]).abs().max().item() for name in before)
    assert moved > 1e-3
    for name, value in weights[0].items():
        assert all((value - other[name]).abs().max() <= 1e-6 for other in weights[1:]), name


def test_a_run_lowers_the_loss_and_its_model_reloads(tmp_path: Path, tokenizer_folder: str) -> None:
    config = sft_config(tmp_path, tokenizer_folder, train__epochs=12, optimizer__kwargs__lr=1e-2)
    trainer = trlx.train(samples=[["ab", "cd"], ["x", "yz"], ["q", "rr"]] * 6, eval_prompts=["ab", "x"], config=config)
    lines = read_metrics(tmp_path / "logs")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == trainer.iter_count == 36  # 18 samples in steps of 8, 8, 2; 12 times
    assert losses[0] > 5 and losses[-1] < 1.0, losses  # log 257 = 5.5; 0.1 when this was written
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint_36" / "hf_model").eval()
    ids = torch.randint(1, VOCAB, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, trainer.policy.eval()(ids).logits, atol=1e-5, rtol=1e-5)
    table = (tmp_path / "logs" / "eval" / "step_000036.csv").read_text().splitlines()
    assert [row.split(",")[1].startswith(output) for row, output in zip(table[1:], ("cd", "yz"), strict=True)]


def test_texts_are_learned_too(tmp_path: Path, tokenizer_folder: str) -> None:
    config = sft_config(tmp_path, tokenizer_folder, train__epochs=10, optimizer__kwargs__lr=1e-2)
    trlx.train(samples=["abcabc"] * 8, config=config)
    losses = [line["loss"] for line in read_metrics(tmp_path / "logs") if "loss" in line]
    assert len(losses) == 10 and losses[-1] < losses[0] / 2


def test_an_encoder_decoder_trains(tmp_path: Path, tokenizer_folder: str) -> None:
    config = seq2seq_config(tmp_path, tokenizer_folder, train__epochs=10, optimizer__kwargs__lr=1e-2)
    trainer = trlx.train(samples=PAIRS, eval_prompts=["ab"], config=config)
    losses = [line["loss"] for line in read_metrics(tmp_path / "logs") if "loss" in line]
    assert losses[-1] < losses[0] / 1.3, losses
    model = AutoModelForSeq2SeqLM.from_pretrained(next(tmp_path.glob("checkpoint_*/hf_model"))).eval()
    ids, start = torch.randint(1, VOCAB, (2, 9)), torch.ones(2, 1, dtype=torch.long)
    with torch.no_grad():
        wanted = trainer.policy.eval()(input_ids=ids, decoder_input_ids=start).logits
        torch.testing.assert_close(model(input_ids=ids, decoder_input_ids=start).logits, wanted, atol=0, rtol=0)


def test_a_resumed_run_ends_as_one_that_never_stopped(tmp_path: Path, tokenizer_folder: str) -> None:
    def run(folder: str, **overrides: Any) -> AccelerateSFTTrainer:
        config = sft_config(tmp_path / folder, tokenizer_folder, train__epochs=3, train__batch_size=3, **overrides)
        return trlx.train(samples=DIALOGUES, config=config)  # type: ignore[return-value]

    whole = run("whole", train__checkpoint_interval=4)  # 3 steps an epoch: in the second one
    resumed = run("resumed", train__resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint_4"))
    assert whole.iter_count == resumed.iter_count == 9
    for name, value in whole.unwrapped_model.state_dict().items():
        assert torch.equal(value, resumed.unwrapped_model.state_dict()[name]), name


def test_bottom_layers_stay_and_the_top_trains(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = trainer_on(DIALOGUES, sft_config(tmp_path, tokenizer_folder, model__num_layers_unfrozen=1))
    before = copy.deepcopy(trainer.unwrapped_model.state_dict())
    trainer.train_step(next(MiniBatchIterator(trainer.create_train_dataloader(), 8, 1)))
    after = trainer.unwrapped_model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith(("transformer.h.1.", "transformer.ln_f.")) for name in moved)


@pytest.mark.parametrize(
    "adapter",
    [
        {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj", "v_proj"]},
        {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3},
    ],
)
def test_adapters_alone_learn(tmp_path: Path, tokenizer_folder: str, adapter: dict[str, Any]) -> None:
    config = sft_config(tmp_path, tokenizer_folder, model__peft_config=adapter, optimizer__kwargs__lr=5e-2)
    trainer = trainer_on(DIALOGUES, config)
    (batch,) = trainer.store.create_loader(8)
    before = copy.deepcopy(trainer.unwrapped_model.state_dict())
    first = trainer.loss(batch)[0].item()
    for _ in range(5):
        trainer.train_step([batch])
    after = trainer.unwrapped_model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("lora" in name or "prompt" in name for name in moved)
    assert trainer.loss(batch)[0].item() < first


def test_what_cannot_be_learned_is_said(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = AccelerateSFTTrainer(sft_config(tmp_path, tokenizer_folder))
    with pytest.raises(UserError, match=r"no sample has a token to learn within train.seq_length \(4\)"):
        trainer.make_experience([["abcdef", "g"]], 4)
    with pytest.warns(UserWarning, match="1 of 2 samples have no token to learn"):
        trainer.make_experience([["abcdef", "g"], ["a", "b"]], 4)
    with pytest.raises(UserError, match="trains on given samples, not on prompts"):
        trainer.add_prompt_pipeline(None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="leaves nothing to train"):
        AccelerateSFTTrainer(sft_config(tmp_path, tokenizer_folder, model__num_layers_unfrozen=0))


def test_a_sample_without_a_token_to_learn_has_no_weight(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = trainer_on([["ab", "c"]], sft_config(tmp_path, tokenizer_folder))
    (batch,) = trainer.store.create_loader(1)
    batch["labels"][:] = -100
    loss, _ = trainer.loss(batch)
    loss.backward()
    assert trainer.loss_weight(batch).item() == 0 and loss.item() == 0.0
    assert all(
        math.isfinite(parameter.grad.sum().item())
        for parameter in trainer.unwrapped_model.parameters()
        if parameter.grad is not None
    )
