"""What an evaluation leaves: results.json, results.md, a CSV of every summarizer; and the lines beside the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from evaluation.judge import sample_rows
from evaluation.results import Outcome, References, Results
from evaluation.samples import write_samples
from evaluation.tables import all_tables, to_markdown
from tasks.records import Post
from tasks.run_folder import RunFolder
from trlx.utils.files import write_json, write_text


def write_outputs(
    run: RunFolder, results: Results, posts: Sequence[Post], references: References, outcomes: Sequence[Outcome]
) -> list[str]:
    """Write everything below the root; returns a line for each file."""
    lines = []
    for outcome in outcomes:
        path = run.samples(outcome.name)
        write_samples(path, sample_rows(posts, references, outcome))
        lines.append(f"{path}  (every summary of {outcome.name} with its scores)")
    markdown = run.metadata / "results.md"
    write_text(markdown, to_markdown(results, notes(results)))
    write_json(run.results, {**results.to_json(), "tables": [asdict(table) for table in all_tables(results)]})
    return [f"{run.results}  (all numbers)", f"{markdown}  (the tables)", *lines]


def notes(results: Results) -> list[str]:
    """Lines beside the tables: how far the reward models can be trusted, and what is missing."""
    lines = _about_judge("Reward model", results.reward_model)
    lines += _about_judge("Second reward model", results.second_reward_model)
    shared = results.second_reward_model.get("training_posts_shared_with_first")
    if shared:
        lines.append(f"Second reward model: no fresh judge, for {shared} of its training posts are the first's too")
    if not results.second_reward_model:
        lines.append(
            "No second reward model: train one on other pairs into ckpts/second_reward_model for a fresh judge"
        )
    if results.baseline not in {model.name for model in results.models}:
        lines.append(f"No differences and no KL: the baseline '{results.baseline}' is not among --models")
    return lines + list(results.run.get("left_out", []))


def _about_judge(name: str, facts: dict[str, Any]) -> list[str]:
    lines = []
    test = facts.get("held_out", {}).get("test", {})
    if "accuracy" in test:
        noise_free = test.get("accuracy_noise_free")
        judged = (
            f"{test['reviews']} held-out reviews" if "reviews" in test else f"{test.get('pairs', 'its')} held-out pairs"
        )
        lines.append(
            f"{name}: accuracy {test['accuracy']:.3f} on {judged}"
            + (f", {noise_free:.3f} against noise-free labels" if noise_free is not None else "")
        )
    gate = facts.get("gate")
    if gate and not gate["stale"]:
        lines += [f"{name}: {line}" for line in gate["lines"]]
    elif facts and "reviews" not in test:  # the gate judges no classifiers
        lines.append(f"{name}: not gated; `python -m reward_model.gate` says whether it can be trusted")
    return lines
