"""Many runs of a script with different settings, by Ray Tune, and a table of what they reached.

    python -m trlx.sweep --config configs/sweeps/ppo_sweep.yml examples/ppo_sentiments.py
    python -m trlx.sweep -y --num_cpus 1 --config configs/sweeps/randomwalks_sweep.yml \\
        examples/randomwalks/ppo_randomwalks.py '{"train.total_steps": 40}'

The script has a function `main(hparams)`; a trial is a process of its own that calls it with the settings drawn, and
with `train.checkpoint_dir` and `train.logging_dir` in the trial's folder, from whose metrics.jsonl the metric is read.
The YAML has a section `tune_config` (see `Plan`) and a section for each setting:

    method.init_kl_coef: {strategy: loguniform, values: [0.001, 0.1]}

Left out: model-based search (bayesopt, bohb), and trials that span machines.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import logging
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trlx.utils.cli import OneLineParser
from trlx.utils.errors import UserError, nearest, run_main
from trlx.utils.files import write_json, write_text
from trlx.utils.metrics import read_metrics
from trlx.utils.strict import build, read_numbers
from trlx.utils.yaml_file import read_yaml

# Strategy → names of its values; they are the arguments of the function of that name in ray.tune.
STRATEGIES: dict[str, tuple[str, ...]] = {
    "uniform": ("lower", "upper"),
    "quniform": ("lower", "upper", "q"),
    "loguniform": ("lower", "upper"),
    "qloguniform": ("lower", "upper", "q"),
    "randn": ("mean", "sd"),
    "qrandn": ("mean", "sd", "q"),
    "randint": ("lower", "upper"),
    "qrandint": ("lower", "upper", "q"),
    "lograndint": ("lower", "upper"),
    "qlograndint": ("lower", "upper", "q"),
}
LISTS = {"choice": "choice", "grid": "grid_search", "grid_search": "grid_search"}
SEARCHES, SCHEDULERS = ("random", "grid"), ("fifo", "hyperband")
LOG_FILE, HPARAMS_FILE = "trial.log", "hparams.json"


@dataclass
class Plan:
    """The section `tune_config`.

    Args:
        metric: name in metrics.jsonl, e.g. reward/mean; a trial counts with its last value.
        mode: "max" or "min".
        search_alg: "random", or "grid" where every strategy is grid.
        scheduler: "fifo" runs every trial to its end; "hyperband" stops poor ones early (asynchronous successive
            halving, Li et al. 2018, arXiv 1810.05934).
        num_samples: draws; with grids, passes over the whole grid.
        max_concurrent_trials: at once; null takes what the machine holds.
        time_budget_s: seconds after which no trial goes on.
        seed: of the draws.
        max_t: optimizer steps after which "hyperband" ends a trial. grace_period: steps that every trial may take.
    """

    metric: str
    mode: str
    search_alg: str | None = "random"
    scheduler: str | None = "fifo"
    num_samples: int = 1
    max_concurrent_trials: int | None = None
    time_budget_s: float | None = None
    seed: int = 0
    max_t: int = 10000
    grace_period: int = 100

    def __post_init__(self) -> None:
        self.search_alg, self.scheduler = self.search_alg or "grid", self.scheduler or "fifo"
        _require("tune_config.mode", self.mode, ("max", "min"))
        _require("tune_config.search_alg", self.search_alg, SEARCHES)
        _require("tune_config.scheduler", self.scheduler, SCHEDULERS)
        if self.num_samples < 1:
            raise UserError(f"tune_config.num_samples must be 1 or more, not {self.num_samples}")


@dataclass
class Trial:
    """What became of one trial."""

    name: str
    status: str  # "finished", "stopped" by the scheduler or the time budget, or "failed"
    value: float | None  # the metric's last
    steps: int  # optimizer steps when it was last logged
    hparams: dict[str, Any]
    folder: str


def _require(where: str, value: Any, options: Sequence[str]) -> None:
    if value not in options:
        raise UserError(f"{where} must be {' or '.join(options)}, not '{value}'")


def read_sweep(path: str | Path) -> tuple[Plan, dict[str, tuple[str, list[Any]]]]:
    """(plan, setting → (strategy, values)) of a sweep's YAML. Raises: UserError naming the file and the key."""
    file = read_yaml(path)
    sections = dict(file.values)
    try:
        if "tune_config" not in sections:
            raise UserError("missing section 'tune_config' with metric and mode")
        plan = build(Plan, sections.pop("tune_config"), "tune_config")
        space = {str(name): _read_setting(str(name), section) for name, section in sections.items()}
        if not space:
            raise UserError("there is nothing to sweep: add a section such as 'optimizer.kwargs.lr'")
        for name, (strategy, _) in space.items():
            if plan.search_alg == "grid" and strategy not in ("grid", "grid_search"):
                raise UserError(f"'{name}' has strategy {strategy}: search_alg grid takes grid alone, random takes all")
    except UserError as error:
        raise file.refusal(error) from error
    return plan, space


