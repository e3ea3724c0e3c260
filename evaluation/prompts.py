"""`python -m evaluation prompts`: what the pretrained model, SFT and PPO answer to the same prompts, side by side.

    python -m evaluation prompts --root runs/demo --models pretrained,sft,ppo --task miniature \\
        --data runs/demo/data --split test --limit 4
    python -m evaluation prompts --task instruct --prompt "Name three rivers." --prompt "Why is the sky blue?"
    python -m evaluation prompts --models mine=runs/a/ckpts/sft,yours=runs/b/ckpts/sft --file posts.txt --sample true

Greedy as in the evaluation, or sampled; with rewards where there is a reward model. Models are loaded one after
another. Everything ends in a CSV or Markdown file. Left out: ROUGE and statistics of differences, which the evaluation
has (`trlx_inference_gptneo.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from transformers.utils import logging

from evaluation.answers import Answers, print_answers, summary_table, write_answers
from evaluation.contestants import parse_models, with_pretrained
from evaluation.decoding import GREEDY, up_to
from evaluation.devices import Devices, DtypeName, choose_devices, choose_dtype
from evaluation.judges import reward_model_where_there
from evaluation.pasted import nothing, prompts_of, written_by
from evaluation.policies import release_memory
from evaluation.table import label
from evaluation.trial import Policy
from evaluation.try_it import limits
from reward_model.labels import require_use_of_label
from reward_model.model import check_reward_model
from reward_model.scorer import RewardScorer
from tasks.encoding import cut_prompts
from tasks.form import TextForm
from tasks.reading.rows import OnBadRows
from tasks.records import Post
from tasks.registry import get_task
from tasks.run_folder import DEFAULT_ROOT, RunFolder, fill_places
from trlx.generation.records import GeneratedText
from trlx.generation.sampling import generate_texts
from trlx.utils.basics import set_seed
from trlx.utils.cli import parse_config
from trlx.utils.disk import require_writable
from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_config, load_tokenizer, require_positions
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, POSITIVE, SHARE, require_ranges
from trlx.utils.terminal import open_console

ABOUT = "Show what several models answer to the same prompts, side by side."
RANGES = {
    **dict.fromkeys(("limit", "batch_size", "max_prompt_tokens", "max_new_tokens"), AT_LEAST_1),
    **dict.fromkeys(("show", "seed", "top_k"), AT_LEAST_0),
    "temperature": POSITIVE,
    "top_p": SHARE,
}


@dataclass
class PromptsOptions:
    """Options of `prompts`.

    Args:
        root: the run's root folder, in which the models lie and the file is written.
        models: who answers, separated by commas: sft, ppo, ppo_heldout and rft are found under the root, pretrained is
            what SFT began from, others are name=path.
        task: how prompts are written; see `tasks/`.
        prompt: a prompt; may be given several times.
        file: a text file with prompts, a line with a single dot between two.
        data: posts instead, with or without references: hub id, folder, or JSONL, JSON, CSV or Parquet files.
        columns: where the data call a column otherwise: our name → theirs, e.g. `--columns.prompt question`.
        bad_rows: stop at the first row that cannot be used, or skip such rows and count them.
        split: the split of the data; null for all rows of a file.
        limit: the first so many rows of the data; null for all.
        reward_model: its folder or hub id; null for root/ckpts/reward_model where it is there, none for none.
        reward_label: of a text classifier, the label whose log-odds are the reward; null for what its config.json says.
        sample: draw tokens instead of taking the most likely one.
        temperature: of the samples; the next two too.
        top_k: draw from the k most likely tokens; 0 for all.
        top_p: draw from the most likely tokens that hold this share of the probability.
        seed: of the samples, the same for every model.
        show: so many prompts in the terminal.
        out: the file, of which .md makes Markdown and any other ending a CSV; null for root/metadata/prompts.csv. An
            older one of the name is replaced.
        max_prompt_tokens: prompts are cut to it; null for what results.json says the evaluation used, else 500.
        max_new_tokens: longest answer; null likewise, else 50.
        batch_size: prompts answered at once, and texts scored at once.
        dtype: of the policies: auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16 or float16.
        reward_dtype: of the reward model, likewise.
        policy_device: null for GPU 1, else GPU 0, else the CPU.
        reward_device: null for GPU 0, else the CPU.
    """

    root: str = DEFAULT_ROOT
    models: str = "sft,ppo"
    task: str = "tldr"
    prompt: list[str] = field(default_factory=list)
    file: str | None = None
    data: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"
    split: str | None = None
    limit: int | None = None
    reward_model: str | None = None
    reward_label: str | None = None
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    show: int = 8
    out: str | None = None
    max_prompt_tokens: int | None = None
    max_new_tokens: int | None = None
    batch_size: int = 16
    dtype: DtypeName = "auto"
    reward_dtype: DtypeName = "float32"
    policy_device: str | None = None
    reward_device: str | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    options = parse(argv)
    options = fill_places(options, options.root)
    logging.disable_progress_bar()
    console = open_console()
    run = RunFolder.of(options.root)
    out = run.prompt_table if options.out is None else Path(options.out)
    require_writable(out.parent, "--out or --root")
    form = get_task(options.task).form
    prompts = read_prompts(options, form)
    answers = answer(options, run, prompts, form, console)
    write_answers(out, answers)
    print_answers(console, answers, options.show)
    summary_table(answers).print(console)
    console.print(Text(f"all answers: {out}"))


def parse(argv: Sequence[str] | None = None) -> PromptsOptions:
    """The options of a command line; every `--prompt` of it counts.

    Raises: UserError for numbers that cannot be meant, and for settings of samples where none are drawn.
    """
    prompts, rest = taken_out("prompt", argv)
    options = parse_config(PromptsOptions, ABOUT, rest)
    options.prompt = prompts or options.prompt
    require_ranges(options, RANGES)
    usual = PromptsOptions()
    if not options.sample:
        for name in ("temperature", "top_k", "top_p"):
            if getattr(options, name) != getattr(usual, name):
                raise UserError(f"--{name} is of samples, and the most likely token is taken: give --sample true")
    return options


def taken_out(name: str, argv: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Every value that an option is given, and the command line without them.

    Args:
        argv: None for the program's own.
    """
    left = list(sys.argv[1:] if argv is None else argv)
    values, rest = [], []
    while left:
        one = left.pop(0)
        if one.startswith(f"--{name}="):
            values.append(one.partition("=")[2])
        elif one == f"--{name}" and left:
            values.append(left.pop(0))
        else:
            rest.append(one)
    return values, rest


