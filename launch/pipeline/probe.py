"""What a machine has, said to the one that wants to start ranks there: `python -m launch.pipeline.probe FILE`.

One line of JSON: its devices, and whether it sees a file of the other machine's.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch


def devices() -> tuple[int, str]:
    """How many ranks this machine is for, and in words: one a GPU, or without GPUs at most one a processor core."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    count, kind = (gpus, "GPU") if gpus else (cores, "processor core")
    return count, f"{count} {kind}{'' if count == 1 else 's'}"


if __name__ == "__main__":
    count, what = devices()
    print(json.dumps({"devices": count, "what": what, "sees": Path(sys.argv[1]).exists()}))