def _read_setting(name: str, section: Any) -> tuple[str, list[Any]]:
    if not isinstance(section, Mapping) or set(section) != {"strategy", "values"}:
        raise UserError(f"'{name}' must have the keys strategy and values, and no other")
    strategy, values = str(section["strategy"]), section["values"]
    if not isinstance(values, list) or not values:
        raise UserError(f"'{name}.values' must be a list, not {values!r}")
    values = list(read_numbers({"values": values})["values"])
    if strategy in LISTS:
        return strategy, values
    if strategy not in STRATEGIES:
        raise UserError(f"'{name}' has unknown strategy '{strategy}'{nearest(strategy, {**STRATEGIES, **LISTS})}")
    wanted = STRATEGIES[strategy]
    if len(values) != len(wanted) or not all(isinstance(value, (int, float)) for value in values):
        raise UserError(f"'{name}.values' of {strategy} must be the numbers [{', '.join(wanted)}], not {values!r}")
    if wanted[0] == "lower" and values[0] >= values[1]:
        raise UserError(f"'{name}.values': lower ({values[0]}) must be below upper ({values[1]})")
    if "log" in strategy and values[0] <= 0:
        raise UserError(f"'{name}.values' of {strategy} must be above 0, not {values[0]}")
    return strategy, values


def search_space(settings: Mapping[str, tuple[str, list[Any]]]) -> dict[str, Any]:
    """Ray Tune's search space."""
    from ray import tune

    space = {}
    for name, (strategy, values) in settings.items():
        make: Callable[..., Any] = getattr(tune, LISTS.get(strategy, strategy))
        space[name] = make(values) if strategy in LISTS else make(*values)
    return space


def load_main(script: str | Path) -> Callable[[dict[str, Any]], Any]:
    """A script's `main(hparams)`. Raises: UserError when there is none."""
    path = Path(script).resolve()
    if not path.is_file():
        raise UserError(f"there is no script at {script}")
    sys.path.insert(0, str(path.parent))  # as when Python runs the file
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{script} is not a Python script")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(vars(module).get("main")):
        raise UserError(f"{script} must define main(hparams)")
    main: Callable[[dict[str, Any]], Any] = vars(module)["main"]
    return main


def read_hparams(text: str | None) -> dict[str, Any]:
    """Settings of every trial from JSON, or from a JSON or YAML file."""
    if text is None:
        return {}
    is_file = not text.lstrip().startswith("{")
    try:
        values = yaml.safe_load(Path(text).read_text(encoding="utf-8") if is_file else text)
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"the default hparams must be JSON or a file of JSON or YAML, not {text!r}") from error
    if not isinstance(values, dict):
        raise UserError(f"the default hparams must be a dict, not {text!r}")
    return values


def trial_command(script: str, hparams_file: Path, accelerate_config: str | None) -> list[str]:
    """The process of one trial, or of its launcher."""
    launcher = [sys.executable]
    if accelerate_config is not None:
        launcher += ["-m", "accelerate.commands.launch", "--config_file", accelerate_config]
    return [*launcher, "-m", "trlx.sweep", "--trial", str(hparams_file), script]


def run_trial(drawn: Mapping[str, Any], metric: str, script: str, base: Mapping[str, Any], launch: Mapping) -> None:
    """The body of a trial, in a Ray worker: start the script, report the metric as it is written.

    Args:
        drawn: setting → value. base: settings of every trial.
        launch: accelerate_config (a path or None) and cwd of the process.

    Raises: RuntimeError with the script's last words when it fails.
    """
    from ray import tune

    folder = Path(str(tune.get_context().get_trial_dir()))
    hparams = {**base, **{name: _plain(value) for name, value in drawn.items()}}
    hparams |= {"train.checkpoint_dir": str(folder / "ckpts"), "train.logging_dir": str(folder / "logs")}
    write_json(folder / HPARAMS_FILE, hparams)
    command = trial_command(script, folder / HPARAMS_FILE, launch["accelerate_config"])
    log = folder / LOG_FILE
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, cwd=launch["cwd"], stdout=output, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
        )
    seen, code = 0, None
    while code is None:
        code = _wait(process, seconds=0.5)
        lines = [line for line in read_metrics(folder / "logs") if line.get(metric) is not None]
        for line in lines[seen:]:
            tune.report({metric: line[metric], "step": line["step"]})
        seen = len(lines)
    if code != 0:
        raise RuntimeError(f"exit code {code}: {_last_line(log)}")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _die_with_parent() -> None:
    """Ask Linux to end this process when the Ray worker that started it ends: a stopped trial leaves nothing behind."""
    if sys.platform != "linux":
        return
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 = PR_SET_PDEATHSIG


