"""The records of PPO: collating, cutting to what is left, packing for a checkpoint, dealing into batches."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_engine import make_rollouts

from trlx.data.ppo_types import PPORLElement, collate, pack, unpack
from trlx.pipeline.ppo_pipeline import PPORolloutStorage, ppo_collate_fn

PAD = 99


def numbered(lengths: list[tuple[int, int]], hidden: int = 0) -> list[PPORLElement]:
    """One element for each (prompt, response) length; every entry of row n holds n, from 1."""
    elements = []
    for number, (prompt, response) in enumerate(lengths, start=1):
        row = torch.full((response,), float(number))
        trunk = torch.full((prompt + response, hidden), float(number)) if hidden else None
        query, ids = torch.full((prompt,), number), torch.full((response,), number)
        elements.append(PPORLElement(query, ids, -row, row, row, ref_logprobs=-row, trunk=trunk, clean=True))
    return elements


def test_prompts_are_padded_left_and_the_rest_right() -> None:
    batch = collate(numbered([(1, 3), (3, 1), (2, 2)], hidden=2), PAD)
    assert batch.query_tensors.tolist() == [[PAD, PAD, 1], [2, 2, 2], [PAD, 3, 3]]
    assert batch.query_mask is not None and batch.response_mask is not None and batch.trunk is not None
    assert batch.query_mask.tolist() == [[False, False, True], [True] * 3, [False, True, True]]
    assert batch.response_tensors.tolist() == [[1, 1, 1], [2, PAD, PAD], [3, 3, PAD]]
    assert batch.response_mask.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    assert batch.values.tolist() == [[1, 1, 1], [2, 0, 0], [3, 3, 0]]
    # prompt and response: padded on both sides, with zeros
    assert batch.trunk[..., 1].tolist() == [[0, 0, 1, 1, 1, 1], [2, 2, 2, 2, 0, 0], [0, 3, 3, 3, 3, 0]]
    assert len(batch) == 3


def test_a_field_is_there_when_every_element_has_it() -> None:
    elements = numbered([(1, 1), (2, 2)], hidden=1)
    elements[1].trunk = elements[0].ref_logprobs = None
    batch = collate(elements, PAD)
    assert set(batch.tensors()) == {
        "query_tensors", "query_mask", "response_tensors", "response_mask", "logprobs", "values", "rewards",
    }  # fmt: skip
    assert "trunk" not in collate(numbered([(1, 1)], hidden=1), PAD, with_trunk=False).tensors()


def test_trlx_s_collate_function_does_the_same() -> None:
    batch = ppo_collate_fn("left", PAD, iter(numbered([(1, 2), (2, 1)])))
    assert batch.query_tensors.tolist() == [[PAD, 1], [2, 2]]
    assert batch.rewards.tolist() == [[1, 1], [2, 0]]


def test_rows_are_cut_to_the_longest_that_is_left() -> None:
    batch = collate(numbered([(4, 1), (1, 5), (2, 3)], hidden=1), PAD)
    part = batch.rows(slice(1, 3))
    assert part.query_tensors.tolist() == [[PAD, 2], [3, 3]]
    assert part.response_tensors.tolist() == [[2, 2, 2, 2, 2], [3, 3, 3, PAD, PAD]]
    assert part.trunk is not None
    assert part.trunk.squeeze(-1).tolist() == [[0, 2, 2, 2, 2, 2, 2], [3, 3, 3, 3, 3, 0, 0]]
    assert batch.rows(slice(0, 1)).trunk.squeeze(-1).tolist() == [[1] * 5]  # type: ignore[union-attr]
    assert batch.query_tensors.shape == (3, 4)  # the original is as it was


sizes = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=9)


@given(sizes, st.integers(1, 9))
def test_cutting_a_batch_is_collating_its_elements(lengths: list[tuple[int, int]], size: int) -> None:
    elements = numbered(lengths, hidden=2)
    whole = collate(elements, PAD)
    for start in range(0, len(elements), size):
        one, other = whole.rows(slice(start, start + size)).tensors(), collate(elements[start : start + size], PAD)
        assert one.keys() == other.tensors().keys()
        for name, value in other.tensors().items():
            assert torch.equal(one[name], value), name


@given(sizes, st.integers(0, 2))
def test_what_is_packed_comes_back(lengths: list[tuple[int, int]], hidden: int) -> None:
    elements = numbered(lengths, hidden)
    for one, other in zip(elements, unpack(pack(elements), "cpu"), strict=True):
        for name, value in vars(one).items():
            back: Any = getattr(other, name)
            assert torch.equal(back, value) if isinstance(value, torch.Tensor) else back == value, name


@given(sizes, st.integers(1, 4), st.integers(0, 2**31))
def test_a_pass_deals_every_row_once_in_even_batches(lengths: list[tuple[int, int]], size: int, seed: int) -> None:
    store = PPORolloutStorage(PAD)
    store.push(numbered(lengths))
    batches = list(store.create_loader(size, shuffle=True, generator=torch.Generator().manual_seed(seed)))
    assert len(batches) == -(-len(lengths) // size)  # depends on the number of rows alone, so that no rank waits
    counts = [len(batch) for batch in batches]
    assert max(counts) <= size and max(counts) - min(counts) <= 1
    dealt = [number for batch in batches for number in batch.rewards[:, 0].int().tolist()]
    assert sorted(dealt) == list(range(1, len(lengths) + 1))


def test_the_order_is_the_generators_and_torch_s_own_is_left_alone() -> None:
    store = PPORolloutStorage(PAD)
    store.push(make_rollouts(12))

    def order(seed: int) -> list[float]:
        loader = store.create_loader(4, shuffle=True, generator=torch.Generator().manual_seed(seed))
        return [reward for batch in loader for reward in batch.rewards[:, 0].tolist()]

    state = torch.get_rng_state()
    assert order(1) == order(1) != order(2)
    # or a resumed run, which starts its loader once more, would sample other responses
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(order(1)) == sorted(element.rewards[0].item() for element in store)
    assert order(1) != [element.rewards[0].item() for element in store]
