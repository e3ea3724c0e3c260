"""Rollouts on disk, for people to read: `rollout_logging_dir/run-<id>/config.json` and one file an epoch and rank."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from torch import Tensor

from trlx.data.configs import TRLConfig
from trlx.trainer.rollout import Chunk
from trlx.utils.files import write_text


class RolloutLog:
    """Keeps a phase's rollouts until they are written; does nothing when `train.rollout_logging_dir` is null."""

    def __init__(self, config: TRLConfig, rank: int):
        self.folder: Path | None = None
        self.rows: list[dict[str, Any]] = []
        self.rank = rank
        if config.train.rollout_logging_dir is not None:
            name = config.train.run_name or uuid.uuid5(uuid.NAMESPACE_URL, str(config)).hex[:12]
            self.folder = Path(config.train.rollout_logging_dir) / f"run-{Path(name).name}"
            if rank == 0:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_text(self.folder / "config.json", str(config))

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
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row | {"step": step}, ensure_ascii=False) for row in self.rows]
        write_text(self.folder / f"epoch-{epoch:05d}-rank-{self.rank}.jsonl", "\n".join(lines) + "\n")
        self.rows = []
