"""The command line of train.sh: modes, stages, folders and options handed on, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.pipeline import machines
from launch.pipeline.driver import main, prepare, take_folder
from launch.pipeline.options import parse
from launch.pipeline.plan import Plan, make_plan
from launch.pipeline.stages import STAGES
from tasks.run_folder import REPO
from trlx.utils.errors import UserError

MINIATURE = [stage for stage in STAGES if stage not in ("classifier", "rft", "scores", "prompts")]
TINY = ["--config", str(REPO / "configs" / "tiny" / "pipeline.yaml")]


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "devices", lambda: (4, "4 processor cores"))
    monkeypatch.setattr("launch.local.without_deepspeed", lambda: "")


def plan(*arguments: str) -> Plan:
    return make_plan(parse(arguments))


def after(command: list[str], option: str) -> str:
    """The last value of an option."""
    return command[len(command) - 1 - command[::-1].index(option) + 1]


def test_the_real_run_is_sft_reward_model_ppo_and_evaluation_of_the_full_size_files() -> None:
    made = plan("sgl_mach", "--config", str(REPO / "configs" / "pipeline.yaml"))
    assert made.stages == ["sft", "reward_model", "ppo", "evaluation"] == plan("sgl_mach").stages
    names = {"evaluation": "inference"}
    for stage in made.stages:
        (command,) = made.commands(stage)
        assert after(command, "--config") == str(REPO / "configs" / f"{names.get(stage, stage)}.yaml")
    assert made.seeds() == dict.fromkeys(made.stages, 42)


def test_the_miniature_makes_its_data_and_has_a_second_judge_with_another_seed() -> None:
    made = plan("sgl_mach", *TINY, "--processes", "2")
    assert made.stages == MINIATURE
    assert made.seeds() == {**dict.fromkeys(made.stages, 1), "second_reward_model": 101}
    (sft,), (ppo,) = made.commands("sft"), made.commands("ppo")
    assert after(sft, "--num_accelerators") == after(ppo, "--num_processes") == "2"
    assert after(ppo, "--config_file") == str(REPO / "configs" / "tiny" / "accelerate.yaml")
    assert after(ppo, "--train.seed") == "1"


def test_the_sentiment_system_has_a_classifier_in_the_place_of_pairs_and_rejection_sampling() -> None:
    sentiment = ["--config", str(REPO / "configs" / "sentiment" / "pipeline.yaml")]
    made = plan("sgl_mach", *sentiment)
    assert made.stages == ["sft", "classifier", "ppo", "rft", "evaluation"]
    (classifier,), (ppo,), (rft,) = (made.commands(stage) for stage in ("classifier", "ppo", "rft"))
    assert any(part.endswith("reward_model/train_sentiment_classifier.py") for part in classifier)
    assert any(part.endswith("trlx_gptneo_rft_summarization.py") for part in rft)
    assert after(rft, "--config_file") == after(ppo, "--config_file")
    assert after(rft, "--num_processes") == after(ppo, "--num_processes")
    with pytest.raises(UserError, match="reward_model and classifier both make the run's reward model"):
        plan("sgl_mach", *sentiment, "--reward_model", str(REPO / "configs" / "reward_model.yaml"))


def test_scores_and_prompts_come_after_the_evaluation_and_draw_the_seed_they_have() -> None:
    made = plan("sgl_mach", "--config", str(REPO / "configs/tiny/instructgpt/pipeline.yaml"), "--processes", "2")
    assert made.stages[-3:] == ["evaluation", "scores", "prompts"]
    (scores,), (prompts,) = made.commands("scores"), made.commands("prompts")
    assert scores[1:4] == ["-m", "evaluation", "scores"] and "--seed" not in scores and made.seeds()["scores"] is None
    assert prompts[1:4] == ["-m", "evaluation", "prompts"] and after(prompts, "--seed") == "1"


def test_one_device_is_one_process() -> None:
    made = plan("sgl_gpu", *TINY)
    assert after(made.commands("reward_model")[0], "--num_accelerators") == "1"
    assert after(made.commands("ppo")[0], "--num_processes") == "1"


def test_options_of_a_stage_reach_it_alone_and_win(tmp_path: Path) -> None:
    config = tmp_path / "p.yaml"
    config.write_text("overrides: {sft: {max_steps: 9, resume: false}, ppo: {train.total_steps: 5}}\n")
    made = plan("sgl_mach", "--config", str(config), "--sft.max_steps", "7", "--ppo.overwrite", "--seed=3")
    (sft,), (ppo,), (evaluation,) = (made.commands(stage) for stage in ("sft", "ppo", "evaluation"))
    assert after(sft, "--max_steps") == "7" and after(sft, "--resume") == "false" and after(sft, "--seed") == "3"
    assert ppo[-1] == "--overwrite" and after(ppo, "--train.total_steps") == "5" and "--max_steps" not in ppo
    assert evaluation[-2:] == ["--seed", "3"]


def test_from_and_only_choose_stages(tmp_path: Path) -> None:
    root = ["--root", str(tmp_path / "run")]
    assert plan("sgl_mach", "--from", "ppo", *root).stages == ["ppo", "evaluation"]
    assert plan("sgl_mach", "--from=reward_model", *root).stages == ["reward_model", "ppo", "evaluation"]
    assert plan("sgl_mach", "--only", "reward_model", *root).stages == ["reward_model"]
    assert plan("sgl_mach", "--only", "sft").stages == ["sft"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"sgl_gpu \| sgl_mach \| mul_mach"),
        (["sgl_mac"], r"unknown mode 'sgl_mac'; did you mean 'sgl_mach'\?"),
        (["sgl_mach", "--from", "pp"], r"--from pp: there is no such stage; did you mean 'ppo'\?"),
        (["sgl_mach", "--only", "pairs"], "pairs: the stage is switched off: name its YAML file with --pairs FILE"),
        (["sgl_mach", "--from", "ppo"], "--from ppo needs what came before: name the run's folder with --root"),
        (["sgl_mach", "--from", "ppo", "--only", "ppo", "--root", "runs/none"], "--from and --only exclude"),
        (["sgl_mach", "--processes", "5"], "--processes 5: there are 4 processor cores here: choose no more"),
        (["sgl_mach", "--ppo_processes", "9"], "--ppo_processes 9: there are 4 processor cores here"),
        (["sgl_gpu", "--processes", "2"], "sgl_gpu is one process: use sgl_mach for more"),
        (["mul_mach"], "mul_mach needs its machines: --hostfile FILE"),
        (["sgl_mach", "--hostfile", "h"], "--hostfile is for mul_mach"),
        (["mul_mach", "--hostfile", "h", "--processes", "2"], "as many processes as the hostfile has slots"),
        (
            ["sgl_mach", "--remote_shell", "ssh '"],
            "--remote_shell ssh ': No closing quotation: write it as for a shell",
        ),
        (["sgl_mach", "--remote_shell", " "], "--remote_shell is empty: name what runs a command"),
        (["mul_mach", "--hostfile", "no/such"], "--hostfile no/such: No such file or directory: name a file"),
        (["sgl_mach", "--root", str(REPO)], "--root is the repository itself"),
        (["sgl_mach", "--sft", "no/such.yaml"], r"no/such\.yaml"),
        (
            ["sgl_mach", "--processes", "2", "--accelerate", str(REPO / "configs/accelerate/one_gpu.yaml")],
            "is not for 2",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--proceses", "2"], "unknown option --proceses; did you mean 'processes'?"),
        (["--stf.max_steps", "2"], "unknown option --stf.max_steps"),
        (["--processes", "many"], "--processes must be"),
    ],
)
def test_an_unknown_option_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        plan("sgl_mach", *arguments)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_an_unknown_stage_among_the_overrides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("overrides: {pppo: {seed: 1}}\n")
    with pytest.raises(UserError, match="overrides: there is no stage 'pppo'; did you mean 'ppo'"):
        plan("sgl_mach", "--config", str(tmp_path / "p.yaml"))


def test_a_dry_run_prints_the_commands_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sgl_mach", *TINY, "--processes", "2", "--root", str(tmp_path / "run"), "--dry_run"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"# in {tmp_path / 'run'}"
    assert [line for line in said if line.startswith("# ")][1:] == [f"# {stage}" for stage in MINIATURE]
    assert not (tmp_path / "run").exists()


def started(root: Path, *arguments: str) -> Plan:
    """A run that has been begun there, its stages not."""
    made = plan("sgl_mach", *TINY, "--root", str(root), *arguments)
    take_folder(made)
    prepare(made)
    return made


def test_a_run_that_is_gone_on_with_keeps_its_options_and_its_copies_of_the_files(tmp_path: Path) -> None:
    root = tmp_path / "run"
    started(root, "--processes", "2", "--ppo.train.total_steps", "5")
    made = plan("sgl_mach", "--root", str(root), "--from", "sft")
    assert made.stages == MINIATURE[1:]
    (ppo,) = made.commands("ppo")
    assert after(ppo, "--config") == str(root / "configs" / "ppo.yaml")
    assert (root / "configs" / "ppo.yaml").read_text() == (REPO / "configs/tiny/ppo.yaml").read_text()
    assert after(ppo, "--train.total_steps") == "5" and after(ppo, "--num_processes") == "2"
    assert after(ppo, "--config_file") == str(root / "configs" / "accelerate.yaml")


def test_another_file_takes_the_place_of_a_copy_which_is_kept(tmp_path: Path) -> None:
    root, other = tmp_path / "run", tmp_path / "other.yaml"
    started(root)
    first = (root / "configs" / "ppo.yaml").read_text()
    other.write_text(first + "# changed\n")
    made = plan("sgl_mach", "--root", str(root), "--from", "ppo", "--ppo", str(other))
    prepare(made)
    assert (root / "configs" / "ppo.yaml").read_text() == other.read_text()
    assert (root / "configs" / "ppo.1.yaml").read_text() == first
    assert yaml.safe_load((root / "configs" / "pipeline.yaml").read_text())["ppo"] == "{root}/configs/ppo.yaml"


@pytest.mark.parametrize(
    ("state", "extra", "anew"),
    [
        (None, [], ["--overwrite", "true"]),
        ("running", ["--resume", "auto"], ["--overwrite", "true"]),  # it was killed
        ("failed", ["--resume", "auto"], ["--overwrite", "true"]),
        ("interrupted", ["--resume", "auto"], ["--overwrite", "true"]),
    ],
)
def test_a_stage_that_was_stopped_is_resumed(tmp_path: Path, state: str, extra: list[str], anew: list[str]) -> None:
    made = started(tmp_path / "run")
    if state is not None:
        made.record.begin("ppo")
        made.record.end("ppo", state)
    again = ["sgl_mach", "--root", str(tmp_path / "run"), "--only", "ppo"]
    assert plan(*again).extra == {"ppo": extra}
    assert plan(*again, "--overwrite").extra == {"ppo": anew}


def test_a_finished_stage_is_not_done_again_unasked_but_the_evaluation(tmp_path: Path) -> None:
    made = started(tmp_path / "run")
    for stage in ("posts", "sft", "evaluation"):
        made.record.begin(stage)
        made.record.end(stage, "finished")
    again = ["sgl_mach", "--root", str(tmp_path / "run")]
    with pytest.raises(UserError, match=r"sft has finished in .*: --from pairs goes on, --overwrite does it anew"):
        plan(*again, "--from", "sft")
    assert plan(*again, "--only", "evaluation").extra == {"evaluation": []}
    with pytest.raises(UserError, match=r"already holds a run \(run\.json\): go on with --from pairs, or name another"):
        plan(*again)


def test_what_a_demo_trained_counts_as_finished(tmp_path: Path) -> None:
    (tmp_path / "ckpts" / "sft").mkdir(parents=True)
    (tmp_path / "ckpts" / "sft" / "run.json").write_text('{"finished": true}')
    arguments: list[Any] = ["sgl_mach", *TINY, "--root", str(tmp_path)]
    with pytest.raises(UserError, match="sft has finished"):
        plan(*arguments, "--from", "sft")
    assert plan(*arguments, "--from", "pairs").stages[0] == "pairs"
    with pytest.raises(UserError, match=r"already holds a run \(ckpts\)"):
        plan(*arguments)
