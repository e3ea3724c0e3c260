"""`python -m evaluation samples`: posts with every model's summary side by side in the terminal.

    python -m evaluation samples --root runs/demo
    python -m evaluation samples --root runs/demo --order worst --by gold --n 10
    python -m evaluation samples --root runs/demo --order change --by reward --find dog

Reads the CSVs that `trlx_inference_gptneo.py` wrote. Left out: search by word boundaries, filters by score (report.html
has them).
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.text import Text

from evaluation.report.data import Sample
from evaluation.report.joining import join
from evaluation.samples import read_samples
from evaluation.side_by_side import columns_of, legend, print_columns, print_post
from evaluation.table import label
from tasks.run_folder import DEFAULT_ROOT, RunFolder
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError, nearest
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, require_ranges
from trlx.utils.terminal import inert, open_console

ABOUT = "Show posts with every model's summary side by side, with scores and faults."
Order = Literal["random", "worst", "best", "change"]
Value = Callable[[Sample], float | None]


@dataclass
class SamplesOptions:
    """Options of `samples`.

    Args:
        root: the run's root folder, in which the evaluation left its CSVs.
        n: how many posts.
        order: random; worst or best by the last of --models; change: where it differs most from the first, either way.
        by: the measure that worst, best and change go by: reward, second_reward, gold, rouge1, rouge2, rougeL, tokens.
        models: names separated by commas, in the order of the columns.
        seed: of the random order.
        id: only these posts: ids separated by commas, all of them shown.
        find: only posts in which, or in whose title or summaries, this text stands, in capitals or not.
    """

    root: str = DEFAULT_ROOT
    n: int = 5
    order: Order = "random"
    by: str = "reward"
    models: str = "sft,ppo"
    seed: int = 0
    id: str | None = None
    find: str | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    options = parse_config(SamplesOptions, ABOUT, argv)
    require_ranges(options, {"n": AT_LEAST_1, "seed": AT_LEAST_0})
    models = [name.strip() for name in options.models.split(",") if name.strip()]
    samples = read(options.root, models)
    chosen = choose(samples, options, models)
    show(open_console(), chosen, len(samples), options, models)


def read(root: str, models: Sequence[str]) -> list[Sample]:
    """The posts that every model has; what does not fit is said on standard error.

    Raises: UserError for a model without a CSV, and where the models share no post.
    """
    if not models:
        raise UserError("--models names no model; for example sft,ppo")
    run = RunFolder.of(root)
    if not run.root.is_dir():
        raise UserError(f"{root}: no such folder; name a run's root folder with --root")
    for name in models:
        if not run.samples(name).is_file() and (there := run.judged()):
            raise UserError(f"--models: no samples of '{name}' in {run.metadata}{nearest(name, there)}")
    _, samples = join({name: read_samples(run.samples(name)) for name in models}, _say)
    if not samples:
        raise UserError(
            f"{run.metadata}: {' and '.join(models)} have no post in common: evaluate all models in one call"
        )
    return samples


def _say(sentence: str) -> None:
    print(f"note: {inert(sentence)}", file=sys.stderr)


def choose(samples: Sequence[Sample], options: SamplesOptions, models: Sequence[str]) -> list[Sample]:
    """The posts to show, in order.

    Raises: UserError for an id or a measure that there is not, and where no post is left.
    """
    found = _with_ids(samples, options.id) if options.id is not None else list(samples)
    if options.find is not None:
        found = [sample for sample in found if _contains(sample, options.find.casefold())]
        if not found:
            raise UserError(f"--find: {options.find!r} stands in none of {len(samples)} posts")
    count = len(found) if options.id is not None else options.n
    return in_order(found, options.order, options.by, models, options.seed)[:count]


def _with_ids(samples: Sequence[Sample], ids: str) -> list[Sample]:
    by_id = {sample.id: sample for sample in samples}
    wanted = list(dict.fromkeys(one.strip() for one in ids.split(",") if one.strip()))
    if ids in by_id:  # an id may hold a comma
        wanted = [ids]
    for one in wanted:
        if one not in by_id:
            raise UserError(f"--id: no post '{one}' among {len(samples)}{nearest(one, by_id)}")
    return [by_id[one] for one in wanted]


def _contains(sample: Sample, wanted: str) -> bool:
    texts = [sample.subreddit, sample.title, sample.post, sample.reference]
    texts += [output.text for output in sample.outputs.values()]
    return any(wanted in text.casefold() for text in texts)


def in_order(samples: Sequence[Sample], order: Order, by: str, models: Sequence[str], seed: int = 0) -> list[Sample]:
    """All posts in the order asked for; those without the value that it goes by come last, equal ones as they were.

    Raises: UserError for a measure that no summary has, and for a change with one model.
    """
    key = _key(samples, order, by, models)
    if order == "random":
        return random.Random(seed).sample(list(samples), len(samples))
    sign = 1 if order == "worst" else -1

    def place(sample: Sample) -> tuple[bool, float]:
        value = key(sample)
        return value is None, 0.0 if value is None else sign * value

    return sorted(samples, key=place)


def _key(samples: Sequence[Sample], order: Order, by: str, models: Sequence[str]) -> Value:
    known = {name for sample in samples for output in sample.outputs.values() for name in output.scores} | {"tokens"}
    if by not in known:
        raise UserError(f"--by: the samples have no '{by}'{nearest(by, known)}")
    if order != "change":
        return lambda sample: measured(sample, models[-1], by)
    if len(models) < 2:
        raise UserError("--order change compares two of --models, and there is one; for example --models sft,ppo")

    def distance(sample: Sample) -> float | None:
        moved = change(sample, by, models)
        return None if moved is None else abs(moved)

    return distance


def measured(sample: Sample, model: str, by: str) -> float | None:
    """One measure of one model's summary; None where it is not known."""
    output = sample.outputs[model]
    return float(output.tokens) if by == "tokens" else output.scores.get(by)


def change(sample: Sample, by: str, models: Sequence[str]) -> float | None:
    """The last model's value minus the first's."""
    first, last = measured(sample, models[0], by), measured(sample, models[-1], by)
    return None if first is None or last is None else last - first


def show(
    console: Console, samples: Sequence[Sample], total: int, options: SamplesOptions, models: Sequence[str]
) -> None:
    """Every post with its summaries, under a line that says which they are."""
    posts = f"{len(samples)} of {total} posts"
    console.print(Text(f"{posts}, {_order_in_words(options, models)}; ").append_text(legend(console)))
    for number, sample in enumerate(samples, 1):
        heading = f"{number} of {len(samples)} · {sample.id}"
        if options.order == "change" and (moved := change(sample, options.by, models)) is not None:
            heading += f" · {options.by} {moved:+.3f} from {label(models[0])} to {label(models[-1])}"
        console.print()
        print_post(console, heading, sample.subreddit, sample.title, sample.post)
        print_columns(console, f"{sample.title}\n{sample.post}", columns_of(sample))


def _order_in_words(options: SamplesOptions, models: Sequence[str]) -> str:
    last = label(models[-1])
    return {
        "random": f"drawn with seed {options.seed}",
        "worst": f"lowest {options.by} of {last} first",
        "best": f"highest {options.by} of {last} first",
        "change": f"largest change of {options.by} from {label(models[0])} to {last} first",
    }[options.order]
