"""Rollouts on disk, for people to read: `rollout_logging_dir/run-<id>/config.json` and one file an epoch and rank."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from trlx.data.configs import TRLConfig
from trlx.trainer.rollout import Chunk
from trlx.utils.distributed import from_main_rank
from trlx.utils.files import write_text


class RolloutLog:
    """Keeps a phase's rollouts until they are written; does nothing when `train.rollout_logging_dir` is null.

    Attributes: name: the run's, new for each run, the same on every rank and in the run that resumes it.

    Every rank must make it: the main one names the run.
    """

    def __init__(self, config: TRLConfig, rank: int):
        self.config, self.rank = config, rank
        self.rows: list[dict[str, Any]] = []
        self.name: str = from_main_rank(lambda: _new_name(config.train.run_name))

    @property
    def folder(self) -> Path | None:
        """Where the run's rollouts are; None when none are written."""
        where = self.config.train.rollout_logging_dir
        return None if where is None else Path(where) / f"run-{self.name}"

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on in the same folder, JSON-able."""
        return {"name": self.name}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on in the folder of the run that gave `state`."""
        self.name = state["name"]

    def add(self, chunk: Chunk, kl: Tensor) -> None:
        """Note a chunk of rollouts. Args: kl: (B, R) k1 of each token in nats, 0 at pads."""
        if self.folder is None:
            return
        scores = chunk.scores.tolist()
        for i, (prompt, output) in enumerate(zip(chunk.texts.prompts, chunk.texts.outputs, strict=True)):
            row = {"prompt": prompt, "output": output, "score": scores[i], "kl": kl[i].sum().item()}
            row["query_tensor"] = chunk.query[i][chunk.query_mask[i]].tolist()
            row["response_tensor"] = chunk.response[i][chunk.response_mask[i]].tolist()
            self.rows.append(row)

    def write(self, epoch: int, step: int) -> None:
        """Write what was noted, a JSON line a response, and forget it."""
        if self.folder is None:
            return
        settings = self.folder / "config.json"
        if self.rank == 0 and not settings.exists():  # a resumed run leaves it as it was at the start
            write_text(settings, str(self.config))
        lines = [json.dumps(row | {"step": step}, ensure_ascii=False) + "\n" for row in self.rows]
        write_text(self.folder / f"epoch-{epoch:05d}-rank-{self.rank}.jsonl", "".join(lines))
        self.rows = []


def _new_name(run_name: str | None) -> str:
    """Starts with the configured name, if there is one."""
    unique = uuid.uuid4().hex[:12]
    return unique if run_name is None else f"{Path(run_name).name}-{unique}"