def read_prompts(options: PromptsOptions, form: TextForm) -> list[Post]:
    """The prompts as records; their summary is empty where there is no reference.

    Raises: UserError for none, for several sources, an empty one, and as the task's `load_posts`.
    """
    given = [name for name in ("prompt", "file", "data") if getattr(options, name)]
    if len(given) != 1:
        what = f"--{' and --'.join(given)} exclude each other" if given else "no prompts"
        raise UserError(f"{what}: give --prompt (once or more), --file or --data")
    if options.data is not None:
        return get_task(options.task).load_posts(
            options.data, options.split, limit=options.limit, columns=options.columns, bad_rows=options.bad_rows
        )
    as_prompt = written_by(form)
    if options.file is not None:
        texts = list(prompts_of(options.file, as_prompt))
    elif all(text.strip() for text in options.prompt):
        texts = [as_prompt(text, nothing) for text in options.prompt]
    else:
        raise UserError("--prompt is empty: give it a text")
    return [Post(str(number), text, "") for number, text in enumerate(texts, 1)]


def answer(options: PromptsOptions, run: RunFolder, posts: Sequence[Post], form: TextForm, console: Console) -> Answers:
    """What every model answers, and its reward. Raises: UserError for a model that is not there or does not fit."""
    paths = parse_models(with_pretrained(options.models, run), run)
    judge = reward_model_where_there(options.reward_model, run)
    lengths = limits(options, run)
    if judge is not None:  # what will not do is said before models write for minutes
        check_reward_model(judge, options.reward_label)
        require_positions(load_config(judge, "--reward_model"), sum(lengths), "--max_prompt_tokens + --max_new_tokens")
    require_use_of_label(options.reward_label, [] if judge is None else [judge])
    devices = choose_devices(options.reward_device, options.policy_device)
    against = "no reward model" if judge is None else "the reward model"
    console.print(Text(f"{', '.join(map(label, paths))} and {against}; {devices}"))
    if options.data is not None:  # as the evaluation has them: too long ones cut, by the first model's tokens
        tokenizer = load_tokenizer(next(iter(paths.values())), "--models")
        longest_prompt, longest = lengths
        posts = cut_prompts(posts, form, tokenizer, longest_prompt, response_tokens=longest, bad_rows=options.bad_rows)
        if not posts:
            raise UserError(f"{options.data}: no prompt is left: raise --max_prompt_tokens, or give other data")
    responses, read = {}, {}
    for name, path in paths.items():
        read[name], responses[name] = write(options, name, path, posts, form, devices, lengths)
    rewards = {} if judge is None else score(options, judge, form, devices, lengths, read, responses)
    return Answers(posts, read, responses, rewards, decoding_text(options, lengths[1]), form)


def write(
    options: PromptsOptions,
    name: str,
    path: str,
    posts: Sequence[Post],
    form: TextForm,
    devices: Devices,
    lengths: tuple[int, int],
) -> tuple[list[str], list[GeneratedText]]:
    """One model's prompts as it read them, and its answers; the model is let go of.

    Args:
        lengths: most tokens of a prompt, and of an answer.
    """
    longest_prompt, longest = lengths
    policy = Policy.load(name, path, choose_dtype(options.dtype, devices.policy), devices.policy, sum(lengths))
    read = [form.cut(post.prompt, policy.tokenizer, longest_prompt) for post in posts]
    set_seed(options.seed)
    made = generate_texts(policy.model, policy.tokenizer, read, up_to(longest, how(options)), options.batch_size)
    del policy
    release_memory()
    return read, made


def how(options: PromptsOptions) -> dict[str, Any]:
    """The way tokens are chosen, as the engine's generation takes it."""
    if not options.sample:
        return GREEDY
    return {"do_sample": True, **{name: getattr(options, name) for name in ("temperature", "top_k", "top_p")}}


def decoding_text(options: PromptsOptions, longest: int) -> str:
    """The same in words."""
    if not options.sample:
        return f"greedy, at most {longest} new tokens"
    cuts = [f"{name} {getattr(options, name):g}" for name in ("top_k", "top_p") if how(options)[name] not in (0, 1.0)]
    drawn = ", ".join([f"sampled at temperature {options.temperature:g}", *cuts, f"seed {options.seed}"])
    return f"{drawn}, at most {longest} new tokens"


def score(
    options: PromptsOptions,
    judge: str,
    form: TextForm,
    devices: Devices,
    lengths: tuple[int, int],
    read: dict[str, list[str]],
    responses: dict[str, list[GeneratedText]],
) -> dict[str, list[float]]:
    """The reward of every model's answers."""
    dtype: torch.dtype = choose_dtype(options.reward_dtype, devices.reward)
    longest, wanted = sum(lengths), options.reward_label
    scorer = RewardScorer.load(judge, devices.reward, dtype, longest, options.batch_size, form.cut, wanted)
    return {
        name: scorer.score(read[name], [one.text for one in made], [one.ended for one in made])
        for name, made in responses.items()
    }
