"""Dealing prompts to ranks: nothing twice in a pass, the same for a seed, resumable by position alone."""

from hypothesis import given
from hypothesis import strategies as st

from trlx.pipeline.sampler import PromptSampler


def deal(size: int, seed: int, world: int, counts: list[int]) -> list[list[int]]:
    """What all ranks together take, call by call, in rank order."""
    ranks = [PromptSampler(size, seed, rank, world) for rank in range(world)]
    return [[index for rank in ranks for index in rank.take(count)] for count in counts]


@given(st.integers(1, 30), st.integers(0, 5), st.integers(1, 4), st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_every_pass_holds_every_prompt_once(size: int, seed: int, world: int, counts: list[int]) -> None:
    dealt = [index for call in deal(size, seed, world, counts) for index in call]
    for start in range(0, len(dealt) - size + 1, size):
        assert sorted(dealt[start : start + size]) == list(range(size))
    last = dealt[len(dealt) - len(dealt) % size :]
    assert len(set(last)) == len(last)


def test_ranks_get_different_prompts() -> None:
    first, second = (PromptSampler(100, 7, rank, 2) for rank in range(2))
    for _ in range(5):
        assert not set(first.take(10)) & set(second.take(10))


@given(st.integers(1, 30), st.integers(1, 3), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_it_goes_on_from_its_position(size: int, world: int, counts: list[int]) -> None:
    for rank in range(world):
        going_on = PromptSampler(size, 3, rank, world)
        for count in counts:
            going_on.take(count)
        resumed = PromptSampler(size, 3, rank, world)
        resumed.position = going_on.position
        assert resumed.take(2 * size) == going_on.take(2 * size)


def test_the_order_depends_on_the_seed_and_changes_with_each_pass() -> None:
    one, same, other = PromptSampler(50, 1), PromptSampler(50, 1), PromptSampler(50, 2)
    first_pass = one.take(50)
    assert first_pass == same.take(50) != other.take(50)
    assert one.take(50) != first_pass != sorted(first_pass)


def test_the_number_of_ranks_does_not_change_the_global_order() -> None:
    alone = deal(13, 5, 1, [8, 8, 8])
    assert deal(13, 5, 2, [4, 4, 4]) == alone == deal(13, 5, 4, [2, 2, 2])
