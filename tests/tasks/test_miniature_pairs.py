from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tasks.gold import gold_score
from tasks.miniature import ModelSize, PostsOptions, make_splits, write_posts
from tasks.miniature_pairs import MARGIN, PairsOptions, candidates, make_pairs, write_pairs
from tasks.records import Post
from tasks.tldr import TASK
from trlx.utils.errors import UserError


def some_posts(count: int) -> list[Post]:
    rows = make_splits({"rm_posts": count}, seed=5)["rm_posts"]
    return [
        Post(row["id"], row["prompt"], row["label"], extra={k: row[k] for k in ("facts", "situation", "slots")})
        for row in rows
    ]


def test_candidates_name_their_source_and_leave_out_cut_samples() -> None:
    (post,) = some_posts(1)
    made = candidates(random.Random(0), post, [(" My thing happened.", True), (" My thing was cut", False)])
    by_source = {source: [item.text for item in made if item.source == source] for source in ("sft", "reference")}
    assert by_source == {"sft": ["My thing happened."], "reference": [post.summary]}
    assert len({item.text for item in made}) == len(made) >= 4


def test_labels_follow_gold_and_noise_turns_a_tenth() -> None:
    posts = some_posts(600)
    samples = [[(" My sister did it.", True)]] * len(posts)
    rows = make_pairs(posts, samples, 2, 0.1, random.Random(1))
    assert 1150 < len(rows) <= 1200
    for row in rows:
        difference = row["gold_chosen"] - row["gold_rejected"]
        assert abs(difference) >= MARGIN - 1e-6 and (difference > 0) == row["gold_prefers_chosen"]
        assert row["gold_chosen"] == pytest.approx(gold_score(row["facts"], row["chosen"]), abs=1e-4)
    turned = sum(not row["gold_prefers_chosen"] for row in rows) / len(rows)
    assert 0.07 < turned < 0.13
    assert sum("sft" in row["sources"] for row in rows) / len(rows) > 0.4
    assert all(row["gold_prefers_chosen"] for row in make_pairs(posts[:50], samples[:50], 2, 0.0, random.Random(1)))


def test_the_command_samples_a_model_and_holds_posts_apart(tmp_path: Path) -> None:
    sizes = {
        "sft_train": 300,
        "sft_valid": 5,
        "rm_posts": 20,
        "ppo_train": 5,
        "ppo_valid": 5,
        "test": 5,
        "second_posts": 6,
    }
    size = ModelSize(vocab_size=1500, layers=2, hidden=32, heads=2, window=16, max_positions=256)
    write_posts(PostsOptions(root=str(tmp_path / "run"), model=size, **sizes))  # type: ignore[arg-type]
    options = PairsOptions(root=str(tmp_path / "run"), valid1=5, test=5, max_new_tokens=8)
    with pytest.raises(UserError, match=r"no SFT model in .*ckpts/sft: run SFT first"):
        write_pairs(options)
    shutil.copytree(tmp_path / "run" / "base", tmp_path / "run" / "ckpts" / "sft")
    write_pairs(options)
    prompts = {}
    for split, posts in (("train", 10), ("valid1", 5), ("test", 5), ("second", 6)):
        pairs, counts = TASK.load_pairs(str(tmp_path / "run" / "data" / "comparisons"), split)
        assert 2 * posts <= counts.total <= 3 * posts
        prompts[split] = {pair.prompt for pair in pairs}
        assert split != "test" or all(pair.extra["gold_prefers_chosen"] for pair in pairs)
    first = prompts["train"] | prompts["valid1"] | prompts["test"]
    assert len(first) == 20 and not first & prompts["second"]
    with pytest.raises(UserError, match=r"comparisons_train\.jsonl exists already"):
        write_pairs(options)


def test_the_second_pairs_leave_the_others_as_they_were(tmp_path: Path) -> None:
    """Whatever the number of second posts, the files that the first reward model is trained on keep their bytes."""
    size = ModelSize(vocab_size=1500, layers=2, hidden=32, heads=2, window=16, max_positions=256)
    written = []
    for second in (3, 6):
        root = tmp_path / str(second)
        sizes = {"sft_train": 300, "sft_valid": 5, "rm_posts": 12, "ppo_train": 5, "ppo_valid": 5, "test": 5}
        write_posts(PostsOptions(root=str(root), model=size, second_posts=second, **sizes))  # type: ignore[arg-type]
        shutil.copytree(root / "base", root / "ckpts" / "sft")
        write_pairs(PairsOptions(root=str(root), valid1=4, test=4, max_new_tokens=4))
        files = (f"comparisons_{split}.jsonl" for split in ("train", "valid1", "test", "second"))
        written.append([(root / "data" / name).read_bytes() for name in files])
    assert written[0][:3] == written[1][:3] and written[1][3].startswith(written[0][3][:200])
