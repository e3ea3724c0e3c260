"""trlx_inference_gptneo.py as people run it, on tiny random models, and what it says when something is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import pytest

import trlx_inference_gptneo as script
from evaluation.samples import read_samples
from tasks.registry import get_task
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError

REPO = Path(__file__).resolve().parents[2]
SMALL = ("--data", "{root}/data", "--max_length", "200", "--max_new_tokens", "16", "--resamples", "500")


def run(*options: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, str(REPO / "trlx_inference_gptneo.py"), *options],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **quiet, "CUDA_VISIBLE_DEVICES": ""},
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def judged(run_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The root after a run of the script from another folder, and what it printed."""
    done = run("--root", str(run_root), *SMALL, folder=tmp_path_factory.mktemp("elsewhere"))
    assert done.returncode == 0, done.stderr
    return run_root, done.stdout


def results_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "results.json").read_text(encoding="utf-8"))


def test_prints_tables_and_where_things_are(judged: tuple[Path, str]) -> None:
    root, printed = judged
    for words in (
        "devices: reward model on cpu, policy on cpu (no GPU here",
        "24 posts",
        "ROUGE scores",
        "Ground truth mean reward:",
        "Reward Δ",
        "KL to SFT",
        "PPO − SFT",
        "stemmer off, aggregator off",
        "No EOS",
        "Lead-1",
        "Win rates against the reference",
        "No second reward model",
        "Reward model: accuracy 0.875 on 8 held-out pairs",
    ):
        assert words in printed, words
    for name in ("report.html", "results.json", "metadata/results.md", "metadata/sft_with_reward_scores_sample.csv"):
        assert str(root / name) in printed
        assert (root / name).is_file()


def test_csv_results_and_tables_agree(judged: tuple[Path, str]) -> None:
    root, _ = judged
    results = results_of(root)
    page = (root / "metadata" / "results.md").read_text(encoding="utf-8")
    for name in ("sft", "ppo"):
        rows = read_samples(root / "metadata" / f"{name}_with_reward_scores_sample.csv")
        model = results["models"][name]
        assert len(rows) == results["posts"] == 24
        assert sum(row.score_pred for row in rows) / 24 == pytest.approx(model["reward"]["mean"])
        assert sum(row.score_truth for row in rows) / 24 == pytest.approx(results["ground_truth_reward"]["mean"])
        assert sum(row.rougeL for row in rows) / 24 == pytest.approx(model["rougeL"]["mean"])
        assert sum(not row.ended for row in rows) / 24 == pytest.approx(model["share_without_eos"])
        assert f"| {name.upper()} | {model['reward']['mean']:.3f} [" in page
    gap = results["models"]["ppo"]["reward"]["mean"] - results["models"]["sft"]["reward"]["mean"]
    assert results["differences"]["ppo"]["reward"]["mean"] == pytest.approx(gap)
    assert results["models"]["ppo"]["kl"]["k1"]["n"] == 24
    assert results["models"]["ppo"]["kl"]["k3"]["mean"] > 0
    assert results["models"]["ppo"]["path"] == "ckpts/best_checkpoint/hf_model"
    assert results["run"]["decoding"] == {"max_new_tokens": 16, "do_sample": False}
    assert results["reward_model"]["held_out"]["test"] == {"pairs": 8, "accuracy": 0.875}


