"""Saving takes the place of our own older files and of nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import ppo_config
from tiny_runs import make_trainer, run, weights
from transformers import AutoModelForCausalLM

from trlx.trainer.checkpoint_folder import evict, find_resumable
from trlx.utils.errors import UserError
from trlx.utils.files import merge
from trlx.utils.manifest import write_manifest

MAX_SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture
def trainer(tmp_path: Path, tokenizer_folder: str) -> Any:
    return make_trainer(ppo_config(tmp_path / "run", tokenizer_folder))


def content(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def notes(folder: Path, name: str = "notes.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    return path


def loads(folder: Path, trainer: Any) -> bool:
    """Whether transformers finds the trainer's present weights in `folder`."""
    saved = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    return all(torch.equal(value, saved[name]) for name, value in trainer.policy.state_dict().items())


def change(trainer: Any) -> None:
    with torch.no_grad():
        for parameter in trainer.policy.parameters():
            parameter.add_(1.0)


def test_an_export_leaves_the_callers_files_alone(tmp_path: Path, trainer: Any) -> None:
    mine, nested = notes(tmp_path / "mine"), notes(tmp_path / "mine", "adapter/paper/draft.tex")
    for _ in range(2):  # the second time beside an export of ours
        change(trainer)
        trainer.save_pretrained(str(tmp_path / "mine"))
        assert mine.read_text() == nested.read_text() == "mine"
        assert loads(tmp_path / "mine", trainer)
    trainer.save_pretrained(str(tmp_path / "new"))
    theirs = {"notes.txt", "adapter", "adapter/paper", "adapter/paper/draft.tex"}
    assert content(tmp_path / "mine") == content(tmp_path / "new") | theirs
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "new", "run"}  # nothing is left aside


