"""Where the exercise's reviews and models are from: made on the spot, trained on files of IMDB, or the hub's.

Two judges are trained on files, each on the reviews of half of the films: one gives the reward, the other is never
trained against.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples import sentiments_miniature as tiny
from examples.sentiment_steering.from_scratch import Size, make_judge, make_writer, named_by, pieces
from examples.sentiment_steering.options import Options
from tasks.sentiment import TASK
from trlx.data.default_configs import default_ppo_config
from trlx.utils.errors import UserError

PIECE = 48  # words of a review that a model made from scratch reads at once
WRITER = Size(vocabulary=4000, layers=3, width=128, positions=96, steps=800, batch=32, rate=3e-3)
JUDGE = Size(vocabulary=8000, layers=1, width=128, positions=96, steps=800, batch=64, rate=1e-3)
TINY_JUDGE = Size(vocabulary=400, layers=1, width=32, positions=64, steps=200, batch=64, rate=3e-3)

QUIET: dict[str, Any] = {
    "train.tracker": None,
    "train.save_best": False,
    "train.resume_interval": 0,
    "train.checkpoint_interval": 1_000_000,
}
SMALL_PPO: dict[str, Any] = {
    "model.num_layers_unfrozen": -1,
    "train.seq_length": 64,
    "train.batch_size": 64,
    "train.total_steps": 100,
    "train.eval_interval": 100,
    "method.num_rollouts": 64,
    "method.chunk_size": 64,
    "method.init_kl_coef": 0.02,
    "optimizer.kwargs.lr": 5e-4,
    "scheduler.kwargs.eta_min": 5e-4,
}


@dataclass
class Reviews:
    """Whole texts, and 1 for a positive, 0 for a negative one; films tell whose they are, where that is known."""

    texts: list[str]
    labels: list[int]
    films: list[str] = field(default_factory=list)

    def half(self, which: int) -> Reviews:
        """The reviews of every second film, or every second review: which = 0 or 1."""
        names = self.films or [str(number) for number in range(len(self.texts))]
        rows = [row for row, name in enumerate(names) if zlib.crc32(name.encode()) % 2 == which]
        return Reviews([self.texts[row] for row in rows], [self.labels[row] for row in rows])

    def every(self, step: int) -> Reviews:
        """The first review and every `step`-th after it."""
        return Reviews(self.texts[::step], self.labels[::step], self.films[::step])

    def in_pieces(self, words: int) -> Reviews:
        """Each review's pieces, labelled as it is."""
        pairs = zip(self.texts, self.labels, strict=True)
        cut = [(piece, label) for text, label in pairs for piece in pieces(text, words)]
        return Reviews([piece for piece, _ in cut], [label for _, label in cut])


@dataclass
class Material:
    """What the exercise works with.

    Args:
        train, heldout: reviews; no film is in both where the data keep them apart.
        writer: folder or hub id of the language model. judge: of the classifier that gives the reward.
        second: of a classifier that no reward comes from; None where there is none.
        settings: of PPO, dotted. count: prompts of each kind in the tables. piece: words of a text for the judge.
    """

    train: Reviews
    heldout: Reviews
    writer: str
    judge: str
    second: str | None
    settings: dict[str, Any]
    count: int
    piece: int


def open_material(options: Options) -> Material:
    """What `--source` names, made first where it has to be. Raises: UserError for data that cannot be used."""
    make = {"miniature": miniature, "imdb-files": imdb_files, "hub": hub}[options.source]
    return make(options)


def miniature(options: Options) -> Material:
    """Reviews in a tiny language, a model that has learned to write it, judges that have learned to read it."""
    train, heldout = (_tiny_reviews(random.Random(seed), 512) for seed in (0, 1))
    judge, second = (_tiny_judge(options.folder / f"judge-{seed}", seed) for seed in (0, 1))
    writer = tiny.start(train.texts, options.folder / "writer")
    settings = tiny.COMMON | tiny.SETTINGS["ppo"]
    return Material(train, heldout, writer, judge, second, settings, count=100, piece=20)


def _tiny_reviews(rng: random.Random, count: int) -> Reviews:
    labels = [number % 2 for number in range(count)]
    return Reviews([tiny.write_review(rng, bool(label)) for label in labels], labels)


def _tiny_judge(folder: Path, seed: int) -> str:
    """A judge of beginnings of reviews, of any length, since that is what it is given."""
    rng = random.Random(seed + 2)
    learned = _tiny_reviews(rng, 2000)
    texts = [" ".join(text.split()[: rng.randint(3, 20)]) for text in learned.texts]
    return make_judge(folder, texts, learned.labels, TINY_JUDGE, seed)


def imdb_files(options: Options) -> Material:
    """Reviews from files; writer and judges are trained on them from nothing, and kept for the next run."""
    train, heldout = (_read(str(options.data), split) for split in ("train", "test"))
    judge, second = (_judge(options.folder, train.half(seed).in_pieces(PIECE), seed) for seed in (0, 1))
    texts = [piece for text in train.texts for piece in _ends(pieces(text, PIECE))]
    writer = make_writer(named_by(options.folder, "writer", texts, WRITER), texts, WRITER)
    return Material(train, heldout, writer, judge, second, SMALL_PPO, count=300, piece=PIECE)


def _judge(folder: Path, seen: Reviews, seed: int) -> str:
    place = named_by(folder, f"judge-{seed}", seen.texts, seen.labels, JUDGE)
    return make_judge(place, seen.texts, seen.labels, JUDGE, seed)


def hub(options: Options) -> Material:
    """The exercise as it was set: a GPT-2 that has read IMDB, a DistilBERT that has learned its labels."""
    train, heldout = (_read("stanfordnlp/imdb", split) for split in ("train", "test"))
    settings = {"train.seq_length": 64, "train.total_steps": 200, "train.eval_interval": 100}
    writer, judge = "lvwerra/gpt2-imdb", "lvwerra/distilbert-imdb"
    # A tenth of the 25,000 reviews held out, of both labels, is enough for judge and prompts.
    return Material(train, heldout.every(10), writer, judge, None, settings, count=300, piece=256)


def _ends(parts: Sequence[str]) -> list[str]:
    """A review's first two pieces and its last: how it begins, and what it comes to."""
    return list(dict.fromkeys([*parts[:2], *parts[-1:]]))


def _read(source: str, split: str) -> Reviews:
    """Raises: UserError for a row without text or label."""
    posts = TASK.load_posts(source, split)
    for post in posts:
        if "positive" not in post.extra:
            raise UserError(f"{post.where}: no column label: give each review 1 (positive) or 0 (negative)")
    films = [str(post.extra["movie"]) for post in posts if post.extra.get("movie")]
    labels = [int(post.extra["positive"]) for post in posts]
    return Reviews([post.prompt for post in posts], labels, films if len(films) == len(posts) else [])


def ppo_settings(material: Material, options: Options, goal: str) -> dict[str, Any]:
    """The dotted settings of one goal's run, for `TRLConfig.update`."""
    settings = {"train.total_steps": default_ppo_config().train.total_steps} | QUIET | material.settings
    # What must be written then depends on what is written already, which takes longer to learn.
    settings["train.total_steps"] *= 2 if goal == "neutral" else 1
    settings |= {
        "model.model_path": material.writer,
        "tokenizer.tokenizer_path": material.writer,
        "train.checkpoint_dir": str(options.folder / goal),
        "train.seed": options.seed,
    }
    if options.steps is not None:
        settings["train.total_steps"] = options.steps
    return settings


def out_of(options: Options, goal: str) -> Path:
    """Where the model steered towards a goal is kept."""
    return options.folder / goal / "hf_model"
