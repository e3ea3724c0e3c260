"""Runs scripts as `__main__` in forks of one process that has imported their libraries once.

A plain `python script.py` spends most of its time importing; a fork starts at once and is otherwise the same: its own
process, arguments, environment, folder, standard streams and exit code. Orders are JSON lines on stdin, and each is
answered by a line with the exit code on stdout.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

PRELOAD = (
    "torch",
    "torch.utils.tensorboard",
    "transformers.models.gpt_neo.modeling_gpt_neo",
    "accelerate",
    "datasets",
    "rouge_score.rouge_scorer",
    "scipy.stats",
    "sft.train_gptneo_summarize",
    "reward_model.train_reward_model_gptneo",
    "trlx_gptneo_text_summarization",
    "trlx_gptneo_rft_summarization",
    "trlx_inference_gptneo",
)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    for name in PRELOAD:
        importlib.import_module(name)
    gc.freeze()  # what is here by now is never collected in a fork, so its memory stays shared
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            leave(become(order))
        status = os.waitpid(child, 0)[1]
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def become(order: dict[str, Any]) -> int:
    """Turn this process into `python COMMAND...`; returns its exit code."""
    signal.alarm(order["timeout"])
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])
    for stream, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, order["stdout"], os.O_WRONLY),
        (2, order["stderr"], os.O_WRONLY),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, stream)
        os.close(opened)
    try:
        exec(order["setup"], {})
        run(order["command"])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run(command: list[str]) -> None:
    """What the interpreter does with the words after its own name."""
    if command[0] == "-m":
        sys.argv = [command[1], *command[2:]]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        sys.path[0] = str(Path(command[0]).parent)
        runpy.run_path(command[0], run_name="__main__")


def leave(code: int) -> NoReturn:
    """Exit as the interpreter does, but without taking thousands of modules apart."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
