"""`python -m launch archive`: what is kept, that an archive is whole or absent, and never at another's cost."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import launch.archive.writing as writing_module
from launch.archive import main
from launch.archive.command import ArchiveOptions, archive, archive_name
from launch.archive.facts import _seed, run_facts
from launch.archive.listing import headline_text, read_archives, table
from launch.outputs import read_record
from tasks.run_folder import RunFolder
from trlx.utils.disk import disk_trouble
from trlx.utils.errors import UserError
from trlx.utils.lock import let_go_of_all, lock_path
from trlx.utils.manifest import damage

BEGAN = "2026-03-01T12:30:05+00:00"
NAME = "mine-2026-03-01-123005"
KEPT = {
    "run.json": None,
    "results.json": None,
    "report.html": "<html>",
    "configs/ppo.yaml": "seed: 1",
    "logs/ppo.log": "done",
    "metadata/results.md": "| a |",
    "metadata/ppo_with_reward_scores_sample.csv": "pred",
    "ckpts/sft/config.json": "{}",
    "ckpts/sft/model.safetensors": "weights of sft",
    "ckpts/sft/run.json": None,
    "ckpts/sft/metrics.jsonl": '{"step": 1, "time": 100.0}\n{"step": 9, "time": 160.5}\n',
    "ckpts/sft/logs/events.out.tfevents.1": "curve",
    "ckpts/reward_model/config.json": "{}",
    "ckpts/reward_model/model.safetensors": "weights of the reward model",
    "ckpts/best_checkpoint/trainer_state.json": "{}",
    "ckpts/best_checkpoint/hf_model/config.json": "{}",
    "ckpts/best_checkpoint/hf_model/model.safetensors": "weights of ppo",
    "ckpts/best_checkpoint/hf_model/adapter/adapter_model.safetensors": "adapter",
    "ckpts/best_checkpoint/hf_model_ema/model.safetensors": "the average's weights",
    "ckpts/rft/best_heldout_checkpoint/hf_model/config.json": "{}",
    "ckpts/ppo/metrics.jsonl": '{"step": 4, "time": 200.0}\n',
}
CHECKPOINTS = {
    "ckpts/sft/checkpoint-9/optimizer.pt": "state",
    "ckpts/best_checkpoint/rollouts_0.pt": "rollouts",
    "ckpts/checkpoint_4/hf_model/model.safetensors": "weights",
}
LEFT = {
    "data/train.jsonl": "{}",
    "base/model.safetensors": "start",
    ".cache/tokens/x": "cache",
    "study/a/ckpts/sft/config.json": "{}",
    "notes.txt": "other people's",
    "ckpts/sft/.metrics.jsonl.writing-12": "half",
}


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 1, "high": mean + 1, "n": 9}


def results() -> dict[str, Any]:
    models = {
        "sft": {"reward": interval(-0.5), "rougeL": interval(0.25), "gold": None},
        "ppo": {"reward": interval(1.25), "kl": {"k1": interval(2.0)}},
    }
    about = {"held_out": {"test": {"accuracy": 0.75}}}
    return {
        **{"format": 2, "models": models, "differences": {}, "preferences": [], "baseline": "sft", "posts": 9},
        **{"run": {"split": "test"}, "reward_model": about},
    }


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    """A finished run of `train.sh`, as its files tell."""
    root = tmp_path / "mine"
    stages = {name: {"state": "finished", "begun": BEGAN, "seconds": 90.0} for name in ("reward_model", "ppo")}
    start = {"at": BEGAN, "stages": ["sft", "reward_model", "ppo"], "git": {"commit": "c0ffee", "dirty": True}}
    given = {
        "run.json": {"starts": [start], "stages": stages},
        "results.json": results(),
        "ckpts/sft/run.json": {"finished": True, "world_size": 2, "options": {"seed": 7}},
    }
    for name, text in (KEPT | CHECKPOINTS | LEFT).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(given[name]) if text is None else text, encoding="utf-8")
    (root / "ckpts" / "sft" / "link.json").symlink_to("/etc/hostname")
    yield RunFolder.of(root)
    let_go_of_all()


def names(folder: Path) -> set[str]:
    """Of the files; a lock's says nothing, and stays."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.match(".*.lock")]
    return {path.relative_to(folder).as_posix() for path in found}


def archived(run: RunFolder, tmp_path: Path, **options: Any) -> Path:
    return archive(ArchiveOptions(root=str(run.root), to=str(tmp_path / "kept"), **options), run)


# ---------------------------------------------------------------- what is kept


def test_what_is_worth_keeping_is_kept_and_nothing_else(run: RunFolder, tmp_path: Path) -> None:
    path = archived(run, tmp_path)
    assert path == tmp_path / "kept" / NAME
    assert names(path) == {*KEPT, "archive.json", "manifest.json"}
    assert all((path / name).read_text() == (run.root / name).read_text() for name in KEPT)
    assert damage(path) is None
    assert names(run.root) == {*KEPT, *CHECKPOINTS, *LEFT, "ckpts/sft/link.json"}  # the run is as it was


