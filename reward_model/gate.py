"""The release gate: may a reward model be trained against? PASS or FAIL, by thresholds in a YAML file.

    python -m reward_model.gate --root R
    python -m reward_model.gate --root runs/demo --config configs/tiny/reward_gate.yaml

Accuracy (overall, by length difference, by batch, confidence and annotator), calibration, baselines of length alone,
Stiennon's stress edits, invariance to padding and batch size, posts that were trained on. What there is too little data
for is not judged, and says so. The verdict is printed and lies in `gate.json` beside the model; that of a model on the
hub is printed alone. Exit code 0 for PASS, 1 for FAIL, 2 for bad input. Left out: whether people agree with PPO's
summaries; a gate sees the reward model alone.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from reward_model.checks import Evidence, run_checks
from reward_model.gate_console import print_checks, print_groups
from reward_model.invariance import Invariance, Text, invariance
from reward_model.pairs import PairText
from reward_model.provenance import shared_posts
from reward_model.scorer import RewardScorer
from reward_model.stress import ReferencePost, edited_references, prefers_reference, stress_texts
from reward_model.thresholds import Thresholds, require_thresholds
from reward_model.verdict import GATE_FILE, Check, decide, gate_content, verdict_lines
from tasks.form import response_text
from tasks.reading.rows import OnBadRows
from tasks.records import Pair
from tasks.registry import get_task
from tasks.run_folder import DEFAULT_ROOT, REPO, RunFolder, fill_places
from tasks.text import split_prompt, title_of
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError, run_main
from trlx.utils.files import write_json
from trlx.utils.pretrained import is_hub_id
from trlx.utils.ranges import AT_LEAST_1, require_ranges
from trlx.utils.strict import build, check
from trlx.utils.yaml_file import read_yaml

FAILED = 1  # exit code
DEFAULT_CONFIG = REPO / "configs" / "reward_gate.yaml"
_RANGES = dict.fromkeys(("limit", "references_limit", "max_length", "batch_size"), AT_LEAST_1)


@dataclass
class GateOptions:
    """Options of the gate.

    Args:
        root: the run's root folder; `{root}` in a path means it.
        reward_model: the folder of the model, or a hub id, whose verdict is not kept; null for the run's own.
        task: how rows of data are read; see `tasks/`.
        data: test pairs: hub id, local folder (or folder/prefix), or JSONL, JSON, CSV or Parquet files (also .gz).
        columns: where the pairs call a column otherwise: our name → theirs.
        bad_rows: stop at the first row that cannot be used, or skip such rows and count them.
        split: the split of the pairs.
        limit: the first so many pairs; null for all.
        references: posts whose reference summaries are edited for the stress tests.
        references_columns: their columns, like `columns`.
        references_split: their split.
        references_limit: the first so many.
        max_length: prompt + summary in tokens, as in training.
        batch_size: texts scored at once.
        thresholds: what the model must reach.
    """

    root: str = DEFAULT_ROOT
    reward_model: str | None = None
    task: str = "tldr"
    data: str = "CarperAI/openai_summarize_comparisons"
    columns: dict[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"
    split: str = "test"
    limit: int | None = None
    references: str = "CarperAI/openai_summarize_tldr"
    references_columns: dict[str, str] = field(default_factory=dict)
    references_split: str = "valid"
    references_limit: int | None = 1000
    max_length: int = 550
    batch_size: int = 32
    thresholds: Thresholds = field(default_factory=Thresholds)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, judge, print; exits with `FAILED` on a FAIL."""
    given = list(sys.argv[1:] if argv is None else argv)
    # Not below another file: what that leaves out would then be judged by this one's thresholds.
    default = None if any(one.split("=")[0] == "--config" for one in given) else str(DEFAULT_CONFIG)
    options = parse_config(GateOptions, "Release gate of a reward model.", given, default)
    require_ranges(options, _RANGES)
    require_thresholds(options.thresholds)
    judged = judge_model(fill_places(options, options.root))
    print_groups(judged.told["accuracy"].get("by", {}), Console())
    print_checks(judged.checks, Console())
    passed = decide(judged.checks)
    print("\n".join(verdict_lines(passed, judged.checks)))
    if judged.path is None:
        print(f"{options.reward_model} is on the hub: this is not kept. Download it for a {GATE_FILE} in its folder.")
    if not passed:
        sys.exit(FAILED)


@dataclass(frozen=True)
class Judged:
    """What the gate found.

    Args:
        told: `reward_model.checks.SECTIONS`. path: of the `gate.json` that was written, or None.
    """

    checks: list[Check]
    told: dict[str, Any]
    path: Path | None


def judge_model(options: GateOptions) -> Judged:
    """Judge the model of a run on the data that the options name, and write its `gate.json`.

    Raises: UserError for a model or data that cannot be read.
    """
    run = RunFolder.of(options.root)
    folder = find_model(options.reward_model, run)
    pairs, references = load_texts(options)
    scorer = RewardScorer.load(
        folder,
        "cuda" if torch.cuda.is_available() else "cpu",
        max_length=options.max_length,
        batch_size=options.batch_size,
        cut_prompt=get_task(options.task).form.cut,
    )
    chosen = scores_of(scorer, [(pair.prompt, pair.chosen) for pair in pairs])
    rejected = scores_of(scorer, [(pair.prompt, pair.rejected) for pair in pairs])
    stress = stress_outcomes(references, lambda texts: scores_of(scorer, texts))
    evidence = gather_evidence(folder, scorer, pairs, chosen, rejected, stress)
    data = data_facts(run, options.data, options.split, options.references, options.references_split)
    return judge(folder, evidence, options.thresholds, data)