def test_summaries_are_greedy_and_scored_as_written(judged: tuple[Path, str]) -> None:
    """A post at a time, through plain transformers and the stock reward model, gives the same text and score."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    root, _ = judged
    policy = AutoModelForCausalLM.from_pretrained(root / "ckpts" / "sft")
    reader = AutoTokenizer.from_pretrained(root / "ckpts" / "sft")
    judge = AutoModelForSequenceClassification.from_pretrained(root / "ckpts" / "reward_model")
    words = AutoTokenizer.from_pretrained(root / "ckpts" / "reward_model")
    rows = read_samples(root / "metadata" / "sft_with_reward_scores_sample.csv")
    for row in (rows[0], rows[2], rows[5]):
        ids = reader(row.post, return_tensors="pt").input_ids
        out = policy.generate(ids, do_sample=False, max_new_tokens=16)[0, ids.shape[1] :].tolist()
        assert row.ended == (reader.eos_token_id in out)
        text = reader.decode([token for token in out if token != reader.eos_token_id])
        assert row.pred == text.strip()
        scored = [*words(row.post)["input_ids"], *words(text)["input_ids"]] + [words.eos_token_id] * row.ended
        with torch.no_grad():
            raw = float(judge(torch.tensor([scored])).logits[0, 0])
        assert row.score_pred == pytest.approx(raw - 0.25, abs=1e-4)


def test_duplicate_prompts_and_live_cells(judged: tuple[Path, str]) -> None:
    path = judged[0] / "metadata" / "sft_with_reward_scores_sample.csv"
    rows = read_samples(path)
    assert rows[0].post == rows[1].post
    assert rows[0].pred == rows[1].pred
    assert (rows[0].id, rows[1].id) == ("t0", "t1")
    assert rows[2].truth.startswith("=HYPERLINK")
    assert "\"'=HYPERLINK" in path.read_text(encoding="utf-8")


def test_any_named_models_limit_and_rerun(run_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run_root, tmp_path / "run")
    hf_model = tmp_path / "run" / "ckpts" / "best_checkpoint" / "hf_model"
    options = ("--root", str(tmp_path / "run"), *SMALL, "--limit", "5", "--kl_posts", "0", "--baselines", "")
    for _ in range(2):  # nothing is refused the second time
        script.main([*options, "--models", f"mine={hf_model},sft"])
    results = results_of(tmp_path / "run")
    assert list(results["models"]) == ["mine", "sft"]
    assert results["posts"] == 5
    assert results["models"]["mine"]["kl"] is None
    assert list(results["differences"]) == ["mine"]
    assert len(read_samples(tmp_path / "run" / "metadata" / "mine_with_reward_scores_sample.csv")) == 5
    script.main([*options, "--models", f"mine={hf_model}"])
    assert "the baseline 'sft' is not among --models" in capsys.readouterr().out


def test_gold_where_the_task_knows_it(run_root: Path, tmp_path: Path) -> None:
    shutil.copytree(run_root, tmp_path / "run")
    data = tmp_path / "run" / "data" / "test.jsonl"
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()][3:9]
    facts = [{"name": "word", "text": "cat"}, {"name": "word", "text": "no such word"}]
    data.write_text("".join(json.dumps({**row, "facts": facts}) + "\n" for row in rows), encoding="utf-8")
    script.main(["--root", str(tmp_path / "run"), *SMALL, "--task", "miniature", "--models", "sft"])
    gold = get_task("miniature").gold_score
    assert gold is not None
    samples = read_samples(tmp_path / "run" / "metadata" / "sft_with_reward_scores_sample.csv")
    for row in samples:
        assert row.gold_truth == pytest.approx(gold(facts, row.truth, True))  # type: ignore[arg-type]
        assert row.gold_pred == pytest.approx(gold(facts, row.pred, row.ended))  # type: ignore[arg-type]
    mean = sum(row.gold_truth or 0.0 for row in samples) / len(samples)
    assert results_of(tmp_path / "run")["ground_truth_gold"]["mean"] == pytest.approx(mean)


def test_missing_checkpoint_is_one_line(run_root: Path, tmp_path: Path) -> None:
    shutil.copytree(run_root / "ckpts" / "sft", tmp_path / "ckpts" / "sft")
    done = run("--root", str(tmp_path), *SMALL)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "no ppo model in" in errors[0]
    assert "trlx_gptneo_text_summarization.py" in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "metadata").exists()


def test_missing_reward_model_and_sft_name_their_stages(run_root: Path, tmp_path: Path) -> None:
    shutil.copytree(run_root / "ckpts" / "sft", tmp_path / "ckpts" / "sft")
    with pytest.raises(UserError, match=r"reward_model/train_reward_model_gptneo\.py"):
        script.main(["--root", str(tmp_path), *SMALL, "--models", "sft"])
    with pytest.raises(UserError, match=r"no sft model .* sft/train_gptneo_summarize\.py"):
        script.main(["--root", str(tmp_path / "none"), *SMALL])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--reward_label", "POSITIVE"), "no text classifier is among the reward models: leave it out"),
        (("--models", "sft,other"), "'other' needs a path"),
        (("--models", "sft,sft"), "named twice"),
        (("--models", "x=/no/such/folder"), "check the path"),
        (("--models", ","), "names no model"),
        (("--models", "../x=a"), "is not name or name=path"),
        (("--batch_size", "0"), "batch_size must be at least 1"),
        (("--max_new_tokens", "200"), "leaves no room"),
        (("--task", "tdlr"), "did you mean 'tldr'"),
        (("--max_length", "400", "--max_new_tokens", "250"), "256 positions"),
        (("--split", "valid"), "valid"),
    ],
)
def test_bad_options(run_root: Path, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        script.main(["--root", str(run_root), *SMALL, *options])


def test_refuses_a_launcher(run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="plain python"):
        script.main(["--root", str(run_root), *SMALL])


def test_help_shows_every_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        script.main(["--help"])
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, field in script.InferenceOptions.__dataclass_fields__.items():
        assert f"--{name}" in shown
        value = field.default if field.default_factory is MISSING else field.default_factory()
        default = "null" if value is None else str(value)
        assert f"default: {default})" in shown.replace("- ", "-"), name


def test_unknown_option_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        script.main(["--batchsize", "3"])
    assert stopped.value.code == 2
    assert "did you mean 'batch_size'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["inference.yaml", "tiny/inference.yaml"])
def test_configs_load(name: str) -> None:
    options = parse_config(script.InferenceOptions, "", ["--config", str(REPO / "configs" / name)])
    assert options.models is None
    assert options.max_new_tokens < options.max_length
    first = (REPO / "configs" / name).read_text(encoding="utf-8").splitlines()[:3]
    assert all(line.startswith("#") for line in first)


def test_goes_on_where_it_was_killed(
    run_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed while the second model's samples are made: the summaries there are stay, and the numbers are the same."""
    from evaluation import summaries

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = (*SMALL, "--models", "sft,ppo", "--baselines", "title")
    for root in (whole, killed):
        shutil.copytree(run_root, root, ignore=shutil.ignore_patterns("metadata", "results.json", "report.html"))
    script.main(["--root", str(whole), *options])

    def kill(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(summaries, "sample_responses", kill)
        script.main(["--root", str(killed), *options])
    assert not (killed / "results.json").exists()
    written = list[int]()
    real = summaries.generate_texts
    monkeypatch.setattr(summaries, "generate_texts", lambda *a, **k: written.append(len(a[2])) or real(*a, **k))
    script.main(["--root", str(killed), *options, "--resume", "auto"])
    assert sum(written) == 24  # the baseline's; PPO's greedy summaries were there
    assert results_of(killed)["run"]["reused_posts"] == 24 * 3  # references' and PPO's rewards, PPO's summaries
    a, b = results_of(whole), results_of(killed)
    for facts in (a, b):
        facts["run"].pop("reused_posts")
        for model in facts["models"].values():
            model["about"].pop("generation_seconds", None)
    assert a == b
    assert not (killed / "metadata" / ".evaluation").exists()


def test_rewards_of_another_precision_are_not_taken_over(
    run_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluation import outputs

    shutil.copytree(run_root, tmp_path / "run", ignore=shutil.ignore_patterns("metadata", "results.json"))
    options = ("--root", str(tmp_path / "run"), *SMALL, "--models", "sft", "--kl_posts", "0", "--baselines", "")

    def kill(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(outputs, "write_samples", kill)
        script.main([*options])
    script.main([*options, "--resume", "--reward_dtype", "bfloat16"])
    assert results_of(tmp_path / "run")["run"]["reused_posts"] == 24  # the summaries; no reward
    model = results_of(tmp_path / "run")["models"]["sft"]
    assert model["about"]["generation_seconds"] is None  # not measured in this run


def test_a_reward_model_that_gives_nan_is_named_before_anything_is_kept(run_root: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(run_root, tmp_path / "run", ignore=shutil.ignore_patterns("metadata", "results.json"))
    weights = tmp_path / "run" / "ckpts" / "reward_model" / "model.safetensors"
    tensors = load_file(weights)
    tensors["score.weight"][:] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"the reward model of reference gives nan of post t\d+: .* train it anew"):
        script.main(["--root", str(tmp_path / "run"), *SMALL, "--models", "sft"])
    assert not list((tmp_path / "run" / "metadata").rglob("*rewards*"))


def test_a_second_reward_model_judges_too(run_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from reward_model.provenance import write_training_posts

    shutil.copytree(run_root, tmp_path / "run")
    first = tmp_path / "run" / "ckpts" / "reward_model"
    second = tmp_path / "run" / "ckpts" / "second_reward_model"
    shutil.copytree(first, second)
    config = json.loads((second / "config.json").read_text())
    (second / "config.json").write_text(json.dumps({**config, "reward_offset": 1.25}))
    write_training_posts(first, ["a", "b", "c"])
    write_training_posts(second, ["c", "d"])
    assert np.load(second / "training_posts.npy").shape == (2,)
    script.main(["--root", str(tmp_path / "run"), *SMALL, "--models", "sft", "--kl_posts", "0", "--baselines", ""])
    results = results_of(tmp_path / "run")
    model = results["models"]["sft"]
    assert model["second_reward"]["mean"] == pytest.approx(model["reward"]["mean"] - 1.0)
    assert results["second_reward_model"]["training_posts_shared_with_first"] == 1
    assert {one["judge"] for one in results["preferences"]} == {"reward model", "second reward model"}
    rows = read_samples(tmp_path / "run" / "metadata" / "sft_with_reward_scores_sample.csv")
    assert all(row.second_pred == pytest.approx(row.score_pred - 1.0) for row in rows)
    assert "no fresh judge, for 1 of its training posts" in capsys.readouterr().out
    script.main(["--root", str(tmp_path / "run"), *SMALL, "--models", "sft", "--second_reward_model", "none"])
    assert results_of(tmp_path / "run")["second_reward_model"] == {}


def test_baselines_are_judged_like_models(judged: tuple[Path, str]) -> None:
    from evaluation.rouge_scores import rouge_f1

    root, _ = judged
    results = results_of(root)
    assert [name for name, model in results["models"].items() if model["kind"] == "baseline"] == [
        "title",
        "first_sentence",
        "first_30_words",
    ]
    rows = read_samples(root / "metadata" / "title_with_reward_scores_sample.csv")
    for row in rows:
        assert f"\nTITLE: {row.pred}\n" in row.post
        assert row.ended
        assert "copied_title" in row.faults.split()
    scores = rouge_f1([row.pred for row in rows], [row.truth for row in rows])
    assert results["models"]["title"]["rouge1"]["mean"] == pytest.approx(sum(scores["rouge1"]) / len(rows))
    assert [table["title"] for table in results["tables"]][:2] == ["ROUGE scores", "ROUGE scores, stemmed"]