def _plain(value: Any) -> Any:
    """A number that Ray drew with NumPy as Python's own, for JSON."""
    return value.item() if type(value).__module__ == "numpy" else value


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it printed nothing"


def sweep(
    plan: Plan,
    settings: Mapping[str, tuple[str, list[Any]]],
    script: str,
    folder: Path,
    base: Mapping[str, Any],
    resources: Mapping[str, float],
    accelerate_config: str | None = None,
    server_address: str | None = None,
) -> list[Trial]:
    """Run all trials, below `folder`; the best comes first, failed ones last.

    Args:
        base: settings of every trial. resources: "cpu" and "gpu" of one trial.
        accelerate_config: a file for `accelerate launch`, which then starts a trial's processes.
        server_address: of a Ray cluster that is up; None starts one on this machine.

    Raises: UserError when the machine lacks the resources or no trial gave the metric.
    """
    _prepare_environment(alone=server_address is None)
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback
    from ray.tune.search.basic_variant import BasicVariantGenerator

    _start_ray(server_address, resources)
    launch = {"accelerate_config": accelerate_config, "cwd": os.getcwd()}

    def body(drawn: dict[str, Any]) -> None:
        run_trial(drawn, plan.metric, script, base, launch)

    tuner = tune.Tuner(
        tune.with_resources(body, dict(resources)),
        param_space=search_space(settings),
        tune_config=tune.TuneConfig(
            metric=plan.metric,
            mode=plan.mode,
            num_samples=plan.num_samples,
            search_alg=BasicVariantGenerator(random_state=plan.seed),
            scheduler=_scheduler(plan),
            max_concurrent_trials=plan.max_concurrent_trials,
            time_budget_s=plan.time_budget_s,
            trial_dirname_creator=lambda trial: f"trial_{trial.trial_id.split('_')[-1]}",
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent.resolve()),
            callbacks=[JsonLoggerCallback()],  # Tune wants one that writes files
            verbose=1,
        ),
    )
    results = tuner.fit()
    trials = [
        _judge(Path(str(result.path)), result.error, plan.metric)
        for result in (results[i] for i in range(len(results)))
    ]
    sign = -1 if plan.mode == "max" else 1
    return sorted(trials, key=lambda trial: (trial.value is None, sign * (trial.value or 0.0)))


