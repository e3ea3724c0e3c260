"""The random walks: lengths and optimality on a graph drawn by hand, and properties of the graphs that are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.randomwalks import generate_random_walks
from examples.randomwalks.randomwalks import Graph
from examples.randomwalks.start import letter_tokenizer

# d → c → b → a, d → b, c → c is no edge: the shortest from d is d b a, three nodes; e leads nowhere.
HAND = np.zeros((5, 5), dtype=bool)
for first, second in ("dc", "cb", "ba", "db"):
    HAND["abcde".index(first), "abcde".index(second)] = True


def test_shortest_walks_by_hand() -> None:
    assert Graph(HAND, max_length=10).shortest() == [1, 2, 3, 3, 10]
    assert Graph(HAND, max_length=3).shortest() == [1, 2, 3, 3, 3]  # 3 nodes is the limit itself


@pytest.mark.parametrize(
    ("walk", "length"),
    [
        ("dba", 3),
        ("dcba", 4),
        ("dba</s>", 3),  # what follows the goal does not count
        ("dbaxx", 3),
        ("dca", None),  # no edge from c to a
        ("db", None),  # never arrives
        ("db</s>a", None),
        ("dz", None),
        ("", None),
    ],
)
def test_length_of_a_walk(walk: str, length: int | None) -> None:
    assert Graph(HAND, max_length=10).length(walk) == length


def test_walks_beyond_the_longest_fail() -> None:
    assert Graph(HAND, max_length=3).length("dcba") is None


def test_optimality_of_shortest_longer_and_failed_walks() -> None:
    metric_fn, prompts, _, logit_mask = generate_random_walks(seed=7)
    graph = Graph(logit_mask.numpy(), max_length=10)
    shortest = graph.shortest()
    for start in prompts:
        node = ord(start) - ord("a")
        walk = [node]
        while walk[-1]:  # downhill in distance is a shortest walk
            walk.append(min(np.flatnonzero(logit_mask[walk[-1]]), key=lambda to: shortest[to]))
        word = "".join(chr(ord("a") + to) for to in walk)
        good = metric_fn([word, start], prompts=[start, start], tokenizer=None)
        assert good["optimality"] == [1.0, 0.0]
        assert good["lengths"] == [shortest[node], 100.0]
    # One node more than the shortest, of at most 10: (10 − (s + 1)) / (10 − s).
    loops = [w for w in generate_random_walks(seed=7)[2] if graph.length(w) == shortest[ord(w[0]) - 97] + 1]
    best = shortest[ord(loops[0][0]) - 97]
    assert metric_fn(loops[:1])["optimality"] == [pytest.approx((9 - best) / (10 - best))]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_every_task_is_whole(seed: int) -> None:
    metric_fn, prompts, walks, logit_mask = generate_random_walks(seed=seed, n_walks=50)
    assert prompts == list("bcdefghijklmnopqrstu")
    assert logit_mask.shape == (21, 21)
    assert not logit_mask[0].any()  # the goal leads nowhere
    assert not logit_mask.diagonal().any()
    assert max(Graph(logit_mask.numpy(), 10).shortest()) < 10
    metrics = metric_fn(walks)
    assert all(0.0 <= optimality <= 1.0 for optimality in metrics["optimality"])
    for walk, length in zip(walks, metrics["lengths"], strict=True):
        assert length == (len(walk) if walk.endswith("a") else 100)
        assert walk.endswith("a") or len(walk) == 10
    again = generate_random_walks(seed=seed, n_walks=50)
    assert again[2] == walks
    assert again[3].equal(logit_mask)


def test_too_many_nodes() -> None:
    with pytest.raises(ValueError, match="n_nodes must be between 2 and 26, not 27"):
        generate_random_walks(n_nodes=27)


def test_letters_are_tokens() -> None:
    tokenizer = letter_tokenizer()
    ids = tokenizer("bca</s>")["input_ids"]
    assert ids == [1, 2, 0, 21]
    assert len(tokenizer) == 23
    assert tokenizer.decode(ids, skip_special_tokens=True) == "bca"
    assert tokenizer.pad_token_id == 22
