"""A stage as a Ray job, on this machine or a cluster, started again from its last checkpoint when it fails.

    python -m launch.ray_jobs --stage sft --num_workers 2 -- --config configs/tiny/sft.yaml --root runs/demo
    python -m launch.ray_jobs --stage ppo --num_workers 4 --resources_per_worker CPU=8,GPU=1 \\
        --address ray://head:10001 --storage /shared/ray --max_failures 3 -- --root /shared/runs/1
    python -m launch.ray_jobs --stage evaluation -- --root runs/demo

Options after `--` go to the stage. Training stages are Ray Train jobs (DDP: gloo on CPUs, NCCL on GPUs), the evaluation
is one Ray task. Left out: DeepSpeed under Ray, elastic numbers of workers, Ray's own datasets.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from launch.ray_jobs.cluster import connected, require_ray, require_room
from launch.ray_jobs.options import SCRIPTS, RayOptions, check_options, read_resources, split_command_line
from launch.ray_jobs.output import log_path, shown
from launch.ray_jobs.worker import Job, evaluate, train_loop
from tasks.run_folder import DEFAULT_ROOT, fill_places
from trlx.utils.cli import parse_config
from trlx.utils.disk import require_writable
from trlx.utils.errors import UserError


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and run the job."""
    ours, stage = split_command_line(sys.argv[1:] if argv is None else argv)
    options = parse_config(RayOptions, "A stage as a Ray job; its own options come after `--`.", ours)
    run_job(fill_places(options, DEFAULT_ROOT), stage)


def run_job(options: RayOptions, argv: list[str]) -> None:
    """Run one stage to its end.

    Args:
        options: of the job, places filled. argv: of the stage.

    Raises: UserError for a mistake in the input of either, for resources that the cluster lacks, and for a stage that
        failed more often than --max_failures allows.
    """
    check_options(options)
    resources = read_resources(options.resources_per_worker)
    require_ray()
    storage = Path(options.storage).resolve()
    if options.address is None:
        require_writable(storage, "--storage")
    name = f"{options.stage}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    job = Job(options.stage, argv, str(storage / name), os.getcwd())
    with connected(options.address, gpu=resources["GPU"] > 0):
        require_room(options.num_workers, resources)
        run = _train if SCRIPTS[options.stage].ranks else _evaluate
        print(f"[ray] {options.stage}: output and Ray's records are in {job.folder}", flush=True)
        with shown(log_path(job.folder, 0)):
            attempts = run(job, options, resources)
    print(f"[ray] {options.stage} is done; it was started {attempts} time{'s' * (attempts > 1)}", flush=True)


def _train(job: Job, options: RayOptions, resources: dict[str, float]) -> int:
    """A Ray Train job; returns how often the stage was started."""
    from ray import train
    from ray.train.torch import TorchTrainer

    gpu = resources["GPU"] > 0
    trainer = TorchTrainer(
        train_loop,
        train_loop_config=job.plain(),
        scaling_config=train.ScalingConfig(
            num_workers=options.num_workers,
            use_gpu=gpu,
            resources_per_worker={name: amount for name, amount in resources.items() if amount > 0},
        ),
        run_config=train.RunConfig(
            name=Path(job.folder).name,
            storage_path=str(Path(job.folder).parent),
            failure_config=train.FailureConfig(max_failures=options.max_failures),
            checkpoint_config=train.CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        metrics = trainer.fit().metrics or {}
    except train.TrainingFailedError as error:
        _refuse_mistake(job)
        raise _failure(job, options, error) from error
    if not metrics.get("finished"):
        _refuse_mistake(job)
        raise RuntimeError(f"Ray ended {job.stage} before it was done: {metrics}")
    return int(metrics.get("attempt", 1))


def _failure(job: Job, options: RayOptions, error: Exception) -> UserError:
    restarts = f" after {options.max_failures} restarts" if options.max_failures else ""
    return UserError(
        f"{job.stage} failed{restarts}: {_reason(error)}; the logs in {log_path(job.folder, 0).parent} say more, "
        "and `-- --resume` goes on"
    )


def _reason(error: Exception) -> str:
    """The last line of a traceback, or of what Ray says of a worker that died."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _refuse_mistake(job: Job) -> None:
    """Raises: UserError with the mistake in the input that a rank met, read where the workers are."""
    import ray

    there = Path(job.folder).is_dir()
    told = job.told() if there else ray.get(ray.remote(num_cpus=0)(Job.told).remote(job))
    if told is not None:
        raise UserError(told)


def _evaluate(job: Job, options: RayOptions, resources: dict[str, float]) -> int:
    """A plain Ray task, started again here when it fails; returns how often it was started."""
    import ray

    others = {name: amount for name, amount in resources.items() if name not in ("CPU", "GPU") and amount > 0}
    task: Any = ray.remote(
        num_cpus=resources["CPU"], num_gpus=resources["GPU"], resources=others, max_retries=0, max_calls=1
    )(evaluate)
    attempt = 0
    while True:
        attempt += 1
        try:
            told = ray.get(task.remote(job.plain(), attempt > 1))
        except ray.exceptions.RayError as error:
            if 0 <= options.max_failures < attempt:
                raise _failure(job, options, error) from error
            print(f"[ray] {job.stage} failed ({_reason(error)}): started again", flush=True)
            continue
        if told is not None:
            raise UserError(told)
        return attempt