def test_checkpoints_when_asked_for(run: RunFolder, tmp_path: Path) -> None:
    assert names(archived(run, tmp_path, checkpoints=True)) == {*KEPT, *CHECKPOINTS, "archive.json", "manifest.json"}


def test_weights_share_their_place_and_what_grows_does_not(run: RunFolder, tmp_path: Path) -> None:
    path = archived(run, tmp_path)
    for name in KEPT:
        assert (path / name).samefile(run.root / name) == name.endswith(".safetensors")
    with (run.sft / "metrics.jsonl").open("a") as file:
        file.write("more\n")
    shutil.rmtree(run.sft)  # the run is done anew
    assert damage(path) is None and (path / "ckpts/sft/model.safetensors").read_text() == "weights of sft"


def test_where_links_cannot_be_made_it_is_copied(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    path = archived(run, tmp_path)
    assert damage(path) is None and not (path / "ckpts/sft/model.safetensors").samefile(run.sft / "model.safetensors")


def test_what_is_known_of_the_run(run: RunFolder, tmp_path: Path) -> None:
    facts = json.loads((archived(run, tmp_path) / "archive.json").read_text())
    assert (facts["name"], facts["run"], facts["began"]) == (NAME, "mine", BEGAN)
    assert facts["git"] == {"commit": "c0ffee", "dirty": True}
    sft = facts["stages"]["sft"]  # of which train.sh noted nothing
    assert (sft["state"], sft["steps"], sft["seconds"], sft["seed"]) == ("finished", 9, 60.5, 7)
    ppo = facts["stages"]["ppo"]
    assert (ppo["state"], ppo["steps"], ppo["seconds"], ppo["begun"]) == ("finished", 4, 90.0, BEGAN)
    assert facts["results"]["reward_model_accuracy"] == 0.75
    assert facts["results"]["models"]["ppo"] == {"reward": interval(1.25), "kl": interval(2.0)}
    assert headline_text(facts["results"]) == "SFT → PPO: reward -0.500 → 1.250"
    assert headline_text(None) == "not evaluated"


@pytest.mark.parametrize("recorded", [True, False], ids=["by train.sh", "by hand"])
@pytest.mark.parametrize(("own", "other"), [("reward_model", "classifier"), ("classifier", "reward_model")])
def test_of_two_stages_with_one_folder_that_is_named_which_wrote_it(
    run: RunFolder, own: str, other: str, recorded: bool
) -> None:
    note = {"stage": own.replace("_", " "), "finished": True, "world_size": 2, "options": {"seed": 5}}
    (run.reward_model / "run.json").write_text(json.dumps(note))
    (run.reward_model / "metrics.jsonl").write_text('{"step": 1, "time": 100.0}\n{"step": 3, "time": 130.0}\n')
    record = json.loads(run.record.read_text())
    record["stages"] = {own: {"state": "finished", "seconds": 40.0}} if recorded else {}
    run.record.write_text(json.dumps(record))
    stages = run_facts(run)["stages"]
    assert other not in stages
    seconds = 40.0 if recorded else 30.0
    assert (stages[own]["steps"], stages[own]["seconds"], stages[own]["seed"]) == (3, seconds, 5)


def test_an_archive_holds_no_locks(run: RunFolder, tmp_path: Path) -> None:
    lock_path(run.sft).touch()
    assert not list((archived(run, tmp_path, checkpoints=True) / "ckpts").rglob(".*.lock"))


def test_a_stage_without_a_seed() -> None:
    assert _seed({"seed": 3}, None) is None
    assert _seed({"train": {"seed": 3}}, "train.seed") == 3


# ---------------------------------------------------------------- whole or absent, and nothing lost


def test_a_name_that_is_taken_is_never_written_over(run: RunFolder, tmp_path: Path) -> None:
    path = archived(run, tmp_path)
    before = {name: (path / name).read_bytes() for name in names(path)}
    (run.root / "report.html").write_text("changed")
    with pytest.raises(UserError, match=rf"{NAME} is there already, .* never written over: give another --name"):
        archived(run, tmp_path)
    assert {name: (path / name).read_bytes() for name in names(path)} == before
    assert archived(run, tmp_path, name="other").name == "other-2026-03-01-123005"


@pytest.mark.parametrize(
    "break_it",
    [
        lambda patch: patch.setattr(writing_module, "write_manifest", _raise(KeyboardInterrupt())),
        lambda patch: patch.setattr(shutil, "copy2", _raise(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))),
    ],
    ids=["interrupted", "full disk"],
)
def test_what_is_interrupted_leaves_nothing(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, break_it: Callable[[pytest.MonkeyPatch], None]
) -> None:
    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, OSError)) as raised:
        break_it(patch)
        archived(run, tmp_path)
    assert not names(tmp_path / "kept")
    if isinstance(raised.value, OSError):
        assert "No space left on device: free some space there" in (disk_trouble(raised.value) or "")
    assert damage(archived(run, tmp_path)) is None


