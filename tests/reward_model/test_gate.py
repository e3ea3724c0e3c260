"""The gate from its command line to gate.json, on a small random reward model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tiny_stage import REPO, pairs, posts, tiny_base, write_rows

from reward_model.gate import GateOptions, main, read_thresholds
from reward_model.gate_console import print_groups
from reward_model.model import new_reward_model, new_reward_tokenizer
from reward_model.provenance import write_training_posts
from reward_model.scorer import RewardScorer
from reward_model.thresholds import Thresholds
from reward_model.verdict import read_gate, read_verdict
from trlx.utils.errors import UserError, run_main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a random reward model, test pairs and references."""
    root = tmp_path_factory.mktemp("run")
    tokenizer = new_reward_tokenizer(tiny_base(root / "base"))
    torch.manual_seed(0)
    folder = root / "ckpts" / "reward_model"
    new_reward_model(root / "base", tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_rows(root / "data" / "comparisons_test.jsonl", pairs(30, 5))
    write_rows(root / "data" / "sft_valid.jsonl", posts(12, 2))
    return root


def options(root: Path, *more: str) -> list[str]:
    data = ["--task=miniature", "--data={root}/data/comparisons", "--references={root}/data/sft"]
    return [f"--root={root}", *data, "--max_length=128", "--batch_size=8", *more]


@pytest.fixture(scope="module")
def easy(run: Path) -> str:
    path = run / "easy.yaml"
    path.write_text(
        "thresholds:\n  min_pairs: 5\n  min_posts: 5\n  accuracy: 0.0\n  padding: 0.001\n  trained_on: 0.0\n"
    )
    return str(path)


def test_pass_prints_a_table_and_returns(run: Path, easy: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(options(run, f"--config={easy}"))
    said = capsys.readouterr().out
    assert "Reward model gate" in said and "first_three_sentences" in said
    assert "reward model gate: PASS (15 checks, 12 not judged)" in said
    assert "trained_on is not judged: the model came without training_posts.npy" in said
    content = read_gate(run / "ckpts" / "reward_model")
    assert content is not None and content["verdict"] == "PASS"
    assert content["data"] == {
        "pairs": "data/comparisons",
        "split": "test",
        "references": "data/sft",
        "references_split": "valid",
        "n": 30,
    }
    assert content["thresholds"]["accuracy"] == 0.0 and content["thresholds"]["stress"]["role_swap"] is None
    assert content["invariance"]["padding"] < 1e-4
    stress = {one["name"]: one["n"] for one in content["stress"]}
    assert stress["truncated"] == stress["other_post"] == stress["title_twice"] == 12
    assert stress["shuffled_sentences"] == 0  # of one sentence each
    verdict = read_verdict(run / "ckpts" / "reward_model")
    assert verdict is not None and verdict.passed and not verdict.stale


def test_fail_exits_1_and_names_what_fails(run: Path, easy: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_training_posts(run / "ckpts" / "reward_model", [row["prompt"] for row in pairs(30, 5)[:1]])
    try:
        with pytest.raises(SystemExit) as stopped:
            main(options(run, f"--config={easy}", "--thresholds.accuracy=1", "--thresholds.min_pairs=30"))
    finally:
        (run / "ckpts" / "reward_model" / "training_posts.npy").unlink()
    assert stopped.value.code == 1
    said = capsys.readouterr().out
    assert "reward model gate: FAIL (15 checks" in said and "fails: accuracy 0." in said and "must be >= 1" in said
    assert "fails: trained_on 0.0" in said
    assert json.loads((run / "ckpts" / "reward_model" / "gate.json").read_text())["verdict"] == "FAIL"


def test_the_full_size_thresholds_are_the_default(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:  # 30 pairs are not the hundred that are needed
        main(options(run))
    assert stopped.value.code == 1
    content = read_gate(run / "ckpts" / "reward_model")
    assert content is not None and content["thresholds"]["accuracy"] == 0.6 and content["thresholds"]["ece"] == 0.1
    said = capsys.readouterr().out
    assert (
        "fails: accuracy" in said
        and "(required, and cannot be judged: of the 100 that are needed there are 30)" in said
    )


def test_a_file_of_its_own_takes_nothing_from_the_default_one(run: Path, easy: str) -> None:
    main(options(run, "--config", easy))
    content = read_gate(run / "ckpts" / "reward_model")
    assert content is not None and content["thresholds"]["ece"] is None
    assert read_thresholds(easy) == Thresholds(**{**content["thresholds"], "stress": Thresholds().stress})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "thresholds:\n  accurracy: 0.5\n",
            r"line 2: unknown key 'thresholds.accurracy'; did you mean 'accuracy'",
        ),
        ("thresholds:\n  stress:\n    shuffled: 0.5\n", r"line 3: unknown key 'thresholds.stress.shuffled'"),
        ("thresholds:\n  accuracy: 1.5\n", r"line 2: thresholds.accuracy must be between 0 and 1, not 1.5"),
        ("thresholds:\n  accuracy: much\n", r"line 2: 'thresholds.accuracy' must be a number"),
        ("thresholds:\n  stress:\n    role_swap: -1\n", r"line 3: thresholds.stress.role_swap must be between 0 and 1"),
        ("thresholds:\n  ece: 0.1\n  required: [eec]\n", r"line 3: .*no check is called 'eec'; did you mean 'ece'"),
        ("thresholds:\n  required: [ece]\n", r"line 2: thresholds.required: 'ece' has no threshold"),
        ("batch_size: 2\n", r"no section 'thresholds': write one"),
    ],
)
def test_bad_thresholds_name_file_and_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=rf"gate\.yaml.*{said}"):
        read_thresholds(str(path))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--thresholds.acuracy=1",), "acuracy"),
        (("--thresholds.accuracy=2",), "--thresholds.accuracy must be between 0 and 1"),
        (("--reward_model=/nowhere",), "no reward model there"),
        (("--data=/nowhere",), "/nowhere"),
    ],
)
def test_bad_input_exits_2_in_one_line(
    run: Path, more: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_main(lambda: main(options(run, *more)))
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and said in error and len(error.strip().splitlines()) == 1


def test_a_model_on_the_hub_is_judged_and_nothing_is_kept(
    run: Path, easy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load, asked = RewardScorer.load, []

    def stand_in(path: object, *more: object, **options: Any) -> RewardScorer:
        asked.append(path)
        return load(run / "ckpts" / "reward_model", *more, **options)

    monkeypatch.setattr(RewardScorer, "load", stand_in)
    monkeypatch.chdir(tmp_path)
    main(options(run, f"--config={easy}", "--reward_model=someone/judge"))
    said = capsys.readouterr().out
    assert asked == ["someone/judge"] and list(tmp_path.iterdir()) == []
    assert "reward model gate: PASS" in said and "someone/judge is on the hub: this is not kept" in said


def test_groups_are_shown_up_to_sixteen(capsys: pytest.CaptureFixture[str]) -> None:
    interval = {"mean": 0.75, "low": 0.6, "high": 0.86, "n": 40}
    batches = {f"b{number:02}": {"pairs": 1040, "accuracy": interval} for number in range(18)}
    print_groups({"batch": batches, "confidence": {"-9": {"pairs": 3, "accuracy": interval}}}, Console(width=100))
    said = capsys.readouterr().out
    assert "Accuracy by batch" in said and "b15" in said and "b16" not in said and "2 more in gate.json" in said
    assert "Accuracy by confidence" in said and "0.750 [0.600, 0.860]" in said and "1,040" in said
    print_groups({}, Console())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["reward_gate.yaml", "tiny/reward_gate.yaml"])
def test_the_projects_files_judge_every_check_or_say_null(name: str) -> None:
    text = (REPO / "configs" / name).read_text()
    thresholds = read_thresholds(str(REPO / "configs" / name))
    for key in (*vars(thresholds), *vars(thresholds.stress)):
        assert f"  {key}:" in text, key


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stopped.value.code == 0
    for name in (*vars(GateOptions()), "thresholds.ece", "thresholds.stress.role_swap"):
        assert f"--{name} " in text, name