def test_an_export_into_the_checkpoint_folder_keeps_the_checkpoints(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = run(ppo_config(tmp_path, tokenizer_folder, train__epochs=1))
    before = content(tmp_path)
    assert {"logs/metrics.jsonl", "checkpoint_4/trainer_state.json"} <= before
    trainer.save_pretrained(str(tmp_path))
    assert before < content(tmp_path) and loads(tmp_path, trainer)


def test_an_export_over_an_export_takes_its_place_at_once(
    tmp_path: Path, trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("moved file by file")

    monkeypatch.setattr("trlx.trainer.export.merge", refuse)
    folder = tmp_path / "mine"
    trainer.save_pretrained(str(folder))
    first = content(folder)
    (folder / MAX_SHARD).write_text("of an earlier, larger model")
    change(trainer)
    trainer.save_pretrained(str(folder))
    assert content(folder) == first and loads(folder, trainer)


@pytest.mark.parametrize("stale", [MAX_SHARD, "model.safetensors.index.json", "adapter/adapter_config.json"])
def test_no_stale_weights_stay_beside_new_ones(tmp_path: Path, trainer: Any, stale: str) -> None:
    folder = tmp_path / "mine"
    notes(folder), notes(folder, stale)
    trainer.save_pretrained(str(folder))
    assert "notes.txt" in content(folder) and stale not in content(folder)


def test_a_link_and_the_present_folder_are_followed(
    tmp_path: Path, trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes(tmp_path / "target")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    trainer.save_pretrained(str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink() and loads(tmp_path / "target", trainer)
    monkeypatch.chdir(notes(tmp_path / "here").parent)
    trainer.save_pretrained(".")
    assert loads(tmp_path / "here", trainer) and "notes.txt" in content(tmp_path / "here")


def test_a_kill_while_merging_leaves_each_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, text in (("aside", "new"), ("mine", "old")):
        for name in ("a", "config.json", "z"):
            notes(tmp_path / part, name).write_text(text)
    moved: list[str] = []
    replace: Callable[..., None] = __import__("os").replace

    def until_last(source: Path, target: Path) -> None:
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(target.name)
        replace(source, target)

    monkeypatch.setattr("os.replace", until_last)
    with pytest.raises(KeyboardInterrupt):
        merge(tmp_path / "aside", tmp_path / "mine", last="config.json")
    assert moved == ["a", "z"]
    assert [(tmp_path / "mine" / name).read_text() for name in ("a", "config.json", "z")] == ["new", "old", "new"]


def test_a_checkpoint_replaces_only_a_checkpoint(tmp_path: Path, trainer: Any) -> None:
    mine = notes(tmp_path / "mine")
    with pytest.raises(UserError, match=r"mine holds other things than a checkpoint.*save to a new folder"):
        trainer.save(str(tmp_path / "mine"))
    assert content(tmp_path / "mine") == {mine.name}
    (tmp_path / "empty").mkdir()
    for name in ("empty", "empty", "new"):
        trainer.save(str(tmp_path / name))
    assert content(tmp_path / "empty") == content(tmp_path / "new") >= {"trainer_state.json", "hf_model"}
    with pytest.raises(UserError, match=r"notes\.txt is a file"):
        trainer.save(str(mine))
    with pytest.raises(UserError, match=r"notes\.txt is a file"):
        trainer.save_pretrained(str(mine))


def test_a_folder_of_checkpoints_is_none(tmp_path: Path, trainer: Any) -> None:
    trainer.save_pretrained()  # to run/hf_model, which a checkpoint has too
    trainer.save()
    before = content(tmp_path / "run")
    with pytest.raises(UserError, match="run holds other things"):
        trainer.save(str(tmp_path / "run"))
    assert content(tmp_path / "run") == before


def test_a_checkpoint_of_weights_alone_is_replaced(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder, train__save_optimizer=False))
    trainer.save(str(tmp_path / "best_checkpoint"))
    before = weights(trainer)
    change(trainer)
    trainer.save(str(tmp_path / "best_checkpoint"))
    assert not torch.equal(next(iter(before.values())), next(iter(weights(trainer).values())))
    assert loads(tmp_path / "best_checkpoint" / "hf_model", trainer)


@pytest.mark.parametrize(
    ("keep", "step", "left"),
    [
        (1, 8, {8, 90}),  # 90 is an older run's and does not count
        (2, 8, {6, 8, 90}),
        (0, 8, {8, 90}),  # what was just written stays
        (None, 8, {2, 4, 6, 8, 90}),
        (9, 8, {2, 4, 6, 8, 90}),
        (1, 4, {4, 6, 8, 90}),
        (1, None, {90}),
    ],
)
def test_eviction(tmp_path: Path, keep: int | None, step: int | None, left: set[int]) -> None:
    for number in (2, 4, 6, 8, 90):
        notes(tmp_path / f"checkpoint_{number:02d}")
    notes(tmp_path, "checkpoint_1")  # a file
    notes(tmp_path / "checkpoint_old")
    evict(tmp_path, keep, step)
    expected = {f"checkpoint_{number:02d}" for number in left} | {"checkpoint_1", "checkpoint_old"}
    assert {path.name for path in tmp_path.iterdir()} == expected


def rolling(tmp_path: Path, tokenizer_folder: str) -> Path:
    """A run's folder with rolling checkpoints of steps 2 and 3."""
    steps = {"train__total_steps": 4, "train__resume_interval": 1, "train__save_best": False}
    run(ppo_config(tmp_path, tokenizer_folder, **steps))
    return tmp_path


def test_the_rolling_checkpoint_before_the_last_is_kept(tmp_path: Path, tokenizer_folder: str) -> None:
    folder = rolling(tmp_path, tokenizer_folder)
    steps = {
        path.parent.name: json.loads(path.read_text())["iter_count"] for path in folder.glob("*/trainer_state.json")
    }
    assert steps == {"previous_resume_checkpoint": 2, "resume_checkpoint": 3, "checkpoint_4": 4}
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["optimizer.bin", "random_states_0.pkl", "trainer_state.json", "hf_model/config.json"])
def test_of_a_damaged_checkpoint_the_one_before_is_resumed(
    tmp_path: Path, tokenizer_folder: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = rolling(tmp_path, tokenizer_folder)
    flip(folder / "checkpoint_4" / name)
    (folder / "resume_checkpoint" / "scheduler.bin").write_bytes(b"")  # torn
    assert find_resumable(folder) == folder / "previous_resume_checkpoint"
    assert "is not as it was written" in caplog.text and "scheduler.bin has 0 bytes" in caplog.text
    with pytest.raises(UserError, match="checkpoint_4 is no "):
        make_trainer(ppo_config(folder, tokenizer_folder)).load(str(folder / "checkpoint_4"))
    resumed = make_trainer(ppo_config(folder, tokenizer_folder))
    resumed.resume("auto")
    assert resumed.iter_count == 2


def test_a_checkpoint_of_another_model_is_one_line(tmp_path: Path, tokenizer_folder: str) -> None:
    run(ppo_config(tmp_path / "a", tokenizer_folder, train__epochs=1))
    other = make_trainer(ppo_config(tmp_path / "b", tokenizer_folder, model__num_layers_unfrozen=1))
    before = weights(other)
    for act in (
        lambda: other.load(str(tmp_path / "a" / "checkpoint_4")),
        lambda: other.resume(str(tmp_path / "a" / "checkpoint_4")),
    ):
        with pytest.raises(
            UserError, match=r"checkpoint_4 is of another model: .* there and .* here: resume with"
        ) as refused:
            act()
        assert "\n" not in str(refused.value)
    assert all(torch.equal(value, before[name]) for name, value in weights(other).items())


@pytest.mark.parametrize("ranks", [2, 3])
def test_another_number_of_ranks_is_one_line(tmp_path: Path, tokenizer_folder: str, ranks: int) -> None:
    trainer = run(ppo_config(tmp_path, tokenizer_folder, train__epochs=1))
    state = tmp_path / "checkpoint_4" / "trainer_state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"world_size": ranks}))
    write_manifest(state.parent)
    with pytest.raises(
        UserError, match=rf"written by {ranks} processes and this run has 1: resume with {ranks}, or begin"
    ):
        trainer.load(str(state.parent))