def _prepare_environment(alone: bool) -> None:
    """Settings that Ray reads when it is imported."""
    settings = {
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if alone:  # else Ray takes 127.0.0.1 for the machine's own address, and listens on all that it has
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ.update({name: os.environ.get(name, value) for name, value in settings.items()})


def _start_ray(server_address: str | None, resources: Mapping[str, float]) -> None:
    import ray

    if server_address is None:
        ray.init(
            address="local",  # not one that happens to be up
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            _node_ip_address="127.0.0.1",
        )
    else:
        known = server_address == "auto" or "://" in server_address
        ray.init(address=server_address if known else f"ray://{server_address}", log_to_driver=False)
    there = ray.cluster_resources()
    for name, wanted in (("CPU", resources["cpu"]), ("GPU", resources["gpu"])):
        if wanted > there.get(name, 0):
            option = f"--num_{name.lower()}s"
            raise UserError(f"a trial needs {wanted:g} {name}s, Ray has {there.get(name, 0):g}: lower {option}")


def _scheduler(plan: Plan) -> Any:
    from ray.tune import schedulers

    if plan.scheduler == "fifo":
        return schedulers.FIFOScheduler()
    return schedulers.AsyncHyperBandScheduler(
        time_attr="step", max_t=plan.max_t, grace_period=min(plan.grace_period, plan.max_t)
    )


def _judge(folder: Path, error: Exception | None, metric: str) -> Trial:
    file = folder / HPARAMS_FILE
    hparams = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    places = ("train.checkpoint_dir", "train.logging_dir")
    lines = [line for line in read_metrics(folder / "logs") if line.get(metric) is not None]
    status = "failed" if error else ("finished" if _ended(folder) else "stopped")
    return Trial(
        name=folder.name,
        status=status,
        value=float(lines[-1][metric]) if lines and not error else None,
        steps=int(lines[-1]["step"]) if lines else 0,
        hparams={name: value for name, value in hparams.items() if name not in places},
        folder=str(folder),
    )


def _ended(folder: Path) -> bool:
    """Whether the trial's script came to its end, of which `run_one` leaves a mark."""
    return (folder / "finished").exists()


def run_one(script: str, hparams_file: str) -> None:
    """What a trial's process does."""
    file = Path(hparams_file)
    load_main(script)(json.loads(file.read_text(encoding="utf-8")))
    (file.parent / "finished").touch()


def report(trials: Sequence[Trial], plan: Plan, folder: Path, script: str) -> None:
    """Write trials.csv, trials.json and best.yaml to `folder` and print a table of the settings that differ.

    Raises: UserError when no trial gave the metric.
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial.hparams))
    columns = ["trial", "status", plan.metric, "steps", *names]
    rows = [[t.name, t.status, t.value, t.steps, *(t.hparams.get(name) for name in names)] for t in trials]
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    write_text(folder / "trials.csv", text.getvalue())
    write_json(folder / "trials.json", [vars(trial) for trial in trials])
    shown = [i for i, name in enumerate(columns) if i < 4 or len({str(row[i]) for row in rows}) > 1]
    _print_table([columns[i] for i in shown], [[row[i] for i in shown] for row in rows])
    if not trials or trials[0].value is None:
        raise UserError(f"no trial gave '{plan.metric}'{_why(trials, plan.metric)}")
    best = folder / "best.yaml"
    write_text(best, yaml.safe_dump(trials[0].hparams, sort_keys=False))
    print(f"best: {trials[0].name}, {plan.metric} {trials[0].value:.4g}; its settings are in {best}")
    print(f"again: {sys.executable} {script} {shlex.quote(json.dumps(trials[0].hparams))}")


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    view = Table(title=f"{len(rows)} trials")
    for column in columns:
        view.add_column(column, overflow="fold")
    for row in rows:
        view.add_row(*[Text(f"{cell:.4g}" if isinstance(cell, float) else str(cell)) for cell in row])
    Console().print(view)


def _why(trials: Sequence[Trial], metric: str) -> str:
    logged = {name for trial in trials for line in read_metrics(Path(trial.folder) / "logs") for name in line}
    if logged:
        return nearest(metric, logged - {"step", "time"})
    logs = [Path(trial.folder) / LOG_FILE for trial in trials]
    told = [log for log in logs if log.exists()]
    return f": {_last_line(told[0])} (see {told[0]})" if told else f": see {trials[0].folder}" if trials else ""


def _parse(argv: Sequence[str] | None) -> Any:
    parser = OneLineParser(prog="python -m trlx.sweep", description="Run a script with many settings, by Ray Tune.")
    parser.add_argument("script", type=str, help="a script with main(hparams)")
    parser.add_argument("hparams", type=str, nargs="?", help="settings of every trial: JSON, or a JSON or YAML file")
    parser.add_argument("--config", type=str, help="the sweep's YAML")
    parser.add_argument("--num_cpus", "--num-cpus", type=int, default=1, help="CPUs of one trial")
    parser.add_argument("--num_gpus", "--num-gpus", type=int, help="GPUs of one trial; one where there is one")
    parser.add_argument("--accelerate_config", "--accelerate-config", type=str, help="for `accelerate launch`")
    parser.add_argument("--server_address", "--server-address", type=str, help="of a Ray cluster that is up")
    parser.add_argument("--output", type=str, help="folder; runs/sweeps/<script>-<time> by default")
    parser.add_argument("-y", "--assume_yes", "--assume-yes", action="store_true", help="do not ask first")
    parser.add_argument("--trial", type=str, help="for the sweep itself: run one trial with this file of settings")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    options = _parse(argv)
    if options.trial is not None:
        return run_one(options.script, options.trial)
    if options.config is None:
        raise UserError("--config is needed: the sweep's YAML, such as configs/sweeps/ppo_sweep.yml")
    plan, settings = read_sweep(options.config)
    base, script = read_hparams(options.hparams), str(Path(options.script).resolve())
    if not Path(script).is_file():
        raise UserError(f"there is no script at {options.script}")
    if options.accelerate_config is not None and not Path(options.accelerate_config).is_file():
        raise UserError(f"--accelerate_config: there is no file at {options.accelerate_config}")
    name = f"{Path(script).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = Path(options.output or Path("runs") / "sweeps" / name).resolve()
    if not options.assume_yes and not _agreed(script, folder):
        return None
    accelerate_config = str(Path(options.accelerate_config).resolve()) if options.accelerate_config else None
    resources = {"cpu": options.num_cpus, "gpu": _gpus() if options.num_gpus is None else options.num_gpus}
    try:
        trials = sweep(plan, settings, script, folder, base, resources, accelerate_config, options.server_address)
    finally:
        import ray

        ray.shutdown()
    return report(trials, plan, folder, script)


def _agreed(script: str, folder: Path) -> bool:
    print(f"this runs main() of {script} once a trial, and writes to {folder}")
    return input("go on? y/n: ").strip().lower() in ("y", "yes")


def _gpus() -> int:
    import torch

    return min(torch.cuda.device_count(), 1)


if __name__ == "__main__":
    run_main(main)
