"""A pass over a store, dealt to ranks."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from trlx.pipeline.sharding import rank_batches

sizes, keys = st.integers(1, 50), st.tuples(st.integers(0, 9), st.integers(0, 9))


@given(sizes, st.integers(1, 8), keys, st.integers(1, 4))
def test_ranks_get_equally_many_rows_in_every_step_and_together_all(
    size: int, batch_size: int, key: tuple[int, int], world: int
) -> None:
    ranks = [rank_batches(size, batch_size, key, rank, world) for rank in range(world)]
    for step in zip(*ranks, strict=True):
        assert len({len(batch) for batch in step}) == 1 and 1 <= len(step[0]) <= batch_size
    rows = [row for batches in ranks for batch in batches for row in batch]
    assert set(rows) == set(range(size))
    assert len(rows) - size < world  # what comes twice


@given(st.integers(1, 6), st.integers(1, 3), keys, st.sampled_from([2, 3]))
def test_a_step_is_the_same_rows_for_any_number_of_ranks(
    steps: int, batch_size: int, key: tuple[int, int], world: int
) -> None:
    size = steps * batch_size * world
    alone = rank_batches(size, batch_size * world, key)
    ranks = [rank_batches(size, batch_size, key, rank, world) for rank in range(world)]
    assert alone == [list(itertools.chain(*step)) for step in zip(*ranks, strict=True)]


def test_the_order_follows_from_the_key_alone() -> None:
    first, again, other = (rank_batches(20, 4, key) for key in ((1, 0, 0), (1, 0, 0), (1, 1, 0)))
    assert first == again != other
