"""Each example's `main` runs for a few steps on its miniature, logs its metric, and leaves a model that loads."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from trlx.utils.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
WALKS = {"train.seed": 5}
SENTIMENTS = {"miniature": True}

# Script → (settings, the metric that evaluation logs).
EXAMPLES = {
    "randomwalks.ppo_randomwalks": (WALKS, "metrics/optimality"),
    "randomwalks.ilql_randomwalks": (WALKS | {"method.gen_kwargs.beta": [0, 1]}, "metrics/optimality@beta=1"),
    "randomwalks.rft_randomwalks": (WALKS | {"method.n_generations_per_prompt": 8}, "metrics/optimality"),
    "ppo_sentiments": (SENTIMENTS, "reward/mean"),
    "ppo_dense_sentiments": (SENTIMENTS, "reward/mean"),
    "ppo_sentiments_peft": (SENTIMENTS, "reward/mean"),
    "ilql_sentiments": (SENTIMENTS, "metrics/sentiments"),
    "sft_sentiments": (SENTIMENTS, "metrics/sentiments"),
    "rft_sentiments": (SENTIMENTS, "reward/mean"),
}


def test_every_example_is_here() -> None:
    scripts = {path.stem for path in (ROOT / "examples").rglob("*.py") if "def main(hparams" in path.read_text()}
    assert scripts == {name.split(".")[-1] for name in EXAMPLES}


@pytest.fixture(autouse=True)
def short_cloning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start of two steps: here it need not be good."""
    from examples import behaviour_cloning, sentiments_miniature
    from examples.randomwalks import start

    def clone(*arguments: object, **sizes: object) -> object:
        return behaviour_cloning.clone(*arguments, **sizes | {"steps": 2})  # type: ignore[arg-type]

    monkeypatch.setattr(start, "clone", clone)
    monkeypatch.setattr(sentiments_miniature, "clone", clone)


@pytest.mark.parametrize("name", EXAMPLES)
def test_main(name: str, tmp_path: Path) -> None:
    settings, metric = EXAMPLES[name]
    if "peft" in name:
        pytest.importorskip("peft")
    hparams = settings | {
        "train.total_steps": 3,
        "train.eval_interval": 2,
        "train.batch_size": 16,
        "train.checkpoint_dir": str(tmp_path),
    }
    if "ppo" in name:
        hparams |= {"method.num_rollouts": 16, "method.chunk_size": 16}
    before = dict(hparams)
    trainer = importlib.import_module(f"examples.{name}").main(hparams)
    assert hparams == before
    assert trainer.iter_count == 3
    evaluations = {line["step"]: line[metric] for line in read_metrics(tmp_path / "logs") if metric in line}
    assert sorted(evaluations) == [0, 2, 3]
    assert all(0.0 <= value <= 2.0 for value in evaluations.values())
    folders = list(tmp_path.glob("checkpoint_*/hf_model"))
    assert len(folders) == 1
    AutoModelForCausalLM.from_pretrained(folders[0])


def test_a_script_runs_as_a_file(tmp_path: Path) -> None:
    """From any folder, without the repository on the path; it refuses an unknown setting before it makes anything."""
    script = ROOT / "examples" / "randomwalks" / "ppo_randomwalks.py"
    command = [sys.executable, str(script), '{"train.sed": 1}']
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode != 0
    assert "unknown key 'train.sed'; did you mean 'seed'?" in run.stderr
