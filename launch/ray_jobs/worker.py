"""What runs on the cluster: a stage's own `main(argv)` within a Ray worker.

Ray has set the process group up by then, with RANK, WORLD_SIZE and LOCAL_RANK as a launcher sets them. What is kept
between attempts is the stage's: Ray's checkpoint is one small file that says how often the stage was started.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from launch.ray_jobs.options import SCRIPTS, stage_options
from launch.ray_jobs.output import log_path, printing_to
from trlx.utils.disk import disk_trouble
from trlx.utils.distributed import is_main_rank
from trlx.utils.errors import EXIT_USER_ERROR, UserError
from trlx.utils.files import write_json, write_text

MISTAKES, STARTED_FILE = "mistakes", "started.json"
PATIENCE = 30.0  # seconds that ranks wait for the others to meet the same mistake


@dataclass(frozen=True)
class Job:
    """What a worker must know.

    Args:
        stage: a name of `SCRIPTS`. argv: the stage's options as given.
        folder: of Ray's records of this job. cwd: where the person is; relative paths are from there.
    """

    stage: str
    argv: list[str]
    folder: str
    cwd: str

    def mistake(self, rank: int) -> Path:
        """Where a rank leaves the mistake in the input that it met; empty where the main rank tells it."""
        return Path(self.folder) / MISTAKES / f"rank_{rank}.txt"

    def told(self) -> str | None:
        """The mistake in the input that a rank met, or None. The next attempt does nothing then."""
        texts = [path.read_text(encoding="utf-8") for path in sorted(self.mistake(0).parent.glob("rank_*.txt"))]
        return next(filter(None, texts), "the stage refused its input") if texts else None

    def plain(self) -> dict[str, Any]:
        """As Ray carries it to the workers."""
        return asdict(self)


class Followed(Exception):
    """This rank left because the main rank met a mistake in the input, which the main rank tells."""


def train_loop(plain: dict[str, Any]) -> None:
    """The body of a Ray Train job, on every worker.

    Args:
        plain: fields of a `Job`.

    Raises: whatever fails the stage, upon which Ray may start all workers again.
    """
    from ray import train

    job = Job(**plain)
    if job.told() is not None:
        return  # the attempt before met a mistake that another attempt meets too
    began, before = time.time(), train.get_checkpoint()
    started = 0 if before is None else _started(before)
    _report({"stage": job.stage, "attempt": started + 1, "finished": False})
    try:
        run_stage(job, again=started > 0)
    except (UserError, Followed) as error:
        if lost_peer(error):
            raise
        return _leave(job, error)
    _report({"stage": job.stage, "attempt": started + 1, "finished": True, "seconds": round(time.time() - began, 1)})


def lost_peer(error: BaseException) -> bool:
    """Whether a rank tells on one line (`trlx.trainer.peers`) that another one died: a failure, no mistake."""
    cause = error.__cause__
    return isinstance(cause, dist.DistError) or (isinstance(cause, RuntimeError) and "/gloo/" in str(cause))


def _leave(job: Job, error: UserError | Followed) -> None:
    """End this rank after a mistake in the input: quietly when every rank ends so, which Ray takes for a normal end.

    Raises: the error, when others still wait for this rank; Ray then ends them and starts all again, to do nothing.
    """
    with contextlib.suppress(OSError):
        write_text(job.mistake(int(os.environ["RANK"])), "" if isinstance(error, Followed) else str(error))
    until = time.monotonic() + PATIENCE
    while not all(job.mistake(rank).exists() for rank in range(int(os.environ["WORLD_SIZE"]))):
        if time.monotonic() > until:
            raise error
        time.sleep(0.1)


def evaluate(plain: dict[str, Any], again: bool) -> str | None:
    """The body of a plain Ray task; returns the mistake in the input that it met, or None."""
    try:
        run_stage(Job(**plain), again)
    except UserError as error:
        return str(error)
    return None


def run_stage(job: Job, again: bool) -> None:
    """Call the stage's `main` in this process.

    Raises: UserError wherever the script itself would end with one line and code 2.
    """
    script = SCRIPTS[job.stage]
    if Path(job.cwd).is_dir():
        os.chdir(job.cwd)
    sys.argv = [f"{script.module}.py"]  # names the run in trackers
    with printing_to(log_path(job.folder, int(os.environ.get("RANK", "0")))) as told:
        try:
            importlib.import_module(script.module).main(stage_options(job.stage, job.argv, again))
        except SystemExit as end:
            _judge_exit(end.code, told)
        except UserError:
            raise
        except Exception as error:
            trouble = disk_trouble(error)
            if trouble is None:
                traceback.print_exc()
                raise
            raise UserError(trouble) from error


def _judge_exit(code: object, told: list[str]) -> None:
    if code in (0, None):
        return
    if code == EXIT_USER_ERROR and told:
        raise UserError(told[-1])
    if code == EXIT_USER_ERROR and not is_main_rank():
        raise Followed("the main rank met a mistake in the input")
    raise RuntimeError(f"the stage ended with exit code {code}")


def _started(checkpoint: Any) -> int:
    with checkpoint.as_directory() as folder:
        return int(json.loads((Path(folder) / STARTED_FILE).read_text(encoding="utf-8"))["attempt"])


def _report(metrics: dict[str, Any]) -> None:
    """Tell Ray; it keeps metrics only with a checkpoint, which is the main rank's. A collective."""
    from ray import train

    with tempfile.TemporaryDirectory() as folder:
        if is_main_rank():
            write_json(Path(folder) / STARTED_FILE, metrics)
        train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder) if is_main_rank() else None)
