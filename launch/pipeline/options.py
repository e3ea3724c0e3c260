"""The options of `train.sh`: its mode, its own options, and options handed on to single stages.

    train.sh sgl_mach --config configs/tiny/pipeline.yaml --from ppo --root runs/x --ppo.train.total_steps 40

An option whose name begins with a stage's and a dot goes to that stage as it is.
"""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.pipeline.stages import STAGES
from tasks.run_folder import REPO, RunFolder
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError, nearest
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, POSITIVE, require_ranges

MODES = {
    "sgl_gpu": "one device",
    "sgl_mach": "the devices of this machine",
    "mul_mach": "the machines of --hostfile",
}
USAGE = f"say where to run: bash train.sh {' | '.join(MODES)} [--config FILE.yaml] [--from STAGE] [--root DIR] ..."
DESCRIPTION = "SFT, reward model, PPO and evaluation, one after another; see docs/launching.md."
RANGES = {
    **dict.fromkeys(("processes", "ppo_processes"), AT_LEAST_1),
    "seed": AT_LEAST_0,
    "connect_timeout": POSITIVE,
}
# What an earlier run in the same root is gone on with; the rest of its options hold on.
OF_THIS_START = ("root", "from_stage", "only", "overwrite", "dry_run", "check", "hostfile")


@dataclass
class PipelineOptions:
    """Options of `train.sh`; the stages' own are written --STAGE.OPTION VALUE.

    Args:
        root: the run's folder; null for a new one, runs/DATE-N.
        from_stage: written --from on the command line: begin with this stage; with --root, go on with the run there.
        only: this stage and no other.
        posts: YAML file of the stage; the miniature makes its posts and a random model with it. Null: not run.
        sft: YAML file of supervised fine-tuning; null: not run.
        pairs: YAML file of the stage; the miniature makes its preference pairs with it. Null: not run.
        reward_model: YAML file of the reward model; null: not run.
        classifier: YAML file of a reward model from labels, in place of one from pairs; null: not run.
        second_reward_model: YAML file of a second one, which judges and is never trained against; null: not run.
        ppo: YAML file of PPO; null: not run.
        rft: YAML file of rejection fine-tuning; null: not run.
        evaluation: YAML file of the evaluation; null: not run.
        scores: YAML file of `python -m evaluation scores`: the reward model on good and bad answers; null: not run.
        prompts: YAML file of `python -m evaluation prompts`: answers of the models side by side; null: not run.
        archive: keep the run in runs/archive once all is done (`python -m launch archive`).
        accelerate: accelerate's YAML file for PPO; null for one that fits, from configs/accelerate.
        overrides: stage → option → value, as if given as --STAGE.OPTION VALUE.
        seed: of every stage (the second reward model's is 100 more); null for each YAML file's.
        processes: ranks of SFT and the reward models on this machine; null for one a GPU, or one without GPUs.
        ppo_processes: ranks of PPO, fewer where a GPU is to be left to the reward model; null for as many.
        hostfile: mul_mach's machines, in DeepSpeed's format: a line `NAME slots=N` for each.
        remote_shell: what runs a command on another machine, given its name and the command.
        master_address: of the hostfile's first machine as the others know it; null for its name there.
        connect_timeout: seconds in which a machine must answer.
        overwrite: do the chosen stages anew where they have begun or finished; what they wrote is removed.
        check: before anything starts, let every stage say whether its options can be meant.
        dry_run: print the commands and do nothing.
    """

    root: str | None = None
    from_stage: str | None = None
    only: str | None = None
    posts: str | None = None
    sft: str | None = "{repo}/configs/sft.yaml"
    pairs: str | None = None
    reward_model: str | None = "{repo}/configs/reward_model.yaml"
    classifier: str | None = None
    second_reward_model: str | None = None
    ppo: str | None = "{repo}/configs/ppo.yaml"
    rft: str | None = None
    evaluation: str | None = "{repo}/configs/inference.yaml"
    scores: str | None = None
    prompts: str | None = None
    archive: bool = False
    accelerate: str | None = None
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    seed: int | None = None
    processes: int | None = None
    ppo_processes: int | None = None
    hostfile: str | None = None
    remote_shell: str = "ssh -tt -o BatchMode=yes"
    master_address: str | None = None
    connect_timeout: float = 15.0
    overwrite: bool = False
    check: bool = True
    dry_run: bool = False


@dataclass
class Request:
    """What a command line asks for."""

    mode: str
    options: PipelineOptions
    handed_on: dict[str, list[str]]  # stage → options of the command line for it
    command: list[str]

    def chosen(self) -> list[str]:
        """The stages to run, in order. Raises: UserError for a stage that is unknown or has no YAML file."""
        options = self.options
        switched_on = [name for name in STAGES if getattr(options, name) is not None]
        for option, name in (("--from", options.from_stage), ("--only", options.only)):
            if name is not None and name not in STAGES:
                raise UserError(f"{option} {name}: there is no such stage{nearest(name, STAGES)}")
            if name is not None and name not in switched_on:
                raise UserError(f"{option} {name}: the stage is switched off: name its YAML file with --{name} FILE")
        if options.only is not None:
            if options.from_stage is not None:
                raise UserError("--from and --only exclude each other: give one of them")
            return [options.only]
        start = 0 if options.from_stage is None else switched_on.index(options.from_stage)
        return switched_on[start:]

    def stage_options(self, stage: str) -> list[str]:
        """Options of one stage besides its YAML file: the overrides of the pipeline's, then the command line's."""
        flat = [part for name, value in self.options.overrides.get(stage, {}).items() for part in _pair(name, value)]
        return [*flat, *self.handed_on.get(stage, [])]


