"""The miniature: TL;DR-style posts that the project writes itself, with known facts and a gold score.

    python -m tasks.miniature posts --root runs/demo --seed 1      posts of every split, tokenizer, random GPT-Neo
    python -m tasks.miniature pairs --root runs/demo               preference pairs, after SFT
    python -m tasks.miniature relabel --root runs/demo --name biased --length_bias 1    the same pairs, other labels

Everything follows from the seed. The columns are those of the real data (prompt, label) and, beside them, the facts of
the post, the situation and its slots. Left out: nothing is downloaded, and no part of it is a real person's post.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tasks.form import response_text
from tasks.miniature_situations import situations
from tasks.miniature_text import Draft, draw, write_post, write_reference
from tasks.scratch_model import ModelSize, refuse_existing, save_base
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError, run_main
from trlx.utils.files import replacing_folder, write_text

Row = dict[str, Any]
# In the order they are drawn: a new one goes to the end, or every later split would have other rows for the same seed.
SPLITS = ("sft_train", "sft_valid", "rm_posts", "ppo_train", "ppo_valid", "test", "second_posts")


@dataclass
class PostsOptions:
    """Options of `posts`.

    Args:
        root: `data/` and `base/` are written below it.
        seed: decides posts, references and random weights.
        sft_train: posts to fine-tune on.
        sft_valid: posts to evaluate SFT on.
        rm_posts: posts for preference pairs.
        ppo_train: posts whose prompts PPO samples from.
        ppo_valid: posts to evaluate PPO on while it trains.
        test: posts that no stage sees.
        second_posts: posts for the preference pairs of a second reward model, which only judges.
        model: size of the tokenizer and of the random model.
        overwrite: replace `data/` and `base/` where they exist.
    """

    root: str = str(Path(__file__).resolve().parents[1])
    seed: int = 1
    sft_train: int = 8000
    sft_valid: int = 200
    rm_posts: int = 2400
    ppo_train: int = 4000
    ppo_valid: int = 200
    test: int = 400
    second_posts: int = 1000
    model: ModelSize = field(default_factory=ModelSize)
    overwrite: bool = False


def make_splits(sizes: Mapping[str, int], seed: int) -> dict[str, list[Row]]:
    """Rows of every split; no two posts of any split share situation and slots.

    The situations are gone through in shuffled rounds, so that each split has all of them, as evenly as its size
    allows.
    """
    rng = random.Random(seed)
    seen: set[tuple[str, ...]] = set()
    splits = {}
    for split, size in sizes.items():
        progress = tqdm(range(size), desc=f"posts: {split}", unit="post", leave=False)
        round_: list[Any] = []
        rows = []
        for number in progress:
            round_ = round_ or rng.sample(situations(), len(situations()))
            about = round_.pop()
            draft = draw(rng, about)
            while draft.key in seen:
                draft = draw(rng, about)
            seen.add(draft.key)
            rows.append(make_row(rng, draft, f"{split}-{number}"))
        splits[split] = rows
    check_leakage(splits)
    return splits


def make_row(rng: random.Random, draft: Draft, name: str) -> Row:
    """One line of a posts file."""
    return {
        "id": name,
        "prompt": write_post(rng, draft),
        "label": write_reference(rng, draft),
        "facts": draft.facts,
        "situation": draft.situation.id,
        "slots": draft.slots,
    }


def check_leakage(splits: Mapping[str, Iterable[Row]]) -> None:
    """Assert that no prompt, and no situation with the same slot values, occurs twice, in one split or in two.

    Raises: UserError naming the two rows.
    """
    seen: dict[Any, str] = {}
    for rows in splits.values():
        for row in rows:
            slots = tuple(sorted((name, value) for name, value in row["slots"].items() if value is not None))
            for key in (row["prompt"], (row["situation"], slots)):
                if key in seen:
                    raise UserError(f"leakage: {seen[key]} and {row['id']} are the same post: generate the data anew")
                seen[key] = row["id"]


def write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    """One JSON object a line, the whole file or nothing."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_posts(options: PostsOptions) -> None:
    """The command `posts`."""
    root = Path(options.root)
    for name in ("data", "base"):
        refuse_existing(root / name, options.overwrite)
    splits = make_splits({split: getattr(options, split) for split in SPLITS}, options.seed)
    root.mkdir(parents=True, exist_ok=True)
    with replacing_folder(root / "data") as folder:
        for split, rows in splits.items():
            write_jsonl(folder / f"{split}.jsonl", rows)
    texts = [row["prompt"] + response_text(row["label"]) for row in splits["sft_train"]]
    save_base(root / "base", texts, options.model, options.seed)
    print(
        f"{sum(map(len, splits.values()))} posts of {len(situations())} situations written to {root / 'data'}, no leak"
    )
    print(f"tokenizer and random GPT-Neo written to {root / 'base'}")


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    command, rest = (argv[0], argv[1:]) if argv else ("", [])
    if command == "posts":
        write_posts(parse_config(PostsOptions, "Write the miniature's posts, tokenizer and random model.", rest))
    elif command == "pairs":
        # Here, not above: what makes pairs needs the miniature's rows.
        from tasks.miniature_pairs import PairsOptions, write_pairs

        write_pairs(parse_config(PairsOptions, "Write the miniature's preference pairs.", rest))
    elif command == "relabel":
        from tasks.miniature_labels import LabelOptions, write_labels

        write_labels(parse_config(LabelOptions, "Label the miniature's pairs anew, in favour of length.", rest))
    else:
        raise UserError("give a command: `python -m tasks.miniature posts`, `pairs` or `relabel` (each has --help)")


if __name__ == "__main__":
    run_main(main)
