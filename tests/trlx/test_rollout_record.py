"""The record of rollouts: joining, cutting, and dealing rows into batches."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_engine import make_rollouts

from trlx.data.rollout import Rollouts


def numbered(
    lengths: list[tuple[int, int]], extra: tuple[int, int] = (0, 0), first: int = 1, hidden: int = 0
) -> Rollouts:
    """One row for each (prompt, response) length; every real entry of a row holds the row's number."""
    prompt = max(p for p, _ in lengths) + extra[0]
    response = max(r for _, r in lengths) + extra[1]
    prompts, responses = torch.tensor(lengths).unbind(1)
    number = torch.arange(first, first + len(lengths)).unsqueeze(1)
    query_mask = torch.arange(prompt) >= prompt - prompts.unsqueeze(1)
    response_mask = torch.arange(response) < responses.unsqueeze(1)
    real = torch.cat([query_mask, response_mask], 1)
    filled = (number * response_mask).float()
    return Rollouts(
        query=number * query_mask,
        query_mask=query_mask,
        response=number * response_mask,
        response_mask=response_mask,
        logprobs=-filled,
        ref_logprobs=-filled,
        values=filled,
        scores=number.squeeze(1).float(),
        trunk=(number * real).float().unsqueeze(-1).repeat(1, 1, hidden) if hidden else None,
    )


def test_joining_pads_prompts_left_and_the_rest_right() -> None:
    joined = Rollouts.join([numbered([(1, 3)], hidden=2), numbered([(3, 1), (2, 2)], first=5, hidden=2)])
    assert joined.query.tolist() == [[0, 0, 1], [5, 5, 5], [0, 6, 6]]
    assert joined.query_mask.tolist() == [[False, False, True], [True] * 3, [False, True, True]]
    assert joined.response.tolist() == [[1, 1, 1], [5, 0, 0], [6, 6, 0]]
    assert joined.response_mask.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    assert joined.values.tolist() == [[1, 1, 1], [5, 0, 0], [6, 6, 0]]
    assert joined.scores.tolist() == [1, 5, 6]
    assert joined.trunk is not None  # prompt and response: padded on both sides, with zeros
    assert joined.trunk[..., 1].tolist() == [[0, 0, 1, 1, 1, 1], [5, 5, 5, 5, 0, 0], [0, 6, 6, 6, 6, 0]]
    assert joined.input_ids.tolist() == joined.trunk[..., 0].long().tolist()
    assert joined.attention_mask.tolist() == joined.input_ids.gt(0).long().tolist()


def test_joining_leaves_absent_fields_absent() -> None:
    joined = Rollouts.join([numbered([(1, 1)]), numbered([(2, 2)])])
    assert joined.trunk is None and joined.rewards is None
    assert set(joined.tensors()) == {
        "query", "query_mask", "response", "response_mask", "logprobs", "ref_logprobs", "values", "scores",
    }  # fmt: skip


def test_selecting_cuts_to_the_longest_that_is_left() -> None:
    rows = numbered([(4, 1), (1, 5), (2, 3)], extra=(2, 2), hidden=1)
    chosen = rows.select(torch.tensor([2, 1]))
    assert chosen.query.tolist() == [[3, 3], [0, 2]]
    assert chosen.response.tolist() == [[3, 3, 3, 0, 0], [2, 2, 2, 2, 2]]
    assert chosen.scores.tolist() == [3, 2]
    assert chosen.trunk is not None
    assert chosen.trunk.squeeze(-1).tolist() == [[3, 3, 3, 3, 3, 0, 0], [0, 2, 2, 2, 2, 2, 2]]
    assert rows.query.shape == (3, 6)  # the original is as it was


def test_dense_scores_are_cut_and_padded_like_tokens() -> None:
    dense = numbered([(1, 2), (1, 4)])
    dense.scores = dense.values.clone()
    assert dense.select(torch.tensor([0])).scores.tolist() == [[1, 1]]
    joined = Rollouts.join([dense, Rollouts(**{**numbered([(1, 1)]).tensors(), "scores": torch.ones(1, 1)})])
    assert joined.scores.shape == (3, 4)


sizes = st.integers(1, 20)


@given(sizes, st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**31))
def test_a_pass_deals_every_row_once_in_a_fixed_number_of_parts(n: int, steps: int, parts: int, seed: int) -> None:
    rows = numbered([(1 + i % 3, 1 + i % 4) for i in range(n)])
    batches = list(rows.batches(steps, parts, torch.Generator().manual_seed(seed)))
    assert [len(batch) for batch in batches] == [parts] * steps  # whatever N, so that no rank waits
    real = [part for batch in batches for part in batch if part.response_mask.any()]
    assert sorted(number for part in real for number in part.scores.tolist()) == list(range(1, n + 1))
    counts = [sum(len(part) for part in batch if part.response_mask.any()) for batch in batches]
    assert max(counts) - min(counts) <= 1
    for batch in batches:
        for part in batch:
            if not part.response_mask.any():  # stands in for a missing row: something to run, nothing to learn
                assert len(part) == 1 and part.query_mask.any()


def test_the_order_is_the_generators() -> None:
    rows = make_rollouts(12)

    def order(seed: int) -> list[float]:
        batches = rows.batches(3, 2, torch.Generator().manual_seed(seed))
        return [score for batch in batches for part in batch for score in part.scores.tolist()]

    assert order(1) == order(1) != order(2)
    assert order(1) != rows.scores.tolist()
