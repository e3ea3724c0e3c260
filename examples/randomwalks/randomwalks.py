"""The task: from a given node of a directed graph, reach the goal in as few steps as possible.

Nodes are letters and the goal is "a", so a walk is a word: "gka" goes from g over k to the goal. A policy sees the
first letter and writes the others. It starts as a clone of walks that take edges at random, and is then taught to walk
well: the illustration of the Decision Transformer paper (Chen et al. 2021, arXiv 2106.01345), as in trlX.
"""

from __future__ import annotations

import string
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOAL = 0
Metrics = dict[str, list[float]]


@dataclass(frozen=True)
class Graph:
    """A directed graph, node 0 the goal.

    Args:
        edges: (N, N) bool, edges[i, j] = one can step from i to j.
        max_length: most nodes of a walk, first and last included.
    """

    edges: np.ndarray
    max_length: int

    def shortest(self) -> list[int]:
        """Nodes on the shortest walk from each node to the goal, both included; `max_length` where there is none."""
        lengths = [self.max_length] * len(self.edges)
        lengths[GOAL] = 1
        queue = deque([GOAL])
        while queue:  # breadth first, against the direction of the edges
            node = queue.popleft()
            for before in np.flatnonzero(self.edges[:, node]).tolist():
                if lengths[before] == self.max_length and lengths[node] + 1 < self.max_length:
                    lengths[before] = lengths[node] + 1
                    queue.append(before)
        return lengths

    def length(self, walk: str) -> int | None:
        """Nodes of a walk up to the goal; None when it takes an edge that is not there or never arrives."""
        nodes = [string.ascii_lowercase.find(letter) for letter in walk[: self.max_length]]
        for i, node in enumerate(nodes):
            if not 0 <= node < len(self.edges) or (i > 0 and not self.edges[nodes[i - 1], node]):
                return None
            if node == GOAL:
                return i + 1
        return None


def random_graph(rng: np.random.Generator, n_nodes: int, max_length: int, p_edge: float) -> Graph:
    """A graph from every node of which the goal can be reached in fewer than `max_length` nodes.

    So no start is hopeless and every optimality is defined. The goal leads nowhere.
    """
    while True:
        edges = rng.random((n_nodes, n_nodes)) < p_edge
        np.fill_diagonal(edges, False)
        edges[GOAL] = False
        graph = Graph(edges, max_length)
        if max(graph.shortest()) < max_length:
            return graph


def random_walk(rng: np.random.Generator, graph: Graph) -> str:
    """A walk from a random node along random edges, until the goal or the longest length."""
    node = int(rng.integers(1, len(graph.edges)))
    walk = [node]
    while node != GOAL and len(walk) < graph.max_length:
        node = int(rng.choice(np.flatnonzero(graph.edges[node])))
        walk.append(node)
    return "".join(string.ascii_lowercase[node] for node in walk)


def generate_random_walks(
    n_nodes: int = 21, max_length: int = 10, n_walks: int = 1000, p_edge: float = 0.1, seed: int = 1002
) -> tuple[Callable[..., Metrics], list[str], list[str], Tensor]:
    """The task of one seed.

    Args:
        n_nodes: nodes, at most 26 (letters). max_length: most nodes of a walk.
        n_walks: walks to imitate. p_edge: probability of each edge.

    Returns: (metric_fn, prompts, walks, logit_mask)
        metric_fn(samples, ...): `lengths`, the nodes each walk takes to the goal (100 when it fails), and `optimality`,
            (max_length − length) / (max_length − shortest length): 1 for a shortest walk, 0 for one that fails.
        prompts: every start, one letter each.
        walks: random walks, for behaviour cloning or as offline samples.
        logit_mask: (n_nodes, n_nodes) bool, True = there is an edge.
    """
    if not 1 < n_nodes <= len(string.ascii_lowercase):
        raise ValueError(f"n_nodes must be between 2 and {len(string.ascii_lowercase)}, not {n_nodes}")
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, n_nodes, max_length, p_edge)
    shortest = graph.shortest()

    def metric_fn(samples: Sequence[str], *_: Any, **__: Any) -> Metrics:
        lengths = [graph.length(sample) for sample in samples]
        starts = [string.ascii_lowercase.index(sample[0]) for sample in samples]
        return {
            "lengths": [float(length or 100) for length in lengths],
            "optimality": [
                (max_length - (length or max_length)) / (max_length - shortest[start])
                for length, start in zip(lengths, starts, strict=True)
            ],
        }

    walks = [random_walk(rng, graph) for _ in range(n_walks)]
    prompts = list(string.ascii_lowercase[1:n_nodes])
    return metric_fn, prompts, walks, torch.from_numpy(graph.edges)
