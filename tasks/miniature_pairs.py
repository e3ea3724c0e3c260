"""The miniature's preference pairs: references, edited references and samples of the SFT model, labelled by
gold.

A pair is kept when its gold scores differ clearly. In the train, valid1 and second files a tenth of the labels is
turned round, as people's labels are noisy; the test file has none turned. `gold_prefers_chosen` tells the
truth in all of them. `second` is for a reward model that only judges: its posts are of a split of their own.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tasks.gold import gold_score
from tasks.miniature import write_jsonl
from tasks.miniature_text import (
    DETAILS,
    Draft,
    ramble,
    restore,
    with_wrong_value,
    write_summary,
)
from tasks.records import Post
from tasks.scratch_model import refuse_existing
from tasks.tldr import TASK
from trlx.utils.errors import UserError

MARGIN = 0.12  # smallest difference in gold between the two summaries of a pair
SPLITS = ("train", "valid1", "test", "second")


@dataclass
class PairsOptions:
    """Options of `pairs`.

    Args:
        root: `data/{rm,second}_posts.jsonl` and `ckpts/sft` are read, and `data/comparisons_*.jsonl` written, below it.
        sft: folder of the SFT model; null for `<root>/ckpts/sft`.
        seed: decides samples, edits, pairs and which labels are turned round.
        pairs_per_post: most pairs of one post.
        valid1: posts set aside for the pairs that the reward model is evaluated on while it trains.
        test: posts set aside for the pairs whose labels are free of noise.
        noise: share of the labels turned round, except in test.
        samples: texts sampled from the SFT model for each post.
        temperature: of that sampling.
        max_new_tokens: longest sample.
        batch_size: posts sampled at once.
        overwrite: replace the comparisons where they exist.
    """

    root: str = str(Path(__file__).resolve().parents[1])
    sft: str | None = None
    seed: int = 1
    pairs_per_post: int = 3
    valid1: int = 200
    test: int = 300
    noise: float = 0.1
    samples: int = 1
    temperature: float = 1.0
    max_new_tokens: int = 48
    batch_size: int = 128
    overwrite: bool = False


@dataclass(frozen=True)
class Candidate:
    """One summary of a post and where it came from."""

    text: str
    source: str  # "reference", "edited" or "sft"
    gold: float


def edits(rng: random.Random, draft: Draft, reference: str) -> list[str]:
    """Edited references: every detail, some, fewer, and one spoiled (rambling, repeated, cut or with a wrong value)."""
    details = [name for name in DETAILS if name in draft.slots]
    order = rng.sample(details, len(details))
    some = rng.randint(1, len(details) - 1)
    words = reference.split()
    spoiled = (
        ramble(rng, reference),
        f"{reference} {reference}",
        " ".join(words[: rng.randint(len(words) // 2, len(words) - 1)]),
        with_wrong_value(rng, draft, write_summary(rng, draft, order[: rng.randint(0, len(order))])),
    )
    return [
        write_summary(rng, draft, details),
        write_summary(rng, draft, order[:some]),
        write_summary(rng, draft, order[: rng.randint(0, some - 1)]),
        rng.choice(spoiled),
    ]


def candidates(rng: random.Random, post: Post, samples: Sequence[tuple[str, bool]]) -> list[Candidate]:
    """Every distinct summary at hand for a post. `samples`: texts of the SFT model, and whether each ended.

    An edited reference always ends (its EOS is there), so only samples can lose points for being cut off;
    those are left out, because a pair's text cannot say that it was cut.
    """
    draft = restore(post.extra["situation"], post.extra["slots"])
    texts = {text: "edited" for text in edits(rng, draft, post.summary)}
    texts |= {text.strip(): "sft" for text, ended in samples if ended and text.strip()}
    texts |= {post.summary: "reference"}
    return [Candidate(text, source, gold_score(draft.facts, text)) for text, source in texts.items()]


def choose_pairs(rng: random.Random, made: Sequence[Candidate], count: int) -> list[tuple[Candidate, Candidate]]:
    """Up to `count` pairs (better, worse) whose gold differs by `MARGIN` or more; half of them with an SFT sample."""
    both = [pair for pair in itertools.combinations(made, 2) if abs(pair[0].gold - pair[1].gold) >= MARGIN]
    rng.shuffle(both)
    sampled = [pair for pair in both if "sft" in (pair[0].source, pair[1].source)]
    chosen = sampled[: (count + 1) // 2]
    chosen += [pair for pair in both if pair not in chosen][: count - len(chosen)]
    return [(a, b) if a.gold > b.gold else (b, a) for a, b in chosen]


def pair_row(post: Post, better: Candidate, worse: Candidate, turned: bool, name: str) -> dict[str, Any]:
    """One line of a comparisons file; `turned` puts the worse summary first."""
    chosen, rejected = (worse, better) if turned else (better, worse)
    return {
        "id": name,
        "prompt": post.prompt,
        "chosen": chosen.text,
        "rejected": rejected.text,
        "gold_prefers_chosen": not turned,
        "gold_chosen": round(chosen.gold, 4),
        "gold_rejected": round(rejected.gold, 4),
        "sources": f"{chosen.source}/{rejected.source}",
        "facts": post.extra["facts"],
    }


def make_pairs(
    posts: Sequence[Post], samples: Sequence[Sequence[tuple[str, bool]]], count: int, noise: float, rng: random.Random
) -> list[dict[str, Any]]:
    """Rows of one comparisons file. `samples[i]`: the SFT model's texts for post i, and whether each ended."""
    rows = []
    for post, texts in zip(posts, samples, strict=True):
        for number, (better, worse) in enumerate(choose_pairs(rng, candidates(rng, post, texts), count)):
            rows.append(pair_row(post, better, worse, rng.random() < noise, f"{post.id}-{number}"))
    return rows


