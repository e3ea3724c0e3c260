"""From samples and rewards to ILQL's records and batches, indices worked by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_engine import EOS
from transformers import PreTrainedTokenizerFast

from trlx.data.ilql_types import (
    ILQLBatch,
    ILQLElement,
    ILQLSeq2SeqBatch,
    flatten_dataclass,
    ilql_collate_fn,
    unflatten_dataclass,
)
from trlx.pipeline import MiniBatchIterator
from trlx.pipeline.dialogues import DialogMessage
from trlx.pipeline.ilql_storage import ILQLRolloutStorage, ILQLSeq2SeqRolloutStorage
from trlx.pipeline.sharding import rank_batches
from trlx.trainer.accelerate_ilql_trainer import make_experience
from trlx.utils.errors import UserError

# 10 11 | 12 13 | 14 | 15 16 17, and one turn of two actions. Prompts first, outputs second.
TWO_TURNS = [
    DialogMessage(False, (10, 11)),
    DialogMessage(True, (12, 13)),
    DialogMessage(False, (14,)),
    DialogMessage(True, (15, 16, 17)),
]
ONE_TURN = [DialogMessage(False, (20, 21, 22)), DialogMessage(True, (23, 24))]
HALF = math.sqrt(0.5)  # two rewards normalise to ± this: ± d / 2 over d / √2


def lists(rows: list[torch.Tensor]) -> list[list[float]]:
    return [row.tolist() for row in rows]


def test_indices_of_dialogues() -> None:
    store = make_experience([TWO_TURNS, ONE_TURN], [3.0, -1.0])
    assert isinstance(store, ILQLRolloutStorage) and len(store) == 2
    assert lists(store.input_ids) == [[10, 11, 12, 13, 14, 15, 16, 17], [20, 21, 22, 23, 24]]
    # 12 is predicted at position 1, 13 at 2, 15 at 4, 16 at 5, 17 at 6
    assert lists(store.actions_ixs) == [[1, 2, 4, 5, 6], [2, 3]]
    # each action's own position is its state; the state that 13 leads to is that of 15; the end is the last token
    assert lists(store.states_ixs) == [[1, 2, 4, 5, 6, 7], [2, 3, 4]]
    assert lists(store.dones) == [[1, 1, 1, 1, 1, 0], [1, 1, 0]]
    assert store.rewards[0].tolist() == pytest.approx([0, 0, 0, 0, HALF])
    assert store.rewards[1].tolist() == pytest.approx([0, -HALF])
    assert isinstance(store[0], ILQLElement) and store[1].attention_mask.tolist() == [1] * 5


def test_a_dialogue_cut_after_a_prompt_ends_there() -> None:
    store = make_experience([TWO_TURNS[:3], ONE_TURN], [0.0, 1.0])
    assert store.actions_ixs[0].tolist() == [1, 2] and store.states_ixs[0].tolist() == [1, 2, 4]


def test_batches() -> None:
    store = make_experience([TWO_TURNS, ONE_TURN], [3.0, -1.0])
    batch = next(iter(store.create_loader(2, shuffle=False)))
    assert isinstance(batch, ILQLBatch) and len(batch) == 2
    assert batch.input_ids[1].tolist() == [20, 21, 22, 23, 24, 0, 0, 0]
    assert batch.attention_mask.sum(dim=1).tolist() == [8, 5]
    assert batch.actions.tolist() == [[12, 13, 15, 16, 17], [23, 24, 21, 21, 21]]  # pads read some token
    assert batch.action_mask.tolist() == [[True] * 5, [True, True, False, False, False]]
    part = batch.rows(slice(1, 2))
    assert {name: value.tolist() for name, value in vars(part).items()} == {
        "input_ids": [[20, 21, 22, 23, 24]],
        "attention_mask": [[1] * 5],
        "rewards": [pytest.approx([0, -HALF])],
        "states_ixs": [[2, 3, 4]],
        "actions_ixs": [[2, 3]],
        "dones": [[1, 1, 0]],
    }
    assert len(batch.rows(slice(2, 4))) == 0


def test_microbatches_lose_nothing() -> None:
    store = make_experience([TWO_TURNS, ONE_TURN, ONE_TURN], [3.0, -1.0, 0.0])
    parts = [part for step in MiniBatchIterator(store.create_loader(3, shuffle=False), 2, 2) for part in step]
    assert [len(part) for part in parts] == [2, 1]
    assert torch.cat([part.actions[part.action_mask] for part in parts]).tolist() == [
        12,
        13,
        15,
        16,
        17,
        23,
        24,
        23,
        24,
    ]


def test_an_encoder_decoder_starts_before_the_output() -> None:
    store = make_experience([ONE_TURN], [1.0], decoder_start_token_id=7)
    assert isinstance(store, ILQLSeq2SeqRolloutStorage)
    batch = next(iter(store.create_loader(1)))
    assert isinstance(batch, ILQLSeq2SeqBatch)
    assert batch.input_ids.tolist() == [[20, 21, 22]]
    assert batch.decoder_input_ids.tolist() == [[7, 23, 24]]
    # 23 is predicted at the start token, 24 at 23; the end is after 24
    assert batch.actions_ixs.tolist() == [[0, 1]] and batch.states_ixs.tolist() == [[0, 1, 2]]
    assert batch.actions.tolist() == [[23, 24]] and batch.dones.tolist() == [[1, 1, 0]]
    with pytest.raises(UserError, match="one prompt and one output"):
        make_experience([TWO_TURNS], [1.0], decoder_start_token_id=7)


def test_microbatches_of_an_encoder_decoder_are_cut() -> None:
    longer = [DialogMessage(False, (1,)), DialogMessage(True, (30, 31, 32, 33))]
    store = make_experience([ONE_TURN, longer], [1.0, 2.0], decoder_start_token_id=7)
    batch = next(iter(store.create_loader(2, shuffle=False)))
    assert batch.rows(slice(0, 1)).decoder_input_ids.tolist() == [[7, 23, 24]]
    assert batch.rows(slice(1, 2)).input_ids.tolist() == [[1]]


def test_texts(tokenizer: PreTrainedTokenizerFast) -> None:
    store = make_experience(["ab", ("abc", "de"), ["x", "y", "z", "w"]], [1, 0, 0.5], tokenizer)
    a, b, c, d, e = tokenizer("abcde")["input_ids"]
    assert store.input_ids[0].tolist() == [EOS, a, b, EOS]  # the beginning-of-text token is the prompt
    assert store.actions_ixs[0].tolist() == [0, 1, 2]
    assert store.input_ids[1].tolist() == [a, b, c, d, e, EOS] and store.actions_ixs[1].tolist() == [2, 3, 4]
    assert store.actions_ixs[2].tolist() == [0, 2, 3]
    assert [rewards[-1].item() for rewards in store.rewards] == pytest.approx([1.0, -1.0, 0.0])  # std of 0, ½, 1 is ½


def test_the_lengths_are_shown(tokenizer: PreTrainedTokenizerFast, capsys: pytest.CaptureFixture[str]) -> None:
    make_experience([("ab", "c"), ("abcd", "efg")], [1, 0], tokenizer)
    # with EOS: prompts 2 and 4, outputs 2 and 4, samples 4 and 8
    shown = capsys.readouterr().out
    assert "3.00 [2, 4]" in shown and "6.00 [4, 8]" in shown
    make_experience([("ab", "c")], [1], tokenizer, verbose=False)
    assert capsys.readouterr().out == ""


def test_equal_and_single_rewards_become_zero() -> None:
    for rewards in ([2.5], [0.1, 0.1, 0.1]):
        store = make_experience([ONE_TURN] * len(rewards), rewards)
        assert all(row.abs().max() == 0 for row in store.rewards)


def test_samples_without_output_are_left_out(tokenizer: PreTrainedTokenizerFast) -> None:
    samples = [("long prompt", "a"), ("p", "a"), ("q", "b")]
    with pytest.warns(UserWarning, match="1 samples have no output within 5 tokens"):
        store = make_experience(samples, [100, 1, 0], tokenizer, max_length=5)
    assert len(store) == 2 and store.rewards[0][-1].item() == pytest.approx(HALF)  # nor does its reward count
    with pytest.raises(UserError, match="no sample has an output within 3 tokens"):
        make_experience(samples[:1], [1], tokenizer, max_length=3)


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ([1.0], "there are 2 samples but 1 rewards"),
        ([1.0, float("nan")], r"rewards\[1\] is nan: it must be a finite number"),
        ([1.0, None], r"rewards\[1\] is None"),
        (["high", 1.0], r"rewards\[0\] is 'high'"),
        ([[1.0, 2.0], 1.0], r"rewards\[0\] is \[1.0, 2.0\]"),
    ],
)
def test_rewards_that_cannot_be(rewards: list[object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_experience([ONE_TURN, TWO_TURNS], rewards)  # type: ignore[arg-type]


lengths = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=9)


@given(lengths, st.integers(1, 4), st.integers(1, 3))
def test_every_action_is_learned_from(sizes: list[tuple[int, int]], batch_size: int, world: int) -> None:
    samples = []
    for number, (prompt, output) in enumerate(sizes):
        said = tuple(100 * (number + 1) + i for i in range(output))
        samples.append([DialogMessage(False, (1,) * prompt), DialogMessage(True, said)])
    store = make_experience(samples, [float(i) for i in range(len(sizes))])
    seen = set()
    for rank in range(world):
        batches = rank_batches(len(store), batch_size, (3,), rank, world)
        for batch in store.create_loader(batch_size, batches=batches):
            assert len(batch) <= batch_size
            seen |= set(batch.actions[batch.action_mask].tolist())
    assert seen == {token for sample in samples for token in sample[1].tokens}


def test_records_as_lists() -> None:
    store = make_experience([ONE_TURN], [1.0])
    flat = flatten_dataclass(ILQLElement)(store[0])
    again = unflatten_dataclass(ILQLElement)(flat)
    assert torch.equal(ilql_collate_fn([again]).input_ids[0], store[0].input_ids) and len(flat) == 6
