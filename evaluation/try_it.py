"""`python -m evaluation try`: paste a post and see what SFT and PPO make of it, and the best of n samples of SFT.

    python -m evaluation try --root runs/demo
    python -m evaluation try --root runs/demo --file post.txt --n 64
    cat post.txt | python -m evaluation try --root runs/demo

Models write greedily, as in the evaluation; the n samples are drawn at temperature 1, without top-k or top-p, and the
reward model chooses. All models stay loaded between posts. Left out: a reference (the post has none), so no ROUGE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text
from transformers.utils import logging

from evaluation.contestants import parse_models
from evaluation.devices import DtypeName, choose_devices, choose_dtype
from evaluation.judges import reward_model_path, second_reward_model_path
from evaluation.pasted import at_terminal, prompts_from
from evaluation.run_results import REMEDY, read_results
from evaluation.table import label
from evaluation.trial import Bench, Policy
from reward_model.labels import require_use_of_label
from reward_model.model import check_reward_model
from reward_model.scorer import RewardScorer
from tasks.registry import get_task
from tasks.run_folder import DEFAULT_ROOT, RunFolder
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, require_ranges
from trlx.utils.terminal import open_console

ABOUT = "Paste a post and see what SFT, PPO and best-of-n make of it, with their rewards."
MAX_PROMPT_TOKENS, MAX_NEW_TOKENS = 500, 50  # of an evaluation of TL;DR
RANGES = {
    **dict.fromkeys(("batch_size", "max_prompt_tokens", "max_new_tokens"), AT_LEAST_1),
    **dict.fromkeys(("n", "seed"), AT_LEAST_0),
}


@dataclass
class TryOptions:
    """Options of `try`.

    Args:
        root: the run's root folder, in which the models lie.
        task: how posts are written; see `tasks/`.
        n: samples of the first model, of which the reward model chooses the best; 0 for none.
        file: a text file with posts, a line with a single dot between two; null for what is pasted or piped in.
        models: who writes, separated by commas: sft, ppo, ppo_heldout and rft are found under the root, others are
            name=path.
        reward_model: its folder; null for root/ckpts/reward_model.
        second_reward_model: another judge; null for root/ckpts/second_reward_model where it is there, none for none.
        reward_label: of a text classifier, the label whose log-odds are the reward; null for what its config.json says.
        max_prompt_tokens: posts are cut to it; null for what results.json says the evaluation used, else 500.
        max_new_tokens: longest summary; null likewise, else 50.
        batch_size: samples drawn at once.
        dtype: of the policies: auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16 or float16.
        reward_dtype: of the reward models, likewise.
        policy_device: null for GPU 1, else GPU 0, else the CPU.
        reward_device: null for GPU 0, else the CPU.
        seed: of the samples, set anew for every post.
    """

    root: str = DEFAULT_ROOT
    task: str = "tldr"
    n: int = 16
    file: str | None = None
    models: str = "sft,ppo"
    reward_model: str | None = None
    second_reward_model: str | None = None
    reward_label: str | None = None
    max_prompt_tokens: int | None = None
    max_new_tokens: int | None = None
    batch_size: int = 16
    dtype: DtypeName = "auto"
    reward_dtype: DtypeName = "float32"
    policy_device: str | None = None
    reward_device: str | None = None
    seed: int = 0


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    options = parse_config(TryOptions, ABOUT, argv)
    require_ranges(options, RANGES)
    logging.disable_progress_bar()
    console = open_console()
    prompts = prompts_from(
        options.file, get_task(options.task).form
    )  # a file that is not there is said before models are loaded
    bench = load(options, console)
    for prompt in prompts:
        try:
            trial = bench.attempt(prompt)
        except UserError as error:
            if not at_terminal(options.file):
                raise
            console.print(Text(f"error: {error}"))
        else:
            trial.show(console)


def load(options: TryOptions, console: Console) -> Bench:
    """All models, each once. Raises: UserError naming what is missing and the command that makes it."""
    run = RunFolder.of(options.root)
    paths = parse_models(options.models, run)
    judges = {
        "reward": reward_model_path(options.reward_model, run),
        "second_reward": second_reward_model_path(options.second_reward_model, run),
    }
    there = {name: path for name, path in judges.items() if path is not None}
    wanted = options.reward_label
    for path in there.values():
        check_reward_model(path, wanted)
    require_use_of_label(wanted, there.values())
    max_prompt_tokens, max_new_tokens = limits(options, run)
    longest = max_prompt_tokens + max_new_tokens
    devices = choose_devices(options.reward_device, options.policy_device)
    console.print(Text(f"loading {', '.join(map(label, paths))} and the reward model; {devices}"))
    dtype, reward_dtype = (
        choose_dtype(options.dtype, devices.policy),
        choose_dtype(options.reward_dtype, devices.reward),
    )
    policies = [Policy.load(name, path, dtype, devices.policy, longest) for name, path in paths.items()]
    form = get_task(options.task).form
    scorers = {
        name: RewardScorer.load(path, devices.reward, reward_dtype, longest, options.batch_size, form.cut, wanted)
        for name, path in there.items()
    }
    return Bench(
        form, policies, scorers, max_prompt_tokens, max_new_tokens, options.n, options.batch_size, options.seed
    )


class Lengths(Protocol):
    """Options that say how long prompts and responses may be."""

    max_prompt_tokens: int | None
    max_new_tokens: int | None


def limits(options: Lengths, run: RunFolder) -> tuple[int, int]:
    """max_prompt_tokens and max_new_tokens: as given, else of the evaluation, else of TL;DR.

    Raises: UserError for a results.json that cannot be read and is needed.
    """
    prompt, new = options.max_prompt_tokens, options.max_new_tokens
    if (prompt is None or new is None) and run.results.is_file():
        used = read_results(str(run.root)).results["run"]
        prompt = prompt or _limit(run, used, "max_prompt_tokens")
        new = new or _limit(run, used.get("decoding"), "max_new_tokens")
    return prompt or MAX_PROMPT_TOKENS, new or MAX_NEW_TOKENS


def _limit(run: RunFolder, facts: Any, key: str) -> int | None:
    """None where the evaluation does not say. Raises: UserError for what is no number of tokens."""
    value = facts.get(key) if isinstance(facts, dict) else None
    if value is None or (type(value) is int and value >= 1):
        return value
    raise UserError(f"{run.results}: {key} is {value!r}, no number of tokens; give --{key}, or {REMEDY}")