def sample_model(
    folder: str, posts: Sequence[Post], options: PairsOptions, seed: int, progress: Callable[[int], object]
) -> list[list[tuple[str, bool]]]:
    """`options.samples` texts of the model in `folder` for every post, and whether each ended."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    from trlx.generation.sampling import generate_texts

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    how = {"do_sample": True, "temperature": options.temperature, "max_new_tokens": options.max_new_tokens}
    prompts = [post.prompt for post in posts for _ in range(options.samples)]
    made = [
        (text.text, text.ended) for text in generate_texts(model, tokenizer, prompts, how, options.batch_size, progress)
    ]
    return [made[start : start + options.samples] for start in range(0, len(made), options.samples)]


def write_pairs(options: PairsOptions) -> None:
    """The command `pairs`."""
    data = Path(options.root) / "data"
    sft = Path(options.sft) if options.sft else Path(options.root) / "ckpts" / "sft"
    if not (sft / "config.json").exists():
        raise UserError(f"no SFT model in {sft}: run SFT first, or name its folder with --sft")
    for split in SPLITS:
        refuse_existing(comparisons_file(data, split), options.overwrite)
    posts = TASK.load_posts(str(data / "rm_posts.jsonl"), "rm_posts")
    second = TASK.load_posts(str(data / "second_posts.jsonl"), "second_posts")
    held_out = options.valid1 + options.test
    if len(posts) <= held_out:
        raise UserError(
            f"{data / 'rm_posts.jsonl'}: of its {len(posts)} posts {held_out} are held out: lower --valid1 and --test"
        )
    samples = _sampled("pairs", sft, posts, options, options.seed)
    rng = random.Random(options.seed)
    bounds = {
        "valid1": (0, options.valid1, options.noise),
        "test": (options.valid1, held_out, 0.0),
        "train": (held_out, len(posts), options.noise),
    }
    for split, (start, end, noise) in bounds.items():
        rows = make_pairs(posts[start:end], samples[start:end], options.pairs_per_post, noise, rng)
        _write_split(data, split, rows, end - start)
    # Random numbers of its own, so that the files above do not depend on how many posts this one has.
    rng = random.Random(f"{options.seed} second")
    samples = _sampled("second pairs", sft, second, options, rng.getrandbits(31))
    _write_split(data, "second", make_pairs(second, samples, options.pairs_per_post, options.noise, rng), len(second))


def comparisons_file(data: Path, split: str, name: str = "") -> Path:
    """Where the pairs of a split are; `name` distinguishes those with other labels."""
    return data / f"comparisons_{name}{'_' if name else ''}{split}.jsonl"


def _sampled(
    what: str, sft: Path, posts: Sequence[Post], options: PairsOptions, seed: int
) -> list[list[tuple[str, bool]]]:
    with tqdm(total=len(posts) * options.samples, desc=f"{what}: sampling the SFT model", unit="summary") as bar:
        return sample_model(str(sft), posts, options, seed, bar.update)


def _write_split(data: Path, split: str, rows: Sequence[dict[str, Any]], posts: int) -> None:
    write_jsonl(comparisons_file(data, split), rows)
    turned = sum(not row["gold_prefers_chosen"] for row in rows)
    print(f"comparisons_{split}: {len(rows)} pairs of {posts} posts, {turned} labels turned round")
