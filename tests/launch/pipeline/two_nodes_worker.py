"""Run on each rank of a job of several machines: join the others, add up, and note what was seen.

two_nodes_worker.py [--local_rank=N] OUTPUT
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from trlx.utils.distributed import start_process_group

state = start_process_group()
total = torch.tensor([float(10 ** dist.get_rank())])
dist.all_reduce(total)
seen = {
    "world": state.num_processes,
    "sum": total.item(),
    "addresses": sorted(os.popen("hostname -I").read().split()),
    "word": os.environ.get("DS_WORD"),
    "secret": os.environ.get("HF_TOKEN"),
}
(Path(sys.argv[-1]) / f"rank_{dist.get_rank()}.json").write_text(json.dumps(seen))
dist.barrier()
dist.destroy_process_group()
