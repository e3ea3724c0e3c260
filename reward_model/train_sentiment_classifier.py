"""Reward model from labels: is a review positive or negative?

    deepspeed reward_model/train_sentiment_classifier.py --config configs/sentiment/classifier.yaml
    python reward_model/train_sentiment_classifier.py --config configs/sentiment/classifier.yaml      (one process)

Cross-entropy on whole reviews, which lose their end beyond `max_length`. The best model by `best_metric` ends in
`<root>/ckpts/reward_model` in float32, where PPO looks for its reward model; anyone's pipeline loads it as a text
classifier. Its config names the label whose log-odds are the reward (`reward_model.labels`). Accuracy on the test
reviews is printed and lies in `results.json` beside it. Left out: more labels than two; the release gate, which judges
models of pairs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from launch.stage import (
    Stage,
    StageOptions,
    begin_stage,
    finish_stage,
    publish_model,
    ranks,
    share_out,
)
from launch.stage_trainer import Rows, StageTrainer
from reward_model.accuracy import proportion_interval
from reward_model.classifier import METRICS, LabelObjective, TextCollator, encode_texts, new_classifier
from reward_model.model import freeze_bottom, new_reward_tokenizer
from reward_model.scorer import RewardScorer
from reward_model.splits import SplitOptions, chosen_rows
from tasks.chosen import Chosen
from tasks.reading.rows import Skipped, choose_on_bad
from tasks.reading.sources import named
from tasks.run_folder import default_under, fill_places
from tasks.sentiment import labelled
from tasks.task import say_skipped
from trlx.utils.cli import parse_config
from trlx.utils.distributed import is_main_rank
from trlx.utils.errors import UserError, run_main
from trlx.utils.files import write_json
from trlx.utils.pretrained import load_config, require_positions
from trlx.utils.ranges import AT_LEAST_1, SHARE, require_ranges

LABELS = ("NEGATIVE", "POSITIVE")
RANGES = {
    **dict.fromkeys(("train_limit", "valid_limit", "test_limit", "score_batch_size"), AT_LEAST_1),
    "frozen_fraction": SHARE,
}


@dataclass
class ClassifierOptions(SplitOptions, StageOptions):
    """Options of the sentiment classifier.

    Args:
        reward_label: the label that PPO is rewarded for.
        frozen_fraction: embeddings and this part of the blocks, from the bottom, are not trained; 0 trains everything.
        score_batch_size: reviews judged at once at the end.
    """

    model: str = "facebook/opt-350m"
    max_length: int = 512
    batch_size: int = 8
    eval_batch_size: int = 16
    epochs: float = 1.0
    best_metric: str = "eval_accuracy"
    deepspeed: str | None = "{repo}/configs/ds_config_reward_model.json"
    reward_label: Literal["POSITIVE", "NEGATIVE"] = "POSITIVE"
    task: str = "sentiment"
    data: str = "stanfordnlp/imdb"
    valid_split: str = "test"
    frozen_fraction: float = 0.0
    score_batch_size: int = 32


@dataclass(frozen=True)
class Reviews:
    """Texts with their labels (1 = positive), in the order of the data."""

    texts: list[str]
    labels: list[int]

    def __str__(self) -> str:
        return f"{len(self.texts)} reviews, {statistics.fmean(self.labels):.0%} positive"


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    options = parse_config(ClassifierOptions, "Reward model from reviews that are labelled.", argv)
    with ranks():
        train(fill_places(options, options.root))


def train(options: ClassifierOptions) -> Path:
    """Run the stage; returns the folder the model is in. Call on every rank, within `launch.stage.ranks`."""
    began = time.monotonic()
    require_ranges(options, RANGES)
    stage = begin_stage(
        "classifier", options, default_under(options.root, options.out, "ckpts", "reward_model"), METRICS
    )
    tokenizer = new_reward_tokenizer(options.model, needs_eos=False)
    require_positions(load_config(options.model), options.max_length, "--max_length")
    reviews = load_splits(stage, options)
    trainer = build_trainer(stage, options, tokenizer, reviews["train"], reviews["valid"])
    trainer.train(resume_from_checkpoint=str(stage.checkpoint) if stage.checkpoint else None)
    staging = trainer.write_aside()
    results = judged(staging, stage, options, reviews["test"])
    if is_main_rank():
        publish_model(stage, staging)
        write_json(stage.out / "results.json", results)
    test = results["test"]
    low, high = test["accuracy_interval_95"]
    stage.say(f"test accuracy {test['accuracy']:.3f} on {test['reviews']} reviews (95% {low:.3f} to {high:.3f})")
    finish_stage(stage, began, steps=trainer.state.global_step, best_metric=trainer.state.best_metric)
    return stage.out


def load_splits(stage: Stage, options: ClassifierOptions) -> dict[str, Reviews]:
    """The reviews to train on, to evaluate on while training, and of the final accuracy; says what they are.

    Raises: UserError as `load_reviews`, and for training reviews that are all of one label.
    """
    splits = dict(zip(("train", "valid", "test"), chosen_rows(options), strict=True))
    reviews = {name: load_reviews(split) for name, split in splits.items()}
    if len(set(reviews["train"].labels)) < 2:
        raise UserError(f"{options.data}, split '{options.train_split}': all reviews have one label: give both kinds")
    for name, split in splits.items():
        stage.say(f"{name}: {reviews[name]}")
        if name != "train" and split.same_rows_as(splits["train"]):
            stage.say(split.warning(name, f"--{name}_data FILE"))
    return reviews


def load_reviews(chosen: Chosen) -> Reviews:
    """The reviews of a split. Raises: UserError for data that cannot be read, without a label, or without a review."""
    skipped, texts, labels = Skipped(), [], []
    for text, label in labelled(chosen.posts(skipped), choose_on_bad(chosen.bad_rows, skipped)):
        texts.append(text)
        labels.append(label)
    say_skipped(chosen.source, chosen.split, skipped)
    if not texts:
        raise UserError(f"{named(chosen.source, chosen.split)}: no usable review ({skipped}): give other data")
    return Reviews(texts, labels)


def build_trainer(
    stage: Stage, options: ClassifierOptions, tokenizer: Any, train: Reviews, valid: Reviews
) -> StageTrainer:
    """Model, data and objective put together."""
    model = new_classifier(options.model, tokenizer, LABELS, options.reward_label)
    freeze_bottom(model, options.frozen_fraction)
    objective = LabelObjective()
    train_rows, valid_rows = (encoded(reviews, tokenizer, options.max_length) for reviews in (train, valid))
    stage.take_output(model)
    return StageTrainer(
        stage=stage,
        model=model,
        processing_class=tokenizer,
        train_dataset=train_rows,
        eval_dataset=valid_rows,
        data_collator=TextCollator(int(tokenizer.pad_token_id)),
        loss_fn=objective,
        measure=objective.measure,
    )


def encoded(reviews: Reviews, tokenizer: Any, max_length: int) -> Rows:
    """The reviews as token ids."""
    texts = zip(reviews.texts, reviews.labels, strict=True)
    shown = tqdm(texts, desc="encoding", total=len(reviews.texts), leave=False, delay=1, disable=not is_main_rank())
    items = list(encode_texts(shown, tokenizer, max_length))
    return Rows(items, [len(item["input_ids"]) for item in items])


def judged(folder: Path, stage: Stage, options: ClassifierOptions, test: Reviews) -> dict[str, Any]:
    """What `results.json` says: accuracy on the test reviews by the model as written to disk. A collective.

    A review is taken for positive when its log-odds of that are above 0.
    """
    scorer = RewardScorer.load(
        folder, stage.args.device, max_length=options.max_length, batch_size=options.score_batch_size, label=LABELS[1]
    )
    scores = share_out(test.texts, lambda mine: scorer.score([""] * len(mine), mine))
    return {"labels": list(LABELS), "reward_label": options.reward_label, "test": accuracy_of(scores, test.labels)}


def accuracy_of(scores: Sequence[float], labels: Sequence[int]) -> dict[str, Any]:
    """Accuracy with its 95% interval, over all reviews and over those of each label.

    Args:
        scores: log-odds of POSITIVE. labels: 1 = positive.
    """
    hits = [float((score > 0) == bool(label)) for score, label in zip(scores, labels, strict=True)]
    groups = {
        name: [hit for hit, label in zip(hits, labels, strict=True) if label == i] for i, name in enumerate(LABELS)
    }
    return {**_accuracy(hits), "by_label": {name: _accuracy(its) for name, its in groups.items() if its}}


def _accuracy(hits: Sequence[float]) -> dict[str, Any]:
    interval = proportion_interval(sum(hits), len(hits))
    return {"reviews": len(hits), "accuracy": statistics.fmean(hits), "accuracy_interval_95": interval}


if __name__ == "__main__":
    run_main(main)