def _pair(name: str, value: Any) -> tuple[str, str]:
    spelt = {True: "true", False: "false", None: "null"}
    return f"--{name}", spelt[value] if value is None or isinstance(value, bool) else str(value)


def parse(argv: Sequence[str]) -> Request:
    """Mode, options and stages' options of a command line; an existing --root's options are the defaults.

    Raises: UserError (or exits with code 2) for what cannot be meant.
    """
    if argv and argv[0] in ("-h", "--help"):
        print("bash train.sh MODE [options]; MODE:", *(f"  {mode:9} {what}" for mode, what in MODES.items()), sep="\n")
        parse_config(PipelineOptions, DESCRIPTION, ["--help"])
    if not argv or argv[0].startswith("-"):
        raise UserError(USAGE)
    if argv[0] not in MODES:
        raise UserError(f"unknown mode '{argv[0]}'{nearest(argv[0], MODES)}: {USAGE}")
    own, handed_on = _apart([_renamed(argument) for argument in argv[1:]])
    # An explicit --config is a new start for the options, in whatever folder.
    known = None if value_of("config", own) else _earlier_options(value_of("root", own))
    options = parse_config(PipelineOptions, DESCRIPTION, own, known)
    _check(argv[0], options)
    return Request(argv[0], options, handed_on, ["train.sh", *argv])


def _renamed(argument: str) -> str:
    """`--from` is a word of Python's own and can be no field's name."""
    return f"--from_stage{argument[6:]}" if argument == "--from" or argument.startswith("--from=") else argument


def _apart(arguments: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The pipeline's own arguments, and those of each stage without its name."""
    own: list[str] = []
    handed_on: dict[str, list[str]] = {}
    target = own
    for argument in arguments:
        stage, dot, rest = argument.removeprefix("--").partition(".")
        if argument.startswith("--"):
            target = handed_on.setdefault(stage, []) if dot and stage in STAGES else own
        target.append(argument if target is own or not argument.startswith("--") else f"--{rest}")
    return own, handed_on


def value_of(name: str, arguments: Sequence[str]) -> str | None:
    """What a command line gives an option, last, as `--name VALUE` or `--name=VALUE`."""
    found = [a.removeprefix(f"--{name}=") for a in arguments if a.startswith(f"--{name}=")]
    found += [after for a, after in itertools.pairwise(arguments) if a == f"--{name}"]
    return found[-1] if found else None


def _earlier_options(root: str | None) -> str | None:
    path = None if root is None else RunFolder.of(root).configs / "pipeline.yaml"
    return str(path) if path is not None and path.is_file() else None


def _check(mode: str, options: PipelineOptions) -> None:
    """Refuse options that contradict each other. Raises: UserError naming them."""
    require_ranges(options, RANGES)
    for stage in options.overrides:
        if stage not in STAGES:
            raise UserError(f"overrides: there is no stage '{stage}'{nearest(stage, STAGES)}")
    if options.reward_model and options.classifier:
        raise UserError("reward_model and classifier both make the run's reward model: set one of them to null")
    if mode == "mul_mach" and options.hostfile is None:
        raise UserError("mul_mach needs its machines: --hostfile FILE with a line `NAME slots=N` for each")
    if mode != "mul_mach" and options.hostfile is not None:
        raise UserError(f"--hostfile is for mul_mach, and this is {mode}: choose one of them")
    if mode == "sgl_gpu" and {options.processes, options.ppo_processes} - {None, 1}:
        raise UserError("sgl_gpu is one process: use sgl_mach for more")
    if mode == "mul_mach" and (options.processes or options.ppo_processes):
        raise UserError("mul_mach starts as many processes as the hostfile has slots: leave --processes out")
    _require_shell(options.remote_shell)
    if options.root is not None and Path(options.root).resolve() == REPO:
        raise UserError("--root is the repository itself: name a folder below runs/")


def _require_shell(given: str) -> None:
    """Raises: UserError for a remote shell that is no command line."""
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise UserError(f"--remote_shell {given}: {error}: write it as for a shell, e.g. 'ssh -tt'") from error
    if not words:
        raise UserError("--remote_shell is empty: name what runs a command on another machine, e.g. 'ssh -tt'")


def lasting(options: PipelineOptions) -> dict[str, Any]:
    """The options that hold on when a run is gone on with."""
    return {name: value for name, value in dataclasses.asdict(options).items() if name not in OF_THIS_START}
