"""Hashes of the posts that a reward model was trained on."""

from pathlib import Path

import numpy as np
import pytest

from reward_model.provenance import POSTS_FILE, post_hashes, shared_posts, write_training_posts
from trlx.utils.errors import UserError

A, B, C = "POST: a\nTL;DR:", "POST: b\nTL;DR:", "POST: ü😀\nTL;DR:"


def test_hashes_are_sorted_unique_and_the_same_everywhere() -> None:
    hashes = post_hashes([B, A, C, A])
    assert hashes.dtype == np.uint64 and len(hashes) == 3 and (np.diff(hashes) > 0).all()
    # BLAKE2b with 8 bytes of b"post: a tl;dr:", read as a little-endian number (b2sum -l 64)
    assert post_hashes([A])[0] == np.uint64(0x7AB614A073A45D15)
    assert len(post_hashes([])) == 0


def test_case_and_white_space_do_not_count() -> None:
    assert post_hashes(["POST: a\n\nTL;DR:"]) == post_hashes([" post:  A TL;DR: "])


def test_shared_posts_with_prompts_and_with_another_model(tmp_path: Path) -> None:
    one, two, none = tmp_path / "one", tmp_path / "two", tmp_path / "none"
    for folder in (one, two, none):
        folder.mkdir()
    assert write_training_posts(one, [A, B, A]) == 2 and write_training_posts(two, [B, C]) == 2
    assert shared_posts(one, two) == 1 and shared_posts(one, str(two)) == 1
    assert shared_posts(one, [A, A, C]) == 1 and shared_posts(one, []) == 0
    assert shared_posts(one, none) is None and shared_posts(none, [A]) is None
    assert [path.name for path in one.iterdir()] == [POSTS_FILE]


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01"])
def test_a_broken_file_names_itself(tmp_path: Path, content: bytes) -> None:
    (tmp_path / POSTS_FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"training_posts\.npy.*copy it anew"):
        shared_posts(tmp_path, [A])


def test_an_array_of_something_else_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / POSTS_FILE, np.zeros((2, 2)))
    with pytest.raises(UserError, match=r"training_posts\.npy"):
        shared_posts(tmp_path, [A])
