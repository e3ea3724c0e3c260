"""Reward model from preference pairs: which of two summaries of a post do people prefer?

    deepspeed reward_model/train_reward_model_gptneo.py
    deepspeed --num_accelerators 2 reward_model/train_reward_model_gptneo.py \\
        --config configs/tiny/reward_model.yaml --root runs/demo
    python reward_model/train_reward_model_gptneo.py --config configs/reward_model.yaml    (one process, no DeepSpeed)

Loss −log σ(chosen − rejected) on the scores at EOS. The best model by `best_metric` ends in `<root>/ckpts/reward_model`
in float32, with the mean score of reference summaries as `reward_offset` in its config; accuracy on the test pairs is
printed and lies in `results.json` beside it. Left out: rankings of more than two.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from launch.outputs import default_under, fill_places
from launch.stage import (
    MODEL_STAGING,
    Stage,
    StageOptions,
    begin_stage,
    finish_stage,
    gather_objects,
    publish_model,
    ranks,
    write_model,
)
from launch.stage_trainer import Rows, StageTrainer
from reward_model.model import OFFSET_FIELD, freeze_bottom, new_reward_model, score_head
from reward_model.objective import METRICS, LossName, PairObjective
from reward_model.pairs import GOLD, PairCollator, encode_pairs
from reward_model.scorer import RewardScorer
from tasks.records import Pair, PairCounts
from tasks.registry import get_task
from tasks.text import response_text, truncate_prompt
from trlx.utils.cli import parse_config
from trlx.utils.distributed import is_main_rank
from trlx.utils.errors import run_main
from trlx.utils.files import write_json
from trlx.utils.pretrained import require_positions


@dataclass
class RewardOptions(StageOptions):
    """Options of reward-model training.

    Args:
        task: how rows of data are read; see `tasks/`.
        data: pairs: hub id, local folder (or folder/prefix), or a JSONL, JSON, CSV or Parquet file (also .gz).
        train_split: the split to train on.
        valid_split: the split to evaluate on while training.
        test_split: the split of the final accuracy.
        train_limit: the first so many training pairs; null for all.
        valid_limit: the first so many evaluation pairs; null for all.
        test_limit: the first so many test pairs; null for all.
        references: posts whose reference summaries shall average 0; null takes the evaluation pairs' chosen ones.
        references_split: their split.
        references_limit: the first so many.
        loss: score at the EOS, or trlX's mean from the first differing token on.
        frozen_fraction: embeddings and this part of the blocks, from the bottom, are not trained; 0 trains everything.
        score_batch_size: texts scored at once at the end.
    """

    model: str = "EleutherAI/gpt-neo-125M"
    batch_size: int = 1
    gradient_accumulation: int = 4
    best_metric: str = "eval_accuracy"
    deepspeed: str | None = "{repo}/configs/ds_config_reward_model.json"
    task: str = "tldr"
    data: str = "CarperAI/openai_summarize_comparisons"
    train_split: str = "train"
    valid_split: str = "valid1"
    test_split: str = "test"
    train_limit: int | None = None
    valid_limit: int | None = 2000
    test_limit: int | None = None
    references: str | None = "CarperAI/openai_summarize_tldr"
    references_split: str = "valid"
    references_limit: int | None = 1000
    loss: LossName = "last_token"
    frozen_fraction: float = 0.7
    score_batch_size: int = 32


@dataclass(frozen=True)
class PairData:
    """The pairs of all three splits, and what was dropped of each."""

    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]
    counts: dict[str, PairCounts]


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    options = parse_config(RewardOptions, "Reward model from preference pairs.", argv)
    with ranks():
        train(fill_places(options, options.root))


def train(options: RewardOptions) -> Path:
    """Run the stage; returns the folder the model is in. Call on every rank, within `launch.stage.ranks`."""
    began = time.time()
    out = default_under(options.root, options.out, "ckpts", "reward_model")
    stage = begin_stage("reward model", options, out, METRICS)
    data = load_data(options)
    for split, counts in data.counts.items():
        stage.say(f"{split}: {counts}")
    references = load_references(options, data)
    trainer, frozen = build_trainer(stage, options, data)
    trainer.train(resume_from_checkpoint=str(stage.checkpoint) if stage.checkpoint else None)
    weights = trainer.float32_weights()
    staging = stage.out / MODEL_STAGING
    if is_main_rank():
        write_model(staging, trainer.module, weights, trainer.processing_class)
    if dist.is_initialized():
        dist.barrier()
    scorer = RewardScorer.load(
        staging,
        device=stage.args.device,
        max_length=options.max_length,
        batch_size=options.score_batch_size,
        cut_prompt=truncate_prompt,
    )
    results = final_results(scorer, references, data.test)
    results |= {"pairs": {name: dataclasses.asdict(c) for name, c in data.counts.items()}, "frozen": frozen}
    if is_main_rank():
        set_offset(staging, results["reward_offset"])
        publish_model(stage, staging)
        write_json(stage.out / "results.json", results)
    say_results(stage, results)
    finish_stage(stage, began, steps=trainer.state.global_step, best_metric=trainer.state.best_metric)
    return stage.out


def load_data(options: RewardOptions) -> PairData:
    """The pairs of the three splits. Raises: UserError for data that cannot be read."""
    task = get_task(options.task)
    splits = {
        "train": (options.train_split, options.train_limit),
        "valid": (options.valid_split, options.valid_limit),
        "test": (options.test_split, options.test_limit),
    }
    loaded = {name: task.load_pairs(options.data, split, limit=limit) for name, (split, limit) in splits.items()}
    pairs = {name: pairs for name, (pairs, _) in loaded.items()}
    return PairData(**pairs, counts={name: counts for name, (_, counts) in loaded.items()})


def load_references(options: RewardOptions, data: PairData) -> list[tuple[str, str]]:
    """(prompt, summary) of the reference summaries whose mean score becomes the offset."""
    if options.references is None:
        return [(pair.prompt, pair.chosen) for pair in data.valid]
    task = get_task(options.task)
    posts = task.load_posts(options.references, options.references_split, limit=options.references_limit)
    return [(post.prompt, post.summary) for post in posts]


def build_trainer(stage: Stage, options: RewardOptions, data: PairData) -> tuple[StageTrainer, dict[str, Any]]:
    """Model, data and objective put together; and a description of what is frozen."""
    model, tokenizer = new_reward_model(options.model)
    require_positions(model.config, options.max_length, "--max_length")
    names = freeze_bottom(model, options.frozen_fraction)
    weights = {name: weight.numel() for name, weight in model.named_parameters()}
    frozen = {"parameters": names, "share_of_weights": sum(weights[n] for n in names) / sum(weights.values())}
    stage.say(f"{len(names)} of {len(weights)} tensors frozen, {frozen['share_of_weights']:.0%} of the weights")
    objective = PairObjective(options.loss, score_head(model))
    trainer = StageTrainer(
        stage=stage,
        model=model,
        processing_class=tokenizer,
        train_dataset=Rows(*encode_pairs(data.train, tokenizer, options.max_length, truncate_prompt)),
        eval_dataset=Rows(*encode_pairs(data.valid, tokenizer, options.max_length, truncate_prompt)),
        data_collator=PairCollator(int(tokenizer.pad_token_id)),  # type: ignore[arg-type]
        loss_fn=objective,
        measure=objective.measure,
    )
    return trainer, frozen


def final_results(scorer: RewardScorer, references: Sequence[tuple[str, str]], test: Sequence[Pair]) -> dict[str, Any]:
    """Mean score of the references and test accuracy, by the model as written to disk. A collective: ranks share."""
    reference_scores = scored(scorer, references)
    chosen = scored(scorer, [(pair.prompt, pair.chosen) for pair in test])
    rejected = scored(scorer, [(pair.prompt, pair.rejected) for pair in test])
    right = [0.5 if c == r else float(c > r) for c, r in zip(chosen, rejected, strict=True)]
    known = [(hit, pair.extra[GOLD]) for hit, pair in zip(right, test, strict=True) if pair.extra.get(GOLD) is not None]
    by_gold = [hit if prefers_chosen else 1 - hit for hit, prefers_chosen in known]
    accuracy: dict[str, Any] = {"pairs": len(test), "accuracy": statistics.fmean(right)}
    accuracy["accuracy_interval_95"] = proportion_interval(statistics.fmean(right), len(right))
    if by_gold:
        accuracy["accuracy_noise_free"] = statistics.fmean(by_gold)
        accuracy["accuracy_noise_free_interval_95"] = proportion_interval(statistics.fmean(by_gold), len(by_gold))
    return {
        "test": accuracy,
        "reward_offset": statistics.fmean(reference_scores),
        "references": {"number": len(reference_scores), "std": statistics.pstdev(reference_scores)},
    }


def scored(scorer: RewardScorer, texts: Sequence[tuple[str, str]]) -> list[float]:
    """Scores of (prompt, clean summary), the work shared out over the ranks. A collective."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    mine = texts[rank::world]
    shares = gather_objects(scorer.score([prompt for prompt, _ in mine], [response_text(text) for _, text in mine]))
    scores = [0.0] * len(texts)
    for index, share in enumerate(shares):
        scores[index::world] = share
    return scores


def proportion_interval(share: float, count: int) -> list[float]:
    """Wilson's 95% interval of a proportion."""
    z = 1.959964
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return [centre - half, centre + half]


def set_offset(folder: Path, offset: float) -> None:
    """Write the mean reference score into a model's config."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, OFFSET_FIELD: offset})


def say_results(stage: Stage, results: dict[str, Any]) -> None:
    """Print the accuracies and the offset."""
    test = results["test"]
    low, high = test["accuracy_interval_95"]
    stage.say(f"test accuracy {test['accuracy']:.3f} on {test['pairs']} pairs (95% {low:.3f} to {high:.3f})")
    if "accuracy_noise_free" in test:
        low, high = test["accuracy_noise_free_interval_95"]
        stage.say(f"against noise-free labels {test['accuracy_noise_free']:.3f} (95% {low:.3f} to {high:.3f})")
    stage.say(f"reference summaries score {results['reward_offset']:.3f} on average, which is taken off")


if __name__ == "__main__":
    run_main(main)
