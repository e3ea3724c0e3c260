"""The stages of a run, one after another: checked, run, and told how to go on after whatever stopped them."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from launch.ended import Ending
from launch.local import python_command, stage_environment
from launch.pipeline.ending import describe, last_lines
from launch.pipeline.folder import claim_new_root, write_options
from launch.pipeline.hosts import RemoteShell, check_hosts
from launch.pipeline.machines import narrowed
from launch.pipeline.options import lasting, parse
from launch.pipeline.plan import Plan, make_plan, record_folder
from launch.running import Interrupted, interruptible, run_together
from tasks.run_folder import RunFolder, fill_places
from trlx.utils.disk import require_writable
from trlx.utils.errors import UserError
from trlx.utils.files import write_text
from trlx.utils.lock import holding
from trlx.utils.op_locks import remove_stale_locks

CHECK_SECONDS = 600.0


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and run its stages; exits with 128 + the signal's number after one."""
    request = parse(sys.argv[1:] if argv is None else argv)
    try:
        with interruptible():
            run(make_plan(request))
    except Interrupted as interruption:
        sys.exit(interruption.code)


def run(plan: Plan) -> None:
    """Run the plan's stages. Raises: UserError for what cannot be used, and for a stage that fails."""
    if plan.machines.trainers.reason:
        _say(f"{plan.machines.trainers.reason}: the stages run without it, in one process")
    environment = narrowed(plan.request.mode, plan.machines.trainers, stage_environment(plan.machines.trainers))
    if plan.options.dry_run:
        show(plan, environment)
        return
    require_writable(plan.folder.root, "--root")
    if plan.machines.hosts:
        shell = RemoteShell(plan.options.remote_shell, environment)
        check_hosts(plan.machines.hosts, shell, plan.folder.root, plan.options.connect_timeout)
    if plan.options.check:
        check_stages(plan, environment)
    take_folder(plan)
    with holding(plan.folder.root):
        prepare(plan)
        remove_stale_locks(Path(environment["TORCH_EXTENSIONS_DIR"]))
        for number, stage in enumerate(plan.stages, start=1):
            _say(f"\n=== {number} of {len(plan.stages)}: {stage}")
            run_one(plan, stage, environment)
    if plan.options.archive:
        keep(plan, environment)
    _say(f"\nDone: {plan.folder.root} (record: run.json, output of each stage: logs/)")


def keep(plan: Plan, environment: dict[str, str]) -> None:
    """Archive the run beside it, in a process of its own as every stage is. Raises: UserError where that fails."""
    to = plan.folder.root.parent / "archive"
    command = python_command(["-m", "launch", "archive", str(plan.folder.root), "--to", str(to)])
    if subprocess.run(command, env=environment, check=False).returncode:
        raise UserError(f"the run is done and not archived: python -m launch archive {plan.folder.root} tries again")


def show(plan: Plan, environment: dict[str, str]) -> None:
    """Print the commands of each stage, one a machine."""
    _say(f"# in {plan.folder.root}")
    for stage in plan.stages:
        _say(f"# {stage}")
        for command in plan.started(stage, environment):
            _say(shlex.join(command))


def check_stages(plan: Plan, environment: dict[str, str]) -> None:
    """Let every stage read its options, so that a slip in the last one's does not show hours later.

    Raises: UserError with the stage's own line.
    """
    _say(f"checking the options of {', '.join(plan.stages)} (--check false leaves this out)")
    pool = ThreadPoolExecutor(max_workers=4)
    try:
        said = list(pool.map(lambda stage: _objection(plan.check_command(stage), environment), plan.stages))
    finally:
        pool.shutdown(cancel_futures=True)
    for stage, line in zip(plan.stages, said, strict=True):
        if line is not None:
            raise UserError(f"{stage}: {line}")


def _objection(command: list[str], environment: dict[str, str]) -> str | None:
    how: dict[str, Any] = {"capture_output": True, "text": True, "errors": "replace", "check": False}
    try:
        ran = subprocess.run(command, env=environment, timeout=CHECK_SECONDS, **how)
    except subprocess.TimeoutExpired:
        return f"did not read its options within {CHECK_SECONDS:g} s: is the disk slow? --check false leaves this out"
    lines = ran.stderr.strip().splitlines() or [f"code {ran.returncode}"]
    return None if ran.returncode == 0 else lines[-1].removeprefix("error: ")


