"""Pretraining texts mixed into PPO: their blocks, the gradient, the order, what resumes, what is refused.

(Two ranks, with and without DeepSpeed: `tests/trlx/test_two_ranks.py`.)
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_engine import EOS, make_rollouts, ppo_config, random_model
from tiny_runs import logged, make_trainer, run, run_until, weights
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM

import trlx
from trlx.data.default_configs import default_sft_config
from trlx.data.limits import require_limits
from trlx.data.ppo_types import collate
from trlx.pipeline.text_blocks import pack, require_blocks
from trlx.trainer.ptx import PretrainingLoss
from trlx.utils.errors import UserError

TEXTS = [f"text number {i} is about {'owls' if i % 2 else 'trees'}" for i in range(24)]
GAMMA = 0.5


# -- blocks ---------------------------------------------------------------------------------------------------------


def test_blocks_by_hand(tokenizer: Any) -> None:
    a, b, c, d = tokenizer("abcd")["input_ids"]
    # ab. c. d. with . for EOS, and the empty text adds nothing: ab|.c|.d|(.)
    assert pack(["ab", "", "c", "d"], tokenizer, 2, least=3).tolist() == [[a, b], [EOS, c], [EOS, d]]
    assert pack(["ab", "", "c", "d"], tokenizer, 3, least=1).tolist() == [[a, b, EOS], [c, EOS, d]]


def test_too_few_blocks_are_refused_alike_before_and_after_tokenising(tokenizer: Any) -> None:
    for check in (pack, require_blocks):
        check(["abcdefg"] * 2, tokenizer, 4, least=4)  # 16 tokens
        with pytest.raises(
            UserError, match=r"fill 4 blocks of train.seq_length \(4\) tokens, .* takes 5, .* give more"
        ):
            check(["abcdefg"] * 2, tokenizer, 4, least=5)


def test_no_more_texts_are_tokenised_than_the_check_needs(tokenizer: Any) -> None:
    class Watched(list[str]):
        seen = 0

        def __iter__(self) -> Any:
            for text in super().__iter__():
                self.seen += 1
                yield text

    texts = Watched(["abcdefg"] * 100_000)
    require_blocks(texts, tokenizer, 8, least=2)
    assert texts.seen < 20_000


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a", 3], "pretraining text 1 must be text, not int"),
        ("abcabc", "must be a list of texts, not one text"),
    ],
)
def test_what_is_no_text(tokenizer: Any, texts: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        pack(texts, tokenizer, 2, least=1)


def test_a_tokenizer_without_an_end(tokenizer: Any) -> None:
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="joined with EOS, and the tokenizer has none: give it an eos_token"):
        pack(["ab"], tokenizer, 2, least=1)


# -- order ----------------------------------------------------------------------------------------------------------


def loss_of_rank(rank: int, world: int, seed: int = 3) -> PretrainingLoss:
    accelerator = SimpleNamespace(process_index=rank, num_processes=world)
    engine: Any = SimpleNamespace(accelerator=accelerator)
    return PretrainingLoss(GAMMA, torch.arange(12).view(12, 1), engine, seed)


def dealt(loss: PretrainingLoss, sizes: list[int]) -> list[int]:
    return [block for part in loss.term(sizes).microbatches for block in part.flatten().tolist()]


def test_a_step_takes_the_same_blocks_whatever_the_microbatches_and_ranks() -> None:
    alone, pair = loss_of_rank(0, 1), [loss_of_rank(rank, 2) for rank in range(2)]
    seen = []
    for step in range(6):  # of four samples: two passes over twelve blocks
        whole = dealt(alone, [4] if step % 2 else [1, 3])
        assert whole == [block for rank in pair for block in dealt(rank, [2] if step % 2 else [1, 1])]
        seen += whole
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12)) and seen[:12] != seen[12:]
    assert seen[:12] != dealt(loss_of_rank(0, 1, seed=4), [12])
    assert [len(part) for part in alone.term([3, 2]).microbatches] == [3, 2]


# -- the gradient ---------------------------------------------------------------------------------------------------


def after_one_step(
    folder: Path,
    tokenizer_folder: str,
    minibatch_size: int = 8,
    ptx_coef: float = GAMMA,
    ddp: bool = False,
    **overrides: Any,
) -> Any:
    """A trainer after one step of SGD at rate 1 on invented rollouts of 8 rows, cut into microbatches.

    Besides it: its weights before the step, and the step's statistics.
    """
    settings = {"optimizer__name": "sgd", "train__minibatch_size": minibatch_size, "method__ptx_coef": ptx_coef}
    config = ppo_config(folder, tokenizer_folder, **settings, **overrides)
    config.optimizer.kwargs = {"lr": 1.0}
    trainer = make_trainer(config)
    if ddp:
        trainer.model = trainer.engine.model = DistributedDataParallel(trainer.model)
    if ptx_coef:
        trainer.add_ptx_texts(TEXTS)
    trainer.iter_count = 1  # the rollouts are invented, so ratio 1 is not to be expected
    rows, before = make_rollouts(8), weights(trainer)
    stats = trainer.train_step([collate(rows[i : i + minibatch_size], 0) for i in range(0, 8, minibatch_size)])
    return trainer, before, stats


def transformers_gradient(trainer: Any, before: dict[str, Tensor], blocks: Tensor) -> tuple[float, dict[str, Tensor]]:
    """(loss, gradient by weight) of the policy as it was, by transformers' own loss of labels."""
    prefix = "base_model."
    model = AutoModelForCausalLM.from_config(trainer.policy.config, dtype=torch.float32)
    model.load_state_dict({name.removeprefix(prefix): v for name, v in before.items() if name.startswith(prefix)})
    loss = model(input_ids=blocks, labels=blocks).loss
    loss.backward()
    return loss.item(), {f"{prefix}{name}": weight.grad for name, weight in model.named_parameters()}


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    """What `accelerate launch --num_processes 1` with `distributed_type: MULTI_GPU` sets up."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
def test_ddp_with_one_rank_waits_for_no_weight_that_texts_do_not_reach(tmp_path: Path, tokenizer_folder: str) -> None:
    plain, _, expected = after_one_step(tmp_path, tokenizer_folder, minibatch_size=4)
    wrapped, _, stats = after_one_step(tmp_path, tokenizer_folder, minibatch_size=4, ddp=True)
    assert isinstance(wrapped.engine.model, DistributedDataParallel)
    assert stats["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-5)
    expected_weights = weights(plain)
    for name, value in weights(wrapped).items():
        torch.testing.assert_close(value, expected_weights[name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("unfrozen", [-1, 2])
def test_a_step_adds_the_gradient_that_transformers_computes(
    tmp_path: Path, tokenizer_folder: str, unfrozen: int
) -> None:
    frozen = {"model__num_layers_unfrozen": unfrozen}
    trainer, before, stats = after_one_step(tmp_path, tokenizer_folder, **frozen)
    plain, _, plain_stats = after_one_step(tmp_path, tokenizer_folder, ptx_coef=0.0, **frozen)
    trainer.ptx.sampler.position = 0
    (blocks,) = trainer.ptx.term([8]).microbatches
    loss, gradient = transformers_gradient(trainer, before, blocks.long())
    assert stats["losses/ptx_loss"] == pytest.approx(loss, rel=1e-5)
    assert stats["losses/total_loss"] == pytest.approx(plain_stats["losses/total_loss"] + GAMMA * loss, rel=1e-5)
    assert stats["losses/policy_loss"] == pytest.approx(plain_stats["losses/policy_loss"], abs=1e-7)
    assert "losses/ptx_loss" not in plain_stats
    without, moved = weights(plain), 0
    trains = {name for name, weight in trainer.unwrapped_model.named_parameters() if weight.requires_grad}
    for name, value in weights(trainer).items():
        step = GAMMA * gradient[name] if name in trains and name in gradient else 0.0
        if name == "base_model.lm_head.weight":  # tied
            step = GAMMA * gradient["base_model.transformer.wte.weight"] if unfrozen < 0 else 0.0
        expected = without[name] - step
        torch.testing.assert_close(value, expected, atol=2e-6, rtol=1e-4, msg=name)
        moved += bool((expected - without[name]).abs().max() > 1e-3)
    assert moved >= 10
    assert all(torch.equal(weights(trainer)[name], before[name]) for name in before if "h.0." in name) == (unfrozen > 0)


def test_minibatch_size_changes_no_gradient(tmp_path: Path, tokenizer_folder: str) -> None:
    whole, *cut = (after_one_step(tmp_path, tokenizer_folder, size, model__num_layers_unfrozen=2) for size in (8, 4, 1))
    expected = weights(whole[0])
    for trainer, _, stats in cut:
        for name, value in weights(trainer).items():
            torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5, msg=name)
        for name in ("losses/total_loss", "losses/ptx_loss", "gradient_norm", "values/mean"):
            assert stats[name] == pytest.approx(whole[2][name], rel=1e-4, abs=1e-6), name


def test_the_critic_is_run_on_texts_where_the_wrapper_wants_it_alone(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder, method__ptx_coef=GAMMA))
    trainer.add_ptx_texts(TEXTS)
    calls: list[int] = []
    critic, term = trainer.unwrapped_model.v_head, trainer.ptx.term([2, 1])
    critic.register_forward_hook(lambda *_: calls.append(1))
    loss, _ = term.loss(term.microbatches[0])
    loss.backward()
    assert calls == [] and all(weight.grad is None for weight in critic.parameters())
    trainer.engine.is_deepspeed = True  # which wants a gradient, of 0, of every weight
    again, _ = term.loss(term.microbatches[0])
    again.backward()
    assert again.item() == loss.item() and calls == [1]
    assert all(weight.grad.abs().max() == 0 for weight in critic.parameters())
    assert [term.loss_weight(part).item() for part in term.microbatches] == [2 * 31, 31]


# -- whole runs -----------------------------------------------------------------------------------------------------


def mixed(folder: Path, tokenizer_folder: str) -> Any:
    given = {"train__resume_interval": 3, "train__total_steps": 7, "train__minibatch_size": 4}
    return ppo_config(folder, tokenizer_folder, method__ptx_coef=5.0, **given)


def test_a_resumed_run_goes_on_with_the_next_block(tmp_path: Path, tokenizer_folder: str) -> None:
    """Killed in the second phase's rollouts: what is resumed is step 3 of the first phase's four."""
    whole = run(mixed(tmp_path / "whole", tokenizer_folder), ptx_texts=TEXTS)
    losses = logged(whole, "losses/ptx_loss")
    assert len(losses) == 7 and losses[-1] < losses[0] - 0.1  # and it learns them
    assert whole.state_dict()["ptx_position"] == 7 * 8
    config = mixed(tmp_path / "cut", tokenizer_folder)
    run_until(5, config, ptx_texts=TEXTS)
    resumed = run(config.evolve(train={"resume_from_checkpoint": "auto"}), ptx_texts=TEXTS)
    assert logged(resumed, "losses/ptx_loss") == losses
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items())
    assert resumed.state_dict()["ptx_position"] == 7 * 8


@pytest.mark.parametrize(
    ("settings", "texts", "words"),
    [
        ({"method__ptx_coef": 0.1}, None, r"ptx_coef is 0\.1 but there are no pretraining texts: give .*ptx_texts="),
        ({}, TEXTS, r"there are pretraining texts but method\.ptx_coef is 0: set it above 0"),
        ({"method__ptx_coef": -1.0}, TEXTS, r"method\.ptx_coef must be a number that is 0 or more, not -1"),
        ({"method__ptx_coef": 0.1}, [], r"fill 0 blocks of train\.seq_length \(32\) tokens, .* takes 8"),
        ({"method__ptx_coef": 0.1, "model__num_layers_unfrozen": 0}, TEXTS, "need a policy that trains"),
        ({"method__ptx_coef": 0.1, "model__model_arch_type": "seq2seq"}, TEXTS, "need a causal model"),
    ],
    ids=["no-texts", "no-weight", "negative", "no-block", "all-frozen", "encoder-decoder"],
)
def test_what_cannot_be_meant(
    tmp_path: Path, tokenizer_folder: str, settings: dict[str, Any], texts: Any, words: str
) -> None:
    with pytest.raises(UserError, match=words) as refused:
        run(ppo_config(tmp_path, tokenizer_folder, **settings), ptx_texts=texts)
    assert "\n" not in str(refused.value)


def test_a_trainer_that_was_given_none_says_so(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder, method__ptx_coef=0.1))
    with pytest.raises(UserError, match="but there are no pretraining texts"):
        trainer.learn()


def test_methods_that_mix_nothing_in_refuse_texts(tokenizer_folder: str) -> None:
    config = default_sft_config().evolve(tokenizer={"tokenizer_path": tokenizer_folder})
    require_limits(config)
    with pytest.raises(UserError, match=r"SFTConfig has no ptx_coef: pretraining texts are mixed in by PPO alone"):
        trlx.train(samples=["a"], config=config, ptx_texts=TEXTS)


def test_adapters_learn_texts_too(tmp_path: Path, tokenizer_folder: str) -> None:
    pytest.importorskip("peft", reason="adapters need peft")
    random_model(seed=3).save_pretrained(tmp_path / "base")
    lora = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj", "v_proj"]}
    model = {"model__model_path": str(tmp_path / "base"), "model__peft_config": lora}
    trainer, before, stats = after_one_step(tmp_path / "run", tokenizer_folder, **model)
    plain, *_ = after_one_step(tmp_path / "run", tokenizer_folder, ptx_coef=0.0, **model)
    apart = {name for name, value in weights(trainer).items() if not torch.equal(value, weights(plain)[name])}
    assert apart and all("lora_" in name for name in apart)
    assert 0 < stats["losses/ptx_loss"] < 100 and before.keys() == weights(trainer).keys()
