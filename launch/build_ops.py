"""Set-up's last step: compile the operation with which DeepSpeed's CPU ranks talk to each other.

    python -m launch.build_ops

Done once into `.cache/torch_extensions`, so that no training run has to wait for the compiler. Where it cannot be done
the stages run without DeepSpeed, and this says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from launch.local import look_around, stage_environment
from trlx.utils.op_locks import remove_stale_locks

BUILD = "from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder; ShareMemCommBuilder().load(verbose=False)"


def main() -> None:
    """Compile, or say why not; never fails the set-up."""
    machine = look_around(processes=1)
    if not machine.deepspeed:
        print(f"set-up: {machine.reason}: the stages will run without it, in one process")
        return
    environment = stage_environment(machine)
    environment.setdefault("MAX_JOBS", "1")  # each compiler takes 1.5 GB
    remove_stale_locks(Path(environment["TORCH_EXTENSIONS_DIR"]))
    print("set-up: compiling DeepSpeed's communication operation (once, about a minute) ...", flush=True)
    start = time.perf_counter()
    built = subprocess.run([sys.executable, "-c", BUILD], env=environment, capture_output=True, text=True)
    if built.returncode != 0:
        print(f"set-up: it did not compile; with several processes DeepSpeed will say why:\n{built.stderr[-2000:]}")
        return
    where = os.path.relpath(environment["TORCH_EXTENSIONS_DIR"])
    print(f"set-up: compiled in {time.perf_counter() - start:.0f} s into {where}")


if __name__ == "__main__":
    main()
