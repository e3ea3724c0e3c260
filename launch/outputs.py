"""When a stage may write: the rules of its output folder.

An output folder is fresh, or belongs to a stage (it holds `run.json`). Left out: guessing at folders that no stage
wrote; they are never emptied.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from tasks.run_folder import RUN_FILE, read_record
from trlx.utils.disk import require_writable
from trlx.utils.errors import UserError
from trlx.utils.manifest import first_whole

SAVING = ".checkpoints.writing"  # where a checkpoint is prepared
HALF_WRITTEN = ".*.writing-*"  # what a kill leaves of a small file (`trlx.utils.files.write_text`)
# What a Trainer stage leaves in its folder; `--overwrite` removes these and nothing else.
STAGE_FILES = (
    "checkpoint-*",
    "logs",
    "metrics.jsonl",
    RUN_FILE,
    "results.json",
    "test_pairs.csv",
    "gate.json",
    "training_posts.npy",
    "*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    ".model.writing",
    SAVING,
    ".checkpoint-*.old",
    HALF_WRITTEN,
)


def check_output(out: Path, overwrite: bool, resume: bool | str) -> Path | None:
    """Whether a stage may and can write into `out`; nothing is touched.

    Args: as of `claim_output`.
    Returns: the checkpoint to go on from, or None to begin at the beginning.
    Raises: UserError when the folder holds something and neither option allows to go on, when no stage wrote it, or
        when it cannot be written to.
    """
    if overwrite and resume:
        raise UserError("--overwrite and --resume exclude each other: give one of them")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder with --out")
    held = out.is_dir() and bool(_names(out))
    if held and not (out / RUN_FILE).exists():
        raise UserError(f"{out} holds files that no stage wrote (no {RUN_FILE}): choose another --out or empty it")
    if held and not overwrite and not resume and not never_trained(out):
        raise UserError(f"{out} already holds a run: pass --overwrite to replace it or --resume to go on with it")
    checkpoint = last_whole_checkpoint(out) if held and resume else None
    if held and resume and checkpoint is None and (out / "config.json").exists():
        raise UserError(f"{out} holds a finished model and no checkpoint to resume from: --overwrite trains anew")
    if checkpoint is not None:
        _require_as_many_ranks(out, checkpoint)
    require_writable(out)
    return checkpoint


def require_same_engine(checkpoint: Path | None, deepspeed: bool) -> None:
    """The optimizer's state is DeepSpeed's or the Trainer's own; the other would begin without any, and not say so.

    Raises: UserError where a checkpoint was written with DeepSpeed and this run is without it, or the other way round.
    """
    if checkpoint is None or (checkpoint / "latest").is_file() == deepspeed:
        return
    written, remedy = ("without", "--deepspeed null") if deepspeed else ("with", "the `deepspeed` launcher")
    raise UserError(
        f"{checkpoint} was written {written} DeepSpeed: resume with {remedy}, or begin anew from its weights with "
        f"--model {checkpoint} and another --out"
    )


def require_own(out: Path, checkpoint: Path | None, stage: str) -> None:
    """A reward model from pairs and one from labels have one folder, and neither can go on with the other.

    Raises: UserError where there is a checkpoint to go on from that is another stage's.
    """
    there = (read_record(out) or {}).get("stage", stage)
    if checkpoint is not None and there != stage:
        raise UserError(f"{out} holds checkpoints of another stage ({there}): pass --overwrite, or another --out")


def _require_as_many_ranks(out: Path, checkpoint: Path) -> None:
    """Each rank has generators, a share of the data and, with ZeRO, of the optimizer's state of its own.

    Raises: UserError naming both numbers of ranks.
    """
    there, here = (read_record(out) or {}).get("world_size"), int(os.environ.get("WORLD_SIZE", "1"))
    if there is not None and there != here:
        raise UserError(
            f"{checkpoint} was written by {there} processes and this run has {here}: resume with {there}, or begin "
            f"anew from its weights with --model {checkpoint} and another --out"
        )


def claim_output(
    out: Path, overwrite: bool, resume: bool | str, stage_files: Sequence[str] = STAGE_FILES
) -> Path | None:
    """Make `out` ready to be written by a stage, or refuse as `check_output` does. Call on one process only.

    Args:
        out: the stage's output folder.
        overwrite: empty it of what a stage wrote (`stage_files`); other files stay.
        resume: go on from the last whole checkpoint in it.
        stage_files: glob patterns, relative to `out`, of what the stage writes.

    Returns: the checkpoint to go on from, or None to begin at the beginning.
    """
    checkpoint = check_output(out, overwrite, resume)
    if out.is_dir():
        remove_stage_files(out, stage_files if checkpoint is None else [HALF_WRITTEN])
    out.mkdir(parents=True, exist_ok=True)
    return checkpoint


def never_trained(out: Path) -> bool:
    """Whether the run in `out` stopped before its first step, e.g. for a misspelt file: there is nothing to lose."""
    return _names(out) == {RUN_FILE}


def _names(out: Path) -> set[str]:
    """Of what a folder holds, but for what a kill left half written, which may be all."""
    return {path.name for path in out.iterdir() if not fnmatch(path.name, HALF_WRITTEN)}


def remove_stage_files(out: Path, patterns: Sequence[str] = STAGE_FILES) -> None:
    """Delete what a stage wrote in `out`; the run file last, so that a kill half-way can be repeated."""
    for pattern in sorted(patterns, key=lambda p: p == RUN_FILE):
        for path in out.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def checkpoint_step(path: Path) -> int:
    """The optimizer step in a `checkpoint-N` folder's name, or -1 for any other name."""
    found = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(found.group(1)) if found else -1


def last_whole_checkpoint(out: Path) -> Path | None:
    """The newest `checkpoint-N` of `out` whose files are as its manifest says, or None; others are warned of."""
    numbered = [path for path in out.glob("checkpoint-*") if checkpoint_step(path) >= 0]
    return first_whole(sorted(numbered, key=checkpoint_step, reverse=True))
