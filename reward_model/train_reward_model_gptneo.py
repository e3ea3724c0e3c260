"""Reward model from preference pairs: which of two summaries of a post do people prefer?

    deepspeed reward_model/train_reward_model_gptneo.py
    deepspeed --num_accelerators 2 reward_model/train_reward_model_gptneo.py \\
        --config configs/tiny/reward_model.yaml --root runs/demo
    python reward_model/train_reward_model_gptneo.py --config configs/reward_model.yaml    (one process, no DeepSpeed)

Loss −log σ(chosen − rejected) on the scores at EOS. The best model by `best_metric` ends in `<root>/ckpts/reward_model`
in float32, with the mean score of reference summaries as `reward_offset` in its config; accuracy on the test pairs is
printed and lies in `results.json` beside it, by batch, confidence and annotator where the data name them, and every
test pair with its scores in `test_pairs.csv`; the release gate (`reward_model.gate`) judges the model, its verdict lies
in `gate.json`. Left out: rankings of more than two.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.stage import (
    Stage,
    StageOptions,
    begin_stage,
    finish_stage,
    publish_model,
    ranks,
    share_out,
)
from launch.stage_trainer import StageTrainer
from reward_model.accuracy import accuracies, agreement, write_scored_pairs
from reward_model.gate import data_facts, gather_evidence, judge, read_thresholds, scores_of, stress_outcomes
from reward_model.model import (
    OFFSET_FIELD,
    freeze_bottom,
    new_reward_model,
    new_reward_tokenizer,
    score_head,
)
from reward_model.objective import METRICS, LossName, PairObjective
from reward_model.pairs import PairCollator
from reward_model.provenance import write_training_posts
from reward_model.scorer import RewardScorer
from reward_model.thresholds import Thresholds
from reward_model.training_data import PairData, PairDataOptions, load_data, load_references, training_prompts
from reward_model.verdict import decide, verdict_lines
from tasks.records import Pair
from tasks.registry import get_task
from tasks.run_folder import RunFolder, default_under, fill_places
from trlx.utils.cli import parse_config
from trlx.utils.distributed import is_main_rank
from trlx.utils.errors import run_main
from trlx.utils.files import write_json
from trlx.utils.pretrained import load_config, require_positions
from trlx.utils.ranges import AT_LEAST_1, SHARE, require_ranges

TEST_PAIRS_FILE = "test_pairs.csv"
RANGES = {
    **dict.fromkeys(("train_limit", "valid_limit", "test_limit", "references_limit", "score_batch_size"), AT_LEAST_1),
    "frozen_fraction": SHARE,
}
MOST_GROUPS_SAID = 16


@dataclass
class RewardOptions(PairDataOptions, StageOptions):
    """Options of reward-model training.

    Args:
        loss: score at the EOS, or trlX's mean from the first differing token on.
        frozen_fraction: embeddings and this part of the blocks, from the bottom, are not trained; 0 trains everything.
        score_batch_size: texts scored at once at the end.
        gate: file with the thresholds of the release gate, which is run at the end; null runs none.
    """

    model: str = "EleutherAI/gpt-neo-125M"
    batch_size: int = 1
    gradient_accumulation: int = 4
    best_metric: str = "eval_accuracy"
    deepspeed: str | None = "{repo}/configs/ds_config_reward_model.json"
    loss: LossName = "last_token"
    frozen_fraction: float = 0.7
    score_batch_size: int = 32
    gate: str | None = "{repo}/configs/reward_gate.yaml"


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    options = parse_config(RewardOptions, "Reward model from preference pairs.", argv)
    with ranks():
        train(fill_places(options, options.root))


def train(options: RewardOptions) -> Path:
    """Run the stage; returns the folder the model is in. Call on every rank, within `launch.stage.ranks`."""
    began = time.monotonic()
    require_ranges(options, RANGES)
    thresholds = None if options.gate is None else read_thresholds(options.gate)
    out = default_under(options.root, options.out, "ckpts", "reward_model")
    stage = begin_stage("reward model", options, out, METRICS)
    tokenizer = new_reward_tokenizer(options.model)
    require_positions(load_config(options.model), options.max_length, "--max_length")
    data = load_data(options, tokenizer, options.max_length)
    for split, counts in data.counts.items():
        stage.say(f"{split}: {counts}")
    for split, rows in data.trained_on.items():
        stage.say(rows.warning(split, f"--{split}_data FILE"))
    references = load_references(options)
    trainer, frozen = build_trainer(stage, options, tokenizer, data)
    trainer.train(resume_from_checkpoint=str(stage.checkpoint) if stage.checkpoint else None)
    staging = trainer.write_aside()
    scorer = RewardScorer.load(
        staging,
        device=stage.args.device,
        max_length=options.max_length,
        batch_size=options.score_batch_size,
        cut_prompt=get_task(options.task).form.cut,
    )
    results, chosen, rejected = final_results(scorer, references, data.test)
    results["test"]["trained_on"] = "test" in data.trained_on
    results |= {"pairs": {name: dataclasses.asdict(c) for name, c in data.counts.items()}, "frozen": frozen}
    if is_main_rank():
        set_offset(staging, results["reward_offset"])
        publish_model(stage, staging)
        write_scored_pairs(stage.out / TEST_PAIRS_FILE, data.test, chosen, rejected)
        write_json(stage.out / "results.json", results)
        write_training_posts(stage.out, training_prompts(options))
    say_results(stage, results)
    if thresholds is not None:
        run_gate(stage, options, scorer, thresholds, references, data.test, chosen, rejected)
    finish_stage(stage, began, steps=trainer.state.global_step, best_metric=trainer.state.best_metric)
    return stage.out


def build_trainer(
    stage: Stage, options: RewardOptions, tokenizer: Any, data: PairData
) -> tuple[StageTrainer, dict[str, Any]]:
    """Model, data and objective put together; and a description of what is frozen."""
    model = new_reward_model(options.model, tokenizer)
    names = freeze_bottom(model, options.frozen_fraction)
    weights = {name: weight.numel() for name, weight in model.named_parameters()}
    frozen = {"parameters": names, "share_of_weights": sum(weights[n] for n in names) / sum(weights.values())}
    stage.say(f"{len(names)} of {len(weights)} tensors frozen, {frozen['share_of_weights']:.0%} of the weights")
    objective = PairObjective(options.loss, score_head(model))
    stage.take_output(model)
    trainer = StageTrainer(
        stage=stage,
        model=model,
        processing_class=tokenizer,
        train_dataset=data.train,
        eval_dataset=data.valid,
        data_collator=PairCollator(int(tokenizer.pad_token_id)),
        loss_fn=objective,
        measure=objective.measure,
    )
    return trainer, frozen


def final_results(
    scorer: RewardScorer, references: Sequence[tuple[str, str]], test: Sequence[Pair]
) -> tuple[dict[str, Any], list[float], list[float]]:
    """Mean score of the references and agreement on the test pairs, by the model as written to disk; and the scores of
    both sides of each pair. A collective: ranks share the work."""
    reference_scores = scored(scorer, references)
    chosen = scored(scorer, [(pair.prompt, pair.chosen) for pair in test])
    rejected = scored(scorer, [(pair.prompt, pair.rejected) for pair in test])
    results = {
        "test": accuracies(test, agreement(chosen, rejected)),
        "reward_offset": statistics.fmean(reference_scores),
        "references": {"number": len(reference_scores), "std": statistics.pstdev(reference_scores)},
    }
    return results, chosen, rejected


def scored(scorer: RewardScorer, texts: Sequence[tuple[str, str]]) -> list[float]:
    """Scores of (prompt, clean summary), the work shared out over the ranks. A collective."""
    return share_out(texts, lambda mine: scores_of(scorer, mine))


def run_gate(
    stage: Stage,
    options: RewardOptions,
    scorer: RewardScorer,
    thresholds: Thresholds,
    references: Sequence[tuple[str, str]],
    test: Sequence[Pair],
    chosen: Sequence[float],
    rejected: Sequence[float],
) -> None:
    """Judge the published model and say the verdict. A collective: ranks share the scoring, the main rank judges.

    Args:
        chosen, rejected: scores of both sides of the test pairs.
    """
    stress = stress_outcomes(references, lambda texts: scored(scorer, texts))
    if is_main_rank():
        evidence = gather_evidence(stage.out, scorer, test, chosen, rejected, stress)
        run, source = RunFolder.of(options.root), options.test_data or options.data
        facts = data_facts(run, source, options.test_split, options.references, options.references_split)
        checks = judge(stage.out, evidence, thresholds, facts).checks
        for line in verdict_lines(decide(checks), checks):
            stage.say(line)


def set_offset(folder: Path, offset: float) -> None:
    """Write the mean reference score into a model's config."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, OFFSET_FIELD: offset})


def say_results(stage: Stage, results: dict[str, Any]) -> None:
    """Print the accuracies and the offset."""
    test = results["test"]
    low, high = test["accuracy_interval_95"]
    which = "of the TRAINING data " if test["trained_on"] else ""
    stage.say(f"test accuracy {test['accuracy']:.3f} on {test['pairs']} pairs {which}(95% {low:.3f} to {high:.3f})")
    if "accuracy_noise_free" in test:
        low, high = test["accuracy_noise_free_interval_95"]
        stage.say(f"against noise-free labels {test['accuracy_noise_free']:.3f} (95% {low:.3f} to {high:.3f})")
    for group, table in test["by"].items():
        shown = list(table.items())[:MOST_GROUPS_SAID]
        said = ", ".join(f"{value} {row['accuracy']:.2f} ({row['pairs']})" for value, row in shown)
        stage.say(f"accuracy by {group} (pairs): {said}{' ...' if len(shown) < len(table) else ''}")
    stage.say(f"reference summaries score {results['reward_offset']:.3f} on average, which is taken off")


if __name__ == "__main__":
    run_main(main)
