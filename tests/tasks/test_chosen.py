"""A share of the rows held out: by prompts, never on both sides, the same at every reading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_model.splits import chosen_rows as chosen_pairs
from reward_model.train_reward_model_gptneo import RewardOptions
from sft.train_gptneo_summarize import SftOptions
from tasks.chosen import Chosen, Part, train_and_valid
from tasks.reading.rows import Skipped
from trlx.utils.errors import UserError

INSTRUCTIONS = [f"Name {number} things." for number in range(40)]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def posts(tmp_path: Path) -> str:
    return write(tmp_path / "posts.jsonl", [{"instruction": text, "response": "These."} for text in INSTRUCTIONS])


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    rows = [{"instruction": text, "chosen": "A good one.", "rejected": "No."} for text in reversed(INSTRUCTIONS)]
    same = {"instruction": "Say it.", "chosen": "Same.", "rejected": "Same."}
    return write(tmp_path / "pairs.jsonl", [*rows, rows[0], same])


def test_the_first_eight_bytes_of_the_hash_decide() -> None:
    place = int(hashlib.sha256(b"a prompt").hexdigest()[:16], 16) / 2**64 * 100
    assert Part(place + 0.001, True).has("a prompt") and not Part(place - 0.001, True).has("a prompt")
    assert Part(place - 0.001, False).has("a prompt") and not Part(place + 0.001, False).has("a prompt")


@given(st.text(), st.floats(0.01, 99.99))
def test_a_prompt_is_on_one_side(prompt: str, percentage: float) -> None:
    part = Part(percentage, True)
    assert part.has(prompt) != part.other.has(prompt)
    if part.has(prompt):
        assert Part(min(percentage * 1.5, 99.999), True).has(prompt)  # a larger share only adds to it


def test_about_that_share_is_held_out() -> None:
    held = sum(Part(30, True).has(f"prompt {number}") for number in range(10_000))
    assert abs(held - 3000) < 5 * (10_000 * 0.3 * 0.7) ** 0.5  # five standard deviations


def test_posts_and_pairs_of_one_prompt_are_on_the_same_side(posts: str, pairs: str) -> None:
    train, valid = Chosen("instruct", posts, "train").divided(25, None, None)
    kept = {post.prompt for post in train.load_posts()}
    held = {post.prompt for post in valid.load_posts()}
    assert not kept & held and len(kept) + len(held) == len(INSTRUCTIONS) and 3 <= len(held) <= 20
    others = Chosen("instruct", pairs, "train").divided(25, None, None)
    assert [{pair.prompt for pair in part.load_pairs()[0]} for part in others] == [kept, held]


def test_pairs_are_counted_by_side(pairs: str) -> None:
    (train, kept), (valid, held) = (
        part.load_pairs() for part in Chosen("instruct", pairs, "train").divided(25, None, None)
    )
    assert kept.kept == len(train) and held.kept == len(valid) and kept.kept + held.kept == 41
    assert kept.identical == held.identical == 1 and kept.total == len(train) + 1 and held.total == len(valid) + 1


def test_limits_count_the_rows_of_a_side(posts: str) -> None:
    train, valid = Chosen("instruct", posts, "train", 5).divided(25, None, 2)
    whole = Chosen("instruct", posts, "train").divided(25, None, None)
    assert [list(part.posts(Skipped())) for part in (train, valid)] == [
        whole[0].load_posts()[:5],
        whole[1].load_posts()[:2],
    ]


def test_the_cache_and_the_warning_tell_the_sides_apart(posts: str) -> None:
    whole = Chosen("instruct", posts, "train")
    train, valid = whole.divided(25, None, None)
    other, _ = whole.divided(26, None, None)
    facts = [json.dumps(chosen.facts, sort_keys=True) for chosen in (whole, train, valid, other)]
    assert len(set(facts)) == 4
    assert not train.same_rows_as(valid) and not valid.same_rows_as(train)
    assert train.same_rows_as(whole) and train.same_rows_as(train) and other.same_rows_as(valid)


@pytest.mark.parametrize("percentage", [0, 100, 150, -1])
def test_a_share_that_leaves_a_side_empty_is_refused(posts: str, percentage: float) -> None:
    with pytest.raises(UserError, match=f"--valid_percentage must be above 0 and below 100, not {percentage}"):
        train_and_valid(SftOptions(task="instruct", data=posts, valid_percentage=percentage), None)


def test_a_share_besides_other_rows_is_refused(posts: str) -> None:
    with pytest.raises(UserError, match="--valid_percentage and --valid_data exclude each other"):
        train_and_valid(SftOptions(task="instruct", data=posts, valid_percentage=5, valid_data=posts), None)


def test_a_share_that_turns_out_to_hold_nothing(posts: str) -> None:
    train, valid = Chosen("instruct", posts, "train").divided(1e-9, None, None)
    assert len(train.load_posts()) == 40
    with pytest.raises(UserError, match=r"--valid_percentage 1e-09 holds out none of 40 rows: raise it"):
        valid.load_posts()
    train, _ = Chosen("instruct", posts, "train").divided(99.9999999, None, None)
    with pytest.raises(UserError, match=r"leaves none to train on of 40 rows: lower it"):
        list(train.posts(Skipped()))


def test_the_test_pairs_are_those_held_out_unless_there_are_others(tmp_path: Path, pairs: str) -> None:
    train, valid, test = chosen_pairs(RewardOptions(task="instruct", data=pairs, valid_percentage=25, test_limit=3))
    assert test.load_pairs()[0] == valid.load_pairs()[0][:3] and not test.same_rows_as(train)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("train", "test"):
        write(folder / f"{name}.jsonl", [{"prompt": f"{name} {n}", "chosen": "Yes.", "rejected": "No."} for n in "12"])
    _, _, test = chosen_pairs(RewardOptions(task="instruct", data=str(folder), valid_percentage=25))
    assert test.split == "test" and test.part is None


def test_a_part_of_rows_of_which_none_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write(path, [{"instruction": " ", "response": "x"}] * 3)
    train, valid = Chosen("instruct", str(path), None, bad_rows="skip").divided(50, None, None)
    for chosen in (train, valid):
        with pytest.raises(UserError, match=r"no usable row \(3 rows skipped"):
            chosen.load_posts()
    write(path, [{"prompt": f"p{number}", "chosen": "Same.", "rejected": "Same."} for number in range(6)])
    with pytest.raises(UserError, match="no usable pair"):
        Chosen("instruct", str(path), None).divided(50, None, None)[0].load_pairs()
