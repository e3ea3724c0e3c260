"""What a run is going to do: its folder, its stages and the options of each, its machines; refused where it cannot."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.ended import says_finished
from launch.local import free_port
from launch.pipeline.folder import Record, next_root, require_new
from launch.pipeline.hosts import RemoteShell
from launch.pipeline.machines import Machines, accelerate_file, choose_machines
from launch.pipeline.options import PipelineOptions, Request, value_of
from launch.pipeline.stages import STAGES, on_port, python_stage, stage_commands
from tasks.run_folder import REPO, RunFolder, fill_places
from trlx.utils.errors import UserError
from trlx.utils.yaml_file import read_yaml


@dataclass
class Plan:
    """One start of a run."""

    request: Request
    options: PipelineOptions  # places filled
    folder: RunFolder
    record: Record
    stages: list[str]  # to run, in order
    machines: Machines
    files: dict[str, Path]  # stage → its YAML file, of all that are switched on
    accelerate: Path
    extra: dict[str, list[str]] = field(default_factory=dict)  # stage → options to go on with, or to do it anew

    def stage_options(self, stage: str) -> list[str]:
        """Everything that follows the stage's program on its command line."""
        kind, options = STAGES[stage], self.options
        seeded = options.seed is not None and kind.seed is not None
        seed = [f"--{kind.seed}", str((options.seed or 0) + kind.seed_offset)] if seeded else []
        shared = ["--config", str(self.files[stage]), "--root", str(self.folder.root), *seed]
        return [*shared, *self.request.stage_options(stage), *self.extra.get(stage, [])]

    def commands(self, stage: str) -> list[list[str]]:
        """The command of a stage on each machine that takes part in it, as that machine's own."""
        by_accelerate = STAGES[stage].launcher == "accelerate"
        machine = self.machines.ppo if by_accelerate else self.machines.trainers
        nodes = self.machines.nodes(self.folder.hostfile)
        if len(nodes) > 1:
            nodes = on_port(nodes, free_port())
        return stage_commands(STAGES[stage], machine, str(self.accelerate), self.stage_options(stage), nodes)

    def started(self, stage: str, environment: dict[str, str]) -> list[list[str]]:
        """The same as run from here: those of other machines through the remote shell."""
        shell = RemoteShell(self.options.remote_shell, environment)
        commands, hosts = self.commands(stage), self.machines.hosts
        if not hosts:
            return commands
        return [shell.on(host, command) for host, command in zip(hosts, commands, strict=False)]

    def check_command(self, stage: str) -> list[str]:
        """A command that fails with one line where the stage's options cannot be meant, and does nothing else."""
        return python_stage(STAGES[stage], [*self.stage_options(stage), "--print_config"])

    def seeds(self) -> dict[str, int | None]:
        """The seed of each stage; None for its script's own, or for none."""
        return {stage: self._seed(stage) for stage in self.stages}

    def _seed(self, stage: str) -> int | None:
        option = STAGES[stage].seed
        if option is None:
            return None
        given = self.stage_options(stage)
        found = value_of(option, given)
        if found is not None:
            return int(found) if found.isdecimal() else None
        value: Any = read_yaml(self.files[stage]).values
        for part in option.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value if isinstance(value, int) else None

    def go_on(self, stage: str) -> str:
        """The command line that goes on from a stage."""
        words = ["bash", "train.sh", self.request.mode, "--root", str(self.folder.root), "--from", stage]
        return shlex.join([*words, *(["--hostfile", str(self.folder.hostfile)] if self.machines.hosts else [])])


def make_plan(request: Request) -> Plan:
    """Settle everything that can be settled without starting anything; nothing is written.

    Raises: UserError for stages, machines or a folder that cannot be used as asked.
    """
    stages = request.chosen()
    machines = choose_machines(request)
    root = next_root() if request.options.root is None else Path(request.options.root).resolve()
    options = fill_places(request.options, root)
    files = {name: Path(getattr(options, name)).resolve() for name in STAGES if getattr(options, name) is not None}
    for path in files.values():
        read_yaml(path)
    folder = RunFolder(root)
    plan = Plan(
        request,
        options,
        folder,
        Record(folder),
        stages,
        machines,
        files,
        Path(options.accelerate or REPO / accelerate_file(machines.ppo, machines.count)).resolve(),
    )
    _require_ranks(plan)
    _require_fitting_folder(plan)
    plan.extra = {stage: _extra(plan, stage) for stage in stages}
    return plan


def state_of(plan: Plan, stage: str) -> str | None:
    """A stage's state as `Record.state` has it; where no start was recorded, as the stage's own record tells."""
    state, folder = plan.record.state(stage), record_folder(plan, stage)
    finished = None if folder is None else says_finished(folder)
    if state is None and finished is not None:
        return "finished" if finished else "interrupted"
    return state


def record_folder(plan: Plan, stage: str) -> Path | None:
    """Where a stage keeps its own record; None for a stage that trains nothing."""
    out = STAGES[stage].out
    return None if out is None else out(plan.folder)


def _require_ranks(plan: Plan) -> None:
    """Refuse a file under which accelerate would start one process where there should be several, and not say so."""
    processes = plan.machines.ppo.processes * plan.machines.count
    kind = read_yaml(plan.accelerate).values.get("distributed_type")
    accelerated = any(STAGES[stage].launcher == "accelerate" for stage in plan.stages)
    if accelerated and processes > 1 and kind not in ("DEEPSPEED", "MULTI_GPU"):
        raise UserError(
            f"{plan.accelerate}: distributed_type {kind} is not for {processes} processes: name with --accelerate a "
            "file with DEEPSPEED or MULTI_GPU, such as configs/accelerate/ddp.yaml"
        )


def _require_fitting_folder(plan: Plan) -> None:
    """A new run needs a new folder, a run that is gone on with an old one. Raises: UserError."""
    options, first = plan.request.options, next(iter(plan.files))
    going_on = options.from_stage or options.only
    if options.root is None and going_on not in (None, first):
        option = "--only" if options.only else "--from"
        raise UserError(f"{option} {going_on} needs what came before: name the run's folder with --root")
    if options.root is not None and going_on is None:
        left = next((stage for stage in plan.files if state_of(plan, stage) != "finished"), next(reversed(plan.files)))
        require_new(plan.folder.root, f"go on with --from {left}")


def _extra(plan: Plan, stage: str) -> list[str]:
    """Options that a stage needs besides for what is there of it. Raises: UserError where it has finished."""
    kind, state = STAGES[stage], state_of(plan, stage)
    if plan.options.overwrite:
        return list(kind.anew)
    if state == "finished" and kind.anew:
        later = [name for name in plan.files if state_of(plan, name) != "finished"]
        on = f"--from {later[0]} goes on, " if later else ""
        raise UserError(f"{stage} has finished in {plan.folder.root}: {on}--overwrite does it anew")
    return [] if state in (None, "finished") else list(kind.go_on)
