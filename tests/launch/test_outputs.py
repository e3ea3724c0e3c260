"""Who may write an output folder, and what the placeholders become."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launch.outputs import claim_output, last_whole_checkpoint, remove_stage_files, require_same_engine
from tasks.run_folder import REPO, default_under, fill_places
from trlx.utils.errors import UserError
from trlx.utils.manifest import write_manifest


def written_run(out: Path, *whole: int, broken: int | None = None) -> Path:
    out.mkdir(parents=True)
    (out / "run.json").write_text("{}")
    (out / "config.json").write_text("{}")
    (out / "notes.txt").write_text("a person's own")
    for step in whole:
        (out / f"checkpoint-{step}").mkdir()
        (out / f"checkpoint-{step}" / "weights").write_text("1.0")
        write_manifest(out / f"checkpoint-{step}")
    if broken is not None:
        (out / f"checkpoint-{broken}").mkdir()
    return out


def test_fresh_folder_is_made(tmp_path: Path) -> None:
    assert claim_output(tmp_path / "a" / "b", overwrite=False, resume=False) is None
    assert (tmp_path / "a" / "b").is_dir()


def test_second_run_is_refused_in_one_line(tmp_path: Path) -> None:
    out = written_run(tmp_path / "out")
    with pytest.raises(UserError, match="--overwrite") as refused:
        claim_output(out, overwrite=False, resume=False)
    assert "\n" not in str(refused.value)
    assert (out / "config.json").exists()


def test_overwrite_removes_what_a_stage_wrote_and_nothing_else(tmp_path: Path) -> None:
    out = written_run(tmp_path / "out", 5)
    assert claim_output(out, overwrite=True, resume=False) is None
    assert {path.name for path in out.iterdir()} == {"notes.txt"}


@pytest.mark.parametrize("overwrite, resume", [(False, False), (True, False), (False, True)])
def test_a_folder_no_stage_wrote_is_never_touched(tmp_path: Path, overwrite: bool, resume: bool) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no stage wrote"):
        claim_output(tmp_path, overwrite, resume)
    assert (tmp_path / "config.json").exists()


def test_a_run_that_never_trained_is_replaced_without_asking(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert claim_output(tmp_path, overwrite=False, resume=False) is None


def test_another_number_of_ranks_does_not_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = written_run(tmp_path / "out", 5)
    for there, here in ((2, 1), (1, 2)):
        (out / "run.json").write_text(f'{{"world_size": {there}}}')
        monkeypatch.setenv("WORLD_SIZE", str(here))
        with pytest.raises(UserError, match=f"written by {there} processes and this run has {here}: resume with"):
            claim_output(out, overwrite=False, resume="auto")
        assert (out / "config.json").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert claim_output(out, overwrite=False, resume="auto") == out / "checkpoint-5"


def test_an_optimizers_state_that_cannot_be_read_is_not_left_out_silently(tmp_path: Path) -> None:
    require_same_engine(None, deepspeed=True)
    require_same_engine(tmp_path, deepspeed=False)
    with pytest.raises(UserError, match="was written without DeepSpeed: resume with --deepspeed null, or begin anew"):
        require_same_engine(tmp_path, deepspeed=True)
    (tmp_path / "latest").write_text("global_step5")
    require_same_engine(tmp_path, deepspeed=True)
    with pytest.raises(UserError, match="was written with DeepSpeed: resume with the `deepspeed` launcher"):
        require_same_engine(tmp_path, deepspeed=False)


def test_resume_takes_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    out = written_run(tmp_path / "out", 9, 10, broken=12)
    assert claim_output(out, overwrite=False, resume=True) == out / "checkpoint-10"
    assert last_whole_checkpoint(tmp_path) is None


def test_of_damaged_checkpoints_the_one_before_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = written_run(tmp_path / "out", 3, 9, 10)
    (out / "checkpoint-10" / "weights").write_text("2.0")
    (out / "checkpoint-9" / "weights").unlink()
    assert claim_output(out, overwrite=False, resume="auto") == out / "checkpoint-3"
    assert [record.message.partition("checkpoint ")[2] for record in caplog.records] == [
        "(weights is not as it was written) and is passed over",
        "(weights is missing) and is passed over",
    ]


def test_resume_without_a_whole_checkpoint_begins_again(tmp_path: Path) -> None:
    out = written_run(tmp_path / "out", broken=3)
    (out / "config.json").unlink()  # without it there is no finished model
    assert claim_output(out, overwrite=False, resume=True) is None
    assert not (out / "checkpoint-3").exists()


def test_a_kill_in_the_first_write_of_all_leaves_nothing_to_ask_about(tmp_path: Path) -> None:
    (tmp_path / ".run.json.writing-7").touch()
    assert claim_output(tmp_path, overwrite=False, resume="auto") is None
    assert not list(tmp_path.iterdir())


def test_resume_never_removes_a_finished_model(tmp_path: Path) -> None:
    out = written_run(tmp_path / "out", broken=3)
    with pytest.raises(UserError, match="finished model and no checkpoint"):
        claim_output(out, overwrite=False, resume=True)
    assert (out / "config.json").exists()


def test_both_options_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exclude"):
        claim_output(tmp_path / "new", overwrite=True, resume=True)


def test_links_are_removed_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("x")
    out = written_run(tmp_path / "out")
    (out / "logs").symlink_to(elsewhere)
    remove_stage_files(out)
    assert not (out / "logs").exists() and (elsewhere / "kept").exists()


@dataclass
class Inner:
    path: str = "{root}/x"


@dataclass
class Outer:
    model: str = "{repo}/m"
    number: int = 3
    missing: str | None = None
    many: list[str] = field(default_factory=lambda: ["{root}/a", "b"])
    inner: Inner = field(default_factory=Inner)


def test_places_are_filled_at_any_depth(tmp_path: Path) -> None:
    filled = fill_places(Outer(), tmp_path)
    assert filled == Outer(f"{REPO}/m", 3, None, [f"{tmp_path}/a", "b"], Inner(f"{tmp_path}/x"))


def test_default_paths_lie_under_root_and_given_ones_under_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_under("/r", None, "ckpts", "sft") == Path("/r/ckpts/sft")
    assert default_under("/r", "mine", "ckpts", "sft") == tmp_path / "mine"
