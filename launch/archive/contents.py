"""Which files of a run are worth keeping: models, configurations, records, metrics, logs, results and reports.

Named one by one, so that a root which is the repository itself, or holds other things, gives no more than its run. Left
out, unless asked for: checkpoints, which hold the optimizer's state; always: data, caches and studies.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from launch.demo import MARKER
from launch.outputs import HALF_WRITTEN
from tasks.run_folder import RunFolder
from trlx.utils.checkpoints import STATE_FILE

# Weights and tables, which are only ever written anew beside their name: an archive can share their place on the disk.
# Whatever grows in place (metrics, logs) is copied, or a run that goes on would go on writing in its archive.
LINKED = (".safetensors", ".bin", ".npy", ".pt", ".pth", ".pkl")
LOCKS = ".*.lock"  # of `trlx.utils.lock`
_OF_ROOT = (MARKER, "timing.json")  # of `make demo`


def kept_files(run: RunFolder, checkpoints: bool) -> list[Path]:
    """The files to keep, in the order of their names; links are passed over.

    Args:
        checkpoints: those that training can go on from, too.
    """
    found = {path for path in _named(run, checkpoints) if path.is_file() and not path.is_symlink()}
    return sorted(path for path in found if not path.match(HALF_WRITTEN) and not path.match(LOCKS))


def _named(run: RunFolder, checkpoints: bool) -> Iterator[Path]:
    yield from (run.record, run.results, run.frontier, run.report, run.hostfile)
    yield from (run.root / name for name in _OF_ROOT)
    for folder in (run.configs, run.log("any").parent, run.metadata, run.ppo_logs, run.rft_logs):
        yield from folder.rglob("*")
    if checkpoints:
        yield from run.ckpts.rglob("*")
        return
    for folder in _trainer_stages(run):
        yield from folder.glob("*")
        yield from (folder / "logs").rglob("*")
    for policy in _policies(run):
        for folder in (policy, policy.with_name(f"{policy.name}_ema")):  # and the moving average of its weights
            yield from folder.rglob("*")
        yield policy.parent / STATE_FILE


def stage_folders(run: RunFolder) -> tuple[Path, ...]:
    """The folders that stages keep each other out of while they write."""
    return *_trainer_stages(run), run.ckpts, run.rft_policy.parent.parent, run.metadata


def _trainer_stages(run: RunFolder) -> tuple[Path, ...]:
    """Folders whose own files are the model and what is known of it."""
    return run.sft, run.reward_model, run.second_reward_model, run.biased_reward_model


def _policies(run: RunFolder) -> tuple[Path, ...]:
    """Folders of policies ready to be loaded; the last is one that training went back to."""
    rft = run.rft_policy.parent.parent
    heldout = run.best_heldout_policy.relative_to(run.ckpts)
    return run.best_policy, run.best_heldout_policy, run.rft_policy, rft / heldout, run.ckpts / run.best_policy.name


def models_in(run: RunFolder) -> list[Path]:
    """The folders that hold a finished model."""
    return [folder for folder in (*_trainer_stages(run), *_policies(run)) if (folder / "config.json").is_file()]
