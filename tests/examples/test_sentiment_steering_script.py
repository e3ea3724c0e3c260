"""The steering exercise from its first cell to its last, on the miniature, in one process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "sentiment_steering" / "steer.py"


def cells() -> list[str]:
    """The script's cells; what stands before the first mark is its docstring."""
    return SCRIPT.read_text().split("# %% ")


def test_every_cell_asks() -> None:
    """Its title is a question, but for the set-up and the training; the next lines say more."""
    titles = [cell.splitlines()[0] for cell in cells()[1:]]
    assert len(titles) == 13
    assert sum(title.endswith("?") for title in titles) == 12


@pytest.mark.e2e
def test_the_cells_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--out", str(tmp_path), "--steps", "24", "--count", "40", "--goals", '["positive", "negative"]']
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *argv])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells()):
        code = "# %% " * bool(number) + cell
        exec(compile(code, f"{SCRIPT}, cell {number}", "exec"), names)

    def positive(judged: dict[str, Any], second: bool = False) -> float:
        scores = [p for kind in judged.values() for p in (kind.second if second else kind.scores)]
        assert len(scores) == 120
        return sum(p > 0.5 for p in scores) / len(scores)

    # 120 samples: a standard error of .05 at most; 24 steps give about ±.25.
    before, after = names["before"], names["after"]
    assert positive(after["positive"]) > positive(before) + 0.1
    assert positive(after["negative"]) < positive(before) - 0.1
    assert positive(after["positive"], second=True) > positive(after["negative"], second=True) + 0.2
    assert names["by_pipeline"](names["reviews"]) == pytest.approx(names["by_hand"], abs=1e-5)
    assert sum(names["right"]) / len(names["right"]) > 0.85  # of whole reviews; the best there can be is about .9
    kinds = names["kinds"]
    assert not set(kinds["positive"]) & set(kinds["negative"])
    found = names["found"]
    assert found.score == max(found.scores.values()) > 0.8
    shown = capsys.readouterr().out
    assert "512 reviews: 256 positive, 256 negative" in shown
    assert "Steered to be negative" in shown
    assert found.text in " ".join(shown.split())
    assert "| positive, after | " in (tmp_path / "negative.md").read_text()
    AutoModelForCausalLM.from_pretrained(tmp_path / "positive" / "hf_model")