def take_folder(plan: Plan) -> None:
    """Make the run's folder; one without a name given gets the next free one, which may have been taken meanwhile."""
    if plan.request.options.root is None:
        plan.folder = RunFolder(claim_new_root(plan.folder.root.parent))
        plan.record.path = plan.folder.record
        plan.options = fill_places(plan.request.options, plan.folder.root)
    else:
        plan.folder.root.mkdir(parents=True, exist_ok=True)


def prepare(plan: Plan) -> None:
    """Write down in the run's folder how it is run: copies of the YAML files, which the stages read, and the record."""
    texts = {stage: path.read_text(encoding="utf-8") for stage, path in plan.files.items()}
    texts["accelerate"] = plan.accelerate.read_text(encoding="utf-8")
    kept = dataclasses.replace(plan.request.options, overrides=_all_overrides(plan))
    write_options(plan.folder, lasting(kept), texts)
    plan.files = {stage: plan.folder.configs / f"{stage}.yaml" for stage in plan.files}
    plan.accelerate = plan.folder.configs / "accelerate.yaml"
    if plan.options.hostfile is not None:
        lines = (f"{host.name} slots={host.slots}\n" for host in plan.machines.hosts)
        write_text(plan.folder.hostfile, "".join(lines))
    plan.record.start(
        command=plan.request.command,
        mode=plan.request.mode,
        machines=plan.machines.count,
        processes=plan.machines.count * plan.machines.trainers.processes,
        stages=plan.stages,
        seeds=plan.seeds(),
    )


def run_one(plan: Plan, stage: str, environment: dict[str, str]) -> None:
    """Run one stage to its end. Raises: UserError where it fails, with its last lines printed."""
    log = plan.folder.log(stage)
    offset = log.stat().st_size if log.exists() else 0
    commands = plan.started(stage, environment)
    labels = [host.name for host in plan.machines.hosts[: len(commands)]] if len(commands) > 1 else [""]
    ending = Ending(record_folder(plan, stage))
    plan.record.begin(stage)
    state = "failed"
    try:
        code = run_together(commands, environment, log, labels, more=True)
        if code == 0:
            state = "interrupted" if ending.stopped_early() else "finished"
    except (KeyboardInterrupt, Interrupted) as interruption:
        state = "interrupted"
        name = getattr(interruption, "name", "Ctrl-C")
        print(f"\n{stage} was interrupted ({name}); go on with: {plan.go_on(stage)}", file=sys.stderr, flush=True)
        raise
    finally:
        seconds = plan.record.end(stage, state)
    if state == "finished":
        _say(f"{stage}: {seconds:.0f} s")
        return
    how = "was stopped before its end" if state == "interrupted" else describe(code)
    if state == "failed":
        print(f"\n--- the last lines of {log}", *last_lines(log, offset), "---", sep="\n", file=sys.stderr)
    raise UserError(f"{stage} {how}: see {log}; go on with: {plan.go_on(stage)}")


def _all_overrides(plan: Plan) -> dict[str, dict[str, object]]:
    """The stages' options of this command line, put among the overrides so that they hold on when it is gone on."""
    merged = {stage: dict(values) for stage, values in plan.request.options.overrides.items()}
    for stage, given in plan.request.handed_on.items():
        merged.setdefault(stage, {}).update(_as_settings(given))
    return merged


def _as_settings(given: Sequence[str]) -> dict[str, object]:
    """`["--a", "1", "--b=2", "--c"]` as `{"a": "1", "b": "2", "c": True}`."""
    settings: dict[str, object] = {}
    name = ""
    for part in given:
        if part.startswith("--"):
            name, equals, value = part.removeprefix("--").partition("=")
            settings[name] = value if equals else True
        else:
            settings[name] = part
    return settings


def _say(line: str) -> None:
    print(line, flush=True)
