"""What a Ray job is asked for: its options, the stages there are, and the stage's own command line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trlx.utils.errors import UserError
from trlx.utils.ranges import AT_LEAST_1, require_ranges

StageName = Literal["sft", "reward_model", "classifier", "ppo", "rft", "evaluation"]
NO_DEEPSPEED = "--deepspeed=null"
AGAIN = "--resume=true"


@dataclass(frozen=True)
class Script:
    """A stage as a module with `main(argv)`; by name, because the scripts lie above this package.

    Args:
        module: importable from the repository.
        ranks: whether several workers train together; the evaluation is one process.
        deepspeed: whether it has the option --deepspeed, which Ray's workers leave out.
        overwrite: whether it has the option --overwrite, which a retry must not obey again.
    """

    module: str
    ranks: bool = True
    deepspeed: bool = False
    overwrite: bool = True


SCRIPTS: dict[str, Script] = {
    "sft": Script("sft.train_gptneo_summarize", deepspeed=True),
    "reward_model": Script("reward_model.train_reward_model_gptneo", deepspeed=True),
    "classifier": Script("reward_model.train_sentiment_classifier", deepspeed=True),
    "ppo": Script("trlx_gptneo_text_summarization"),
    "rft": Script("trlx_gptneo_rft_summarization"),
    "evaluation": Script("trlx_inference_gptneo", ranks=False, overwrite=False),
}


@dataclass
class RayOptions:
    """Options of a Ray job; the stage's own come after `--`.

    Args:
        stage: what to run.
        num_workers: processes that train together.
        resources_per_worker: what each takes, as CPU=1,GPU=0 or a JSON mapping; a GPU is one whole device.
        address: a cluster that is up, ray://HOST:PORT or HOST:PORT; null starts one on this machine, and ends it.
        storage: folder of Ray's records of its jobs; on several machines all of them must see it.
        max_failures: how often a stage that failed is started again, from its last checkpoint; -1 for ever.
    """

    stage: StageName
    num_workers: int = 1
    resources_per_worker: str = "CPU=1"
    address: str | None = None
    storage: str = "{repo}/runs/ray"
    max_failures: int = 0


def check_options(options: RayOptions) -> None:
    """Refuse what cannot be meant. Raises: UserError naming the option."""
    require_ranges(options, {"num_workers": AT_LEAST_1})
    if options.max_failures < -1:
        raise UserError(f"--max_failures must be 0 or more, or -1 for ever, not {options.max_failures}")
    if "://" in options.storage:
        raise UserError(f"--storage must be a folder that every machine sees, not {options.storage}")
    if options.num_workers > 1 and not SCRIPTS[options.stage].ranks:
        raise UserError(f"--stage {options.stage} runs in one process: leave --num_workers at 1")


def read_resources(text: str) -> dict[str, float]:
    """What one worker takes, by Ray's names of resources, CPU and GPU among them.

    Args:
        text: "CPU=1,GPU=0", or the same as a JSON mapping. CPU is 1 and GPU 0 where they are not named.

    Raises: UserError for anything else, for numbers below 0, and for parts of GPUs.
    """
    pairs = _pairs_of_json(text) if text.lstrip().startswith("{") else _pairs_of_list(text)
    resources = {"CPU": 1.0, "GPU": 0.0}
    for name, value in pairs.items():
        try:
            amount = float(value)
        except (TypeError, ValueError):
            amount = -1.0
        if isinstance(value, bool) or not 0 <= amount < float("inf"):
            raise UserError(f"--resources_per_worker: {name} must be a number, 0 or more, not {value!r}")
        resources[name.upper() if name.lower() in ("cpu", "gpu") else name] = amount
    if resources["GPU"] not in (0.0, 1.0):
        raise UserError(f"--resources_per_worker: GPU must be 0 or 1, not {resources['GPU']:g}: a rank has one device")
    if not any(resources.values()):
        raise UserError("--resources_per_worker: a worker must take something, e.g. CPU=1")
    return resources


def _pairs_of_json(text: str) -> Mapping[str, Any]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"--resources_per_worker {text}: not JSON ({error.msg}); or write CPU=1,GPU=0") from error
    return {str(name): value for name, value in values.items()}


def _pairs_of_list(text: str) -> dict[str, str]:
    parts = [part.strip().partition("=") for part in text.split(",")]
    if not all(name.strip() and equals for name, equals, _ in parts):
        raise UserError(f"--resources_per_worker must look like CPU=1,GPU=0 or {{\"CPU\": 1}}, not '{text}'")
    return {name.strip(): value.strip() for name, _, value in parts}


def split_command_line(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(options of the job, options of the stage): what stands before and after the first `--`."""
    given = list(argv)
    at = given.index("--") if "--" in given else len(given)
    return given[:at], given[at + 1 :]


def stage_options(stage: str, given: Sequence[str], again: bool) -> list[str]:
    """The stage's command line on a worker; of options given twice the later one counts.

    Args:
        given: as the person wrote it.
        again: after a failure: the stage goes on from its own last checkpoint, and replaces nothing.
    """
    script, argv = SCRIPTS[stage], list(given)
    if script.deepspeed and not any(part.partition("=")[0] == "--deepspeed" for part in argv):
        argv.append(NO_DEEPSPEED)
    if again:
        argv += ["--overwrite=false"] if script.overwrite else []
        argv.append(AGAIN)
    return argv