def find_model(named: str | None, run: RunFolder) -> Path | str:
    """The folder of the model to judge, or its hub id. Raises: UserError where no model is."""
    folder = Path(named).resolve() if named else run.reward_model
    if named and not folder.exists() and is_hub_id(named):
        return named
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no reward model there: train one first, or name its folder with --reward_model")
    return folder


def load_texts(options: GateOptions) -> tuple[list[Pair], list[Text]]:
    """The test pairs, and (prompt, summary) of the references. Raises: UserError for data that cannot be read."""
    task = get_task(options.task)
    pairs, _ = task.load_pairs(
        options.data, options.split, limit=options.limit, columns=options.columns, bad_rows=options.bad_rows
    )
    posts = task.load_posts(
        options.references,
        options.references_split,
        limit=options.references_limit,
        columns=options.references_columns,
        bad_rows=options.bad_rows,
    )
    return pairs, [(post.prompt, post.summary) for post in posts]


def data_facts(run: RunFolder, pairs: str, split: str, references: str | None, references_split: str) -> dict[str, Any]:
    """What `gate.json` says of the data; without references the preferred sides of pairs stood for them."""
    shown = None if references is None else _shown(run, references)
    return {"pairs": _shown(run, pairs), "split": split, "references": shown, "references_split": references_split}


def _shown(run: RunFolder, source: str) -> str:
    """A source below the root without the root; it may be the beginning of file names, which `RunFolder.shown` does
    not know."""
    full = Path(source).resolve()
    return full.relative_to(run.root).as_posix() if full.is_relative_to(run.root) else source


def scores_of(scorer: RewardScorer, texts: Sequence[Text]) -> list[float]:
    """Scores of (prompt, clean summary), in this process."""
    return scorer.score([prompt for prompt, _ in texts], [response_text(summary) for _, summary in texts])


def stress_outcomes(
    references: Sequence[Text], score: Callable[[Sequence[Text]], list[float]]
) -> dict[str, list[float]]:
    """Edit → whether each reference that it changes scores higher untouched; one reference a post.

    Args:
        references: (prompt, summary). score: of such texts; called once.
    """
    posts = [_reference_post(prompt, summary) for prompt, summary in dict(references).items()]
    edited = edited_references(posts)
    return prefers_reference(edited, score(stress_texts(posts, edited)))


def _reference_post(prompt: str, summary: str) -> ReferencePost:
    return ReferencePost(prompt, title_of(prompt), split_prompt(prompt)[1], summary)


def gather_evidence(
    folder: Path | str,
    scorer: RewardScorer,
    pairs: Sequence[PairText],
    chosen: Sequence[float],
    rejected: Sequence[float],
    stress: Mapping[str, Sequence[float]],
) -> Evidence:
    """What is known of the model in a folder or on the hub: the scores and outcomes given, its invariance, and what it
    trained on."""
    prompts = {pair.prompt for pair in pairs}
    known = shared_posts(folder, prompts)
    return Evidence(
        pairs=pairs,
        chosen=chosen,
        rejected=rejected,
        stress=stress,
        invariance=measure_invariance(scorer, [(pair.prompt, pair.chosen) for pair in pairs]),
        trained_on=None if known is None else known / len(prompts),
    )


def measure_invariance(scorer: RewardScorer, texts: Sequence[Text]) -> Invariance | None:
    """`invariance` of a scorer, which itself is left as it is."""

    def score_in_batches(some: Sequence[Text], size: int) -> list[float]:
        sized = copy.copy(scorer)
        sized.batch_size = size
        return scores_of(sized, some)

    return invariance(score_in_batches, texts)


def judge(folder: Path | str, evidence: Evidence, thresholds: Thresholds, data: Mapping[str, Any]) -> Judged:
    """Hold the evidence against the thresholds and write `gate.json`. One process only.

    Args:
        folder: of the model; beside a hub id, which is text, nothing can be written.
        data: what to say of where the texts came from.
    """
    checks, told = run_checks(evidence, thresholds)
    facts = {"data": {**data, "n": len(evidence.pairs)}, "thresholds": dataclasses.asdict(thresholds)}
    path = folder / GATE_FILE if isinstance(folder, Path) else None
    if path is not None:
        write_json(path, gate_content(path.parent, checks, **told, **facts))
    return Judged(checks, told, path)


def read_thresholds(path: str) -> Thresholds:
    """The section `thresholds` of a file of `GateOptions`.

    Raises: UserError naming file and line for a key that there is not, or a value that cannot be meant.
    """
    file = read_yaml(path)
    try:
        section = check(GateOptions, file.values).get("thresholds")
        if section is None:
            raise UserError("has no section 'thresholds': write one, as in configs/reward_gate.yaml")
        thresholds = build(Thresholds, section, "thresholds")
        require_thresholds(thresholds, "")
    except UserError as error:
        raise file.refusal(error) from error
    return thresholds


if __name__ == "__main__":
    run_main(main)
