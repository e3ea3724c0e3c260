"""When another rank dies: its peers end with one line instead of a traceback out of the communication library.

Over gloo a rank that waits for a dead one is told at once; over NCCL the launcher ends it. Left out: a rank that hangs,
which ends with the collective's time limit (`trlx.utils.distributed.COLLECTIVE_TIMEOUT`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch.distributed as dist

from trlx.utils.errors import UserError


@contextlib.contextmanager
def peers_alive() -> Iterator[None]:
    """Raises: UserError where a collective fails within the block, which is not this rank's doing."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, (dist.DistBackendError, dist.DistNetworkError)) or "/gloo/" in str(error)):
            raise
        raise UserError(
            "another rank has ended or no longer answers: its own last lines, and the launcher's, say why; "
            "then go on from the last checkpoint (train.resume_from_checkpoint: auto)"
        ) from error
