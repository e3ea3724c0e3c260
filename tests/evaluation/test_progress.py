"""Finished work of an evaluation: nothing is done twice that still holds, and nothing else is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.progress import Progress, model_facts

CHUNKS = [[2, 0], [1, 4], [3]]


class Work:
    """Squares of the posts' numbers; stops like a kill at a given chunk."""

    def __init__(self, stop_at: int | None = None):
        self.stop_at, self.asked = stop_at, list[int]()

    def __call__(self, number: int, posts: Sequence[int]) -> list[int]:
        if number == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(number)
        return [post * post for post in posts]


def test_values_are_in_the_order_of_the_posts(tmp_path: Path) -> None:
    told: list[int] = []
    assert Progress(tmp_path / "p", True).complete("w", 1, CHUNKS, Work(), told.append) == [0, 1, 4, 9, 16]
    assert told == [2, 2, 1]


def test_goes_on_after_the_last_finished_chunk(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Progress(tmp_path / "p", False).complete("w", {"a": 1}, CHUNKS, Work(stop_at=2))
    progress, work = Progress(tmp_path / "p", True), Work()
    assert progress.complete("w", {"a": 1}, CHUNKS, work) == [0, 1, 4, 9, 16]
    assert work.asked == [2]
    assert progress.reused == 4


@pytest.mark.parametrize("other", ["facts", "chunks", "fresh"])
def test_other_work_is_done_anew(tmp_path: Path, other: str) -> None:
    Progress(tmp_path / "p", False).complete("w", 1, CHUNKS, Work())
    work = Work()
    chunks = [[0, 1, 2, 3, 4]] if other == "chunks" else CHUNKS
    Progress(tmp_path / "p", other != "fresh").complete("w", 2 if other == "facts" else 1, chunks, work)
    assert work.asked == list(range(len(chunks)))


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 400))
def test_a_file_cut_anywhere_counts_as_far_as_it_goes(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("p")
    Progress(folder, False).complete("w", "ü\u2028", CHUNKS, Work())
    path = folder / "w.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    work = Work()
    assert Progress(folder, True).complete("w", "ü\u2028", CHUNKS, work) == [0, 1, 4, 9, 16]
    assert len(work.asked) == 3 - max(0, whole[:cut].count(b"\n") - 1)
    assert path.read_bytes() == whole


def test_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 1e-300, -0.0, float("nan")]
    made = [Progress(tmp_path / "p", True).complete("w", 1, [[0, 1, 2, 3]], lambda *_: values) for _ in range(2)]
    assert list(map(repr, made[0])) == list(map(repr, made[1])) == list(map(repr, values))


def test_clear_leaves_nothing(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "p", False)
    progress.complete("w", 1, CHUNKS, Work())
    progress.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_model_trained_anew_is_another(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "model.safetensors").write_bytes(b"1" * 8)
    before = model_facts(str(tmp_path))
    assert before == model_facts(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"2" * 9)
    assert model_facts(str(tmp_path)) != before
    assert model_facts("EleutherAI/gpt-neo-125M") == "EleutherAI/gpt-neo-125M"