def _raise(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_what_a_kill_left_is_cleared(run: RunFolder, tmp_path: Path) -> None:
    left = tmp_path / "kept" / f".{NAME}.writing"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    assert "half" not in names(archived(run, tmp_path)) and not left.exists()


def test_no_room(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 5))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"21 files of the run will take about 1\.0 MB, and 0\.0 MB are free"):
        archived(run, tmp_path)
    assert not (tmp_path / "kept" / NAME).exists()


def test_a_run_that_is_being_written_is_left_alone(run: RunFolder, tmp_path: Path) -> None:
    """By train.sh, which keeps others out of the root, or by a stage that was started alone, out of its own folder."""
    for folder in (run.root, run.sft, run.reward_model, run.ckpts, run.ckpts / "rft", run.metadata):
        with lock_path(folder).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(UserError, match=f"{folder}: another run is writing here"):
                archived(run, tmp_path)
    archived(run, tmp_path)


# ---------------------------------------------------------------- what is refused


def test_a_run_that_has_not_finished(run: RunFolder, tmp_path: Path) -> None:
    record = json.loads(run.record.read_text())
    record["stages"]["ppo"]["state"] = "interrupted"
    run.record.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"mine: ppo has not finished \(interrupted\): .*--unfinished"):
        archived(run, tmp_path)
    record["stages"].pop("ppo")
    record["starts"][0]["stages"].append("evaluation")
    run.record.write_text(json.dumps(record))
    with pytest.raises(UserError, match="mine: evaluation has not begun"):
        archived(run, tmp_path)
    facts = read_archives(archived(run, tmp_path, unfinished=True).parent)[0][1]
    assert facts["unfinished"] == "evaluation has not begun"


def test_a_stage_of_its_own_that_has_not_finished(run: RunFolder, tmp_path: Path) -> None:
    run.record.unlink()  # started without train.sh
    record = read_record(run.sft) or {}
    (run.sft / "run.json").write_text(json.dumps({**record, "finished": False}))
    with pytest.raises(UserError, match=r"sft has not finished \(unfinished\)"):
        archived(run, tmp_path)
    (run.sft / "run.json").write_text(json.dumps(record))
    # It began with the first of its metrics: 100 seconds after the epoch.
    path = archived(run, tmp_path)
    assert json.loads((path / "archive.json").read_text())["began"].startswith("1970-01-0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no run: name its root folder"),
        (["absent"], "absent: no such folder"),
        (["empty"], "holds no model of a run"),
        (["mine", "--list"], "--list shows the archives in --to, and a root was named"),
        (["mine", "--name", "../x"], r"'\.\./x' is no name for an archive"),
        (["--list"], "holds no archived run"),
    ],
)
def test_what_is_refused(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        main([*arguments, "--to", "kept"])
    assert not (tmp_path / "kept").exists() or not names(tmp_path / "kept")


def test_an_archive_is_no_run(run: RunFolder, tmp_path: Path) -> None:
    path = archived(run, tmp_path)
    with pytest.raises(UserError, match="is an archive: name the root folder of a run"):
        archive(ArchiveOptions(to=str(tmp_path / "kept")), RunFolder.of(path))


# ---------------------------------------------------------------- the list


def test_names(tmp_path: Path) -> None:
    assert archive_name(None, RunFolder(tmp_path / "2026-11-21-3"), BEGAN) == "run-3-2026-03-01-123005"
    assert archive_name(None, RunFolder(tmp_path / "demo"), BEGAN) == "demo-2026-03-01-123005"
    assert archive_name("a", RunFolder(tmp_path / "demo"), BEGAN) == "a-2026-03-01-123005"


def test_the_list_and_a_damaged_archive(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    to = ["--to", str(tmp_path / "kept")]
    main([str(run.root), *to])
    main([str(run.root), "--name", "second", *to])
    assert "21 files" in capsys.readouterr().out
    (tmp_path / "kept" / NAME / "report.html").write_text("<html!")
    rows = table(tmp_path / "kept", read_archives(tmp_path / "kept"), check=True).rows
    # 60.5 + 90 + 90 seconds; the seed of SFT alone is known.
    numbers = ["4.0", "7", "0.750", "-0.500 → 1.250", "–"]
    assert rows[0] == [NAME, *numbers, "report.html is not as it was written"]
    assert rows[1] == ["second-2026-03-01-123005", *numbers, "yes"]
    main(["--list", *to])
    printed = capsys.readouterr().out
    assert NAME in printed and "Whole?" not in printed
    (tmp_path / "kept" / NAME / "archive.json").write_text("[]")
    with pytest.raises(UserError, match=r"archive\.json: no record of an archive"):
        main(["--list", *to])
