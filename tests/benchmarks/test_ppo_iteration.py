"""The benchmark's two sides compute the same numbers; nothing is asserted about time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import plain_ppo, report
from benchmarks.agreement import TOLERANCE, differences
from benchmarks.measure import Measured, measure
from benchmarks.plain_ppo import Experience, advantages_of, logprobs_of, whiten
from benchmarks.ppo_iteration import Options, main
from benchmarks.timing import PHASES, Iteration
from benchmarks.workload import SHAPES, Workload, make_model, prepare, prompts, reward

TOY = {"shape": "toy", "prompt": 12, "response": 8, "rollouts": 8, "chunk": 4, "batch": 4, "epochs": 1}


@pytest.fixture(autouse=True)
def _settings_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's side tells accelerate its device and precision through these."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")


def toy(folder: Path, layers_unfrozen: int = 2, ragged: bool = False) -> Workload:
    prepare(folder, "toy", ragged, positions=20)
    return Workload(folder=str(folder), layers_unfrozen=layers_unfrozen, ragged=ragged, **TOY)  # type: ignore[arg-type]


@pytest.mark.parametrize(("layers_unfrozen", "ragged"), [(2, False), (-1, False), (2, True)])
def test_both_sides_compute_the_same(tmp_path: Path, layers_unfrozen: int, ragged: bool) -> None:
    found = differences(toy(tmp_path, layers_unfrozen, ragged))
    assert set(found) == {"logprobs", "ref_logprobs", "values", "advantages", "returns", "loss", "gradient_norm"}
    assert max(found.values()) < TOLERANCE, found


def test_a_different_baseline_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """λ of 1 − 1e-3: advantages, returns and the loss move by about 1e-3, the log-probabilities not at all."""
    monkeypatch.setattr(plain_ppo, "advantages_of", lambda r, v, gamma, lam: advantages_of(r, v, gamma, lam - 1e-3))
    found = differences(toy(tmp_path))
    assert found["returns"] > TOLERANCE
    assert found["gradient_norm"] > TOLERANCE
    assert found["logprobs"] < TOLERANCE


def test_a_baseline_that_trains_something_else_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_ppo, "freeze", lambda model, layers_unfrozen: None)
    found = differences(toy(tmp_path))
    assert found["loss"] < 1e-2  # the first step's is the same, the second's nearly
    assert found["gradient_norm"] > 1e-2


def test_advantages_by_hand() -> None:
    """γ = 1/2, λ = 1/2. δ1 = 4 − 2 = 2; δ0 = 0 + ½·2 − 1 = 0; A1 = 2; A0 = 0 + ¼·2 = ½."""
    found = advantages_of(torch.tensor([[0.0, 4.0]]), torch.tensor([[1.0, 2.0]]), 0.5, 0.5)
    assert found.tolist() == [[0.5, 2.0]]


def test_log_probabilities_by_hand() -> None:
    """Logits (0, ln 3) give probabilities 1/4 and 3/4; the last position predicts nothing that is there."""
    logits = torch.log(torch.tensor([[[1.0, 3.0], [3.0, 1.0], [1.0, 1.0]]]))
    found = logprobs_of(logits, torch.tensor([[0, 1, 1]]))
    assert torch.allclose(found.exp(), torch.tensor([[0.75, 0.25]]))


def test_whitening_leaves_pads_out() -> None:
    """Of the real 1 and 3 the mean is 2 and the deviation 1; the pad's 99 counts for nothing."""
    mask = torch.tensor([[True, True, False]])
    field = torch.zeros(1, 3)
    experience = Experience(field, field, mask, field, field, field, torch.tensor([[1.0, 3.0, 99.0]]), field)
    whiten(experience)
    assert torch.allclose(experience.advantages, torch.tensor([[-1.0, 1.0, 0.0]]))


def test_ends_are_as_likely_as_the_workload_says() -> None:
    """Never (ragged off) or every 32 tokens or so (on), whatever the seed."""
    ids = torch.randint(1, SHAPES["toy"].vocabulary, (64, 20), generator=torch.Generator().manual_seed(0))
    chances: list[float] = []
    for ragged in (False, True):
        model = make_model(SHAPES["toy"], ragged, positions=20, seed=3)
        with torch.no_grad():
            chances.append(float(model(ids).logits.softmax(-1)[..., 0].mean()))
    assert chances[0] < 1e-9
    assert 1 / 64 < chances[1] < 1 / 16


def test_prompts_have_the_lengths_asked_for(tmp_path: Path) -> None:
    even = {len(text.split()) for text in prompts(Workload(folder="", **TOY))}  # type: ignore[arg-type]
    ragged = {len(text.split()) for text in prompts(Workload(folder="", ragged=True, **TOY))}  # type: ignore[arg-type]
    assert even == {12}
    assert ragged == set(range(7, 13))


def test_reward_reads_words_and_not_the_end() -> None:
    """(7 + 2) / 2 digits, a tenth of it; nothing for nothing."""
    outputs = ["w17 w2<|endoftext|>", ""]
    assert reward(samples=outputs, prompts=outputs, outputs=outputs) == [0.45, 0.0]


def test_the_script_measures_writes_and_plots(tmp_path: Path) -> None:
    options = [f"--{name}={value}" for name, value in TOY.items()]
    main([*options, "--layers_unfrozen=[2]", "--repeats=1", "--isolated=false", f"--out={tmp_path}", "--name=toy"])
    content = json.loads((tmp_path / "toy.json").read_text())
    (result,) = content["results"]
    assert max(result["differences"].values()) < TOLERANCE
    for side in ("baseline", "engine"):
        (once,) = result["repeats"][side]
        assert once["tokens"] == 8 * 8  # no response ends before the limit
        assert set(once["seconds"]) == set(PHASES)
        assert sum(once["seconds"].values()) == pytest.approx(once["total"])
        assert min(once["seconds"].values()) >= 0.0
    assert result["repeats"]["engine"][0]["gaps"]["policy/log_ratio_gap"] < TOLERANCE
    assert str(tmp_path) not in json.dumps(content)
    assert (tmp_path / "toy.png").stat().st_size > 1000


def test_a_side_that_fails_in_its_process_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)a side of the benchmark failed.*tokenizer"):
        measure(Workload(folder=str(tmp_path / "nothing"), **TOY), 1, print)  # type: ignore[arg-type]


def test_speedup_is_a_ratio_of_medians() -> None:
    """Medians 6 and 2; at worst 5 / 4, at best 9 / 1."""
    seconds = dict.fromkeys(PHASES, 0.0)

    def runs(*totals: float) -> list[Iteration]:
        return [Iteration(seconds, total, total, 1, 0) for total in totals]

    measured = Measured(Workload(folder="/x"), {"loss": 0.0}, {"baseline": runs(5, 6, 9), "engine": runs(4, 2, 1)})
    result = report.as_dict(measured)
    assert (result["speedup"], result["speedup_range"]) == (3.0, [1.25, 9.0])
    assert "folder" not in result["workload"]


def test_ragged_adds_a_setting() -> None:
    assert Options(ragged=True).settings() == [(2, False), (-1, False), (2, True)]


@pytest.mark.parametrize("layers", ["[9]", "[0]", "[]", "[-2]"])
def test_impossible_settings_are_refused(layers: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([f"--layers_unfrozen={layers}"])
    assert "--layers_unfrozen must be" in capsys.readouterr().err


def test_two_precisions_in_one_process_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--dtype=bfloat16", "--isolated=false"])
    assert "--isolated" in capsys.readouterr().err
