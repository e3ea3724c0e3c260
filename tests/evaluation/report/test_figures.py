"""Figures hold what the files say: axes, lines, points and colours are read back from matplotlib's objects."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from evaluation.report.data import Sample
from evaluation.report.figures import curves
from evaluation.report.figures.__main__ import main
from evaluation.report.figures.curves import monitor_curve, training_curves
from evaluation.report.figures.distributions import changes, distributions
from evaluation.report.figures.frontier import frontier, kl_ticks
from evaluation.report.figures.gate import accuracy_by_length, calibration
from evaluation.report.figures.style import Plot, colours, in_words, to_png, to_svg
from evaluation.report.joining import join
from tasks.run_folder import RunFolder
from tests.evaluation.report import run_files
from tests.evaluation.sample_rows import row
from trlx.utils.errors import UserError


def panel(plot: Plot, title: str) -> Axes:
    [axes] = [axes for axes in plot.drawing.axes if axes.get_title(loc="left") == title]
    return axes


def titles(plot: Plot) -> list[str]:
    return [axes.get_title(loc="left") for axes in plot.drawing.axes]


def line(axes: Axes, name: str) -> tuple[list[float], list[float]]:
    """Points of the only curve of this name."""
    [found] = [one for one in axes.get_lines() if one.get_label() == name]
    return list(map(float, found.get_xdata())), list(map(float, found.get_ydata()))  # type: ignore[arg-type]


# Training curves


def ppo_lines() -> list[dict[str, Any]]:
    steps = [{"step": step, "losses/policy_loss": 0.1, "policy/clipfrac": step / 10} for step in (1, 2, 3)]
    return [{"step": 0, "reward/mean": -1.0, "policy/kl": 0.0}, *steps, {"step": 3, "reward/mean": 2.0}]


def test_a_panel_for_each_quantity_that_was_logged() -> None:
    plot = training_curves("ppo", ppo_lines())
    assert titles(plot) == ["Reward", "KL to the reference", "Policy loss", "clipfrac"]
    assert line(panel(plot, "Reward"), "evaluation") == ([0.0, 3.0], [-1.0, 2.0])
    assert line(panel(plot, "clipfrac"), "_only") == ([1.0, 2.0, 3.0], [0.1, 0.2, 0.3])
    assert [axes.get_xlabel() for axes in plot.drawing.axes] == ["step"] * 4
    assert panel(plot, "KL to the reference").get_ylabel() == "nats a response"


def test_axes_begin_at_the_first_step_and_end_at_the_last() -> None:
    left, right = panel(training_curves("ppo", ppo_lines()), "Reward").get_xlim()
    assert left <= 0 and 3 <= right < 3.2


def test_the_warning_stands_in_every_panel() -> None:
    plot = training_curves("ppo", ppo_lines(), flagged_at=2)
    assert all(line(axes, "_flagged")[0] == [2.0, 2.0] for axes in plot.drawing.axes)
    assert "warning at step 2" in plot.caption


def test_null_is_a_gap_and_a_quantity_of_nulls_is_none() -> None:
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}, {"step": 3, "loss": 1.0, "eval_loss": None}]
    axes = panel(training_curves("sft", lines), "Loss")
    steps, values = line(axes, "training")
    assert steps == [1.0, 2.0, 3.0]
    assert (values[0], values[2]) == (2.0, 1.0) and math.isnan(values[1])
    assert [one.get_label() for one in axes.get_lines()] == ["training"]


def test_long_curves_are_means_of_equal_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MOST_POINTS", 3)
    lines = [{"step": step, "loss": float(step)} for step in range(6)]
    plot = training_curves("reward_model", lines)
    assert line(panel(plot, "Loss"), "training") == ([0.5, 2.5, 4.5], [0.5, 2.5, 4.5])
    assert "means of 3 stretches" in plot.caption


def test_chance_is_drawn_for_the_reward_model() -> None:
    plot = training_curves("reward_model", [{"step": 1, "loss": 0.7, "eval_accuracy": 0.6}])
    assert line(panel(plot, "Accuracy, validation"), "chance")[1] == [0.5, 0.5]
    assert line(panel(plot, "Loss"), "ln 2")[1] == pytest.approx([0.6931, 0.6931], abs=1e-4)


def test_lines_without_a_known_quantity() -> None:
    with pytest.raises(ValueError, match="no known quantity among"):
        training_curves("sft", [{"step": 1, "losses/other": 1.0}])


def test_monitor() -> None:
    plot = monitor_curve(run_files.monitor())
    assert titles(plot) == ["Reward, trained on", "Not trained on: gold"]
    ours = panel(plot, "Not trained on: gold")
    assert list(ours.get_lines()[0].get_ydata()) == [0.5, 0.6, 0.7, 0.4]  # type: ignore[arg-type]
    assert line(ours, "best: step 20")[0] == [20.0, 20.0]
    assert line(ours, "warning: step 30")[0] == [30.0, 30.0]
    assert "They parted at step 30, and training went back" in plot.caption


def test_a_monitor_that_never_spoke() -> None:
    content = run_files.monitor() | {"flagged_at": None, "rolled_back": False}
    content["history"][0]["heldout"] = run_files.interval(0.5, None)  # one post: no interval
    plot = monitor_curve(content)
    assert plot.caption.endswith("They never parted.")
    assert not any(one.get_label().startswith("warning") for axes in plot.drawing.axes for one in axes.get_lines())  # type: ignore[attr-defined]


# The frontier


def test_frontier_has_a_panel_a_measure_on_the_same_axis() -> None:
    plot = frontier(run_files.frontier())
    assert titles(plot) == ["Reward, trained on", "Gold score", "ROUGE, average of three", "Response length, tokens"]
    assert [axes.get_xlim() for axes in plot.drawing.axes] == [(0.0, pytest.approx(4.6))] * 4
    assert {axes.get_xlabel() for axes in plot.drawing.axes} == {"KL to SFT, nats a response"}
    assert "sampled at temperature 1, no top-k or top-p" in plot.caption
    assert "log n − (n − 1)/n" in plot.caption


def test_the_kl_axis_goes_by_the_root() -> None:
    scale = panel(frontier(run_files.frontier()), "Gold score").transData
    zero, one, four = (float(scale.transform((kl, 0.1))[0]) for kl in (0.0, 1.0, 4.0))
    assert four - zero == pytest.approx(2 * (one - zero))


def test_joined_points_run_from_sft_in_their_order() -> None:
    axes = panel(frontier(run_files.frontier()), "Reward, trained on")
    assert line(axes, "PPO along training") == ([0.0, 0.25, 1.0], [1.0, 2.0, 3.0])
    assert line(axes, "best of n (KL: upper bound)") == ([0.0, 0.19, 0.43, 0.64], [1.0, 1.5, 1.7, 1.8])
    assert line(axes, "PPO, best by reward") == ([4.0], [4.0])
    assert {one.get_text() for one in axes.texts} == {"n = 2", "n = 4"}


def test_best_of_n_is_marked_at_powers_of_two_and_not_at_sft() -> None:
    axes = panel(frontier(run_files.frontier()), "Reward, trained on")
    [found] = [one for one in axes.get_lines() if one.get_label() == "best of n (KL: upper bound)"]
    assert found.get_markevery() == [1, 3]


def test_gaos_curve_by_hand() -> None:
    # alpha 2, beta .5 from SFT's 1.0: at d = 1 (KL 1) 1 + 2; at d = 2 (KL 4) 1 + 2 (2 − .5 log 2).
    kl, value = line(panel(frontier(run_files.frontier()), "Reward, trained on"), "Gao et al.'s curve")
    assert (kl[0], value[0], kl[-1]) == (0.0, 1.0, 4.0)
    assert np.interp(1.0, kl, value) == pytest.approx(3.0, abs=1e-3)
    assert value[-1] == pytest.approx(1 + 2 * (2 - 0.5 * math.log(2)))


def test_an_estimate_below_zero_lies_at_zero() -> None:
    content = run_files.frontier()
    content["points"][-1]["kl"] = {"mean": -0.2, "low": -0.5, "high": 0.1, "n": 8}
    assert line(panel(frontier(content), "Gold score"), "PPO, best by reward")[0] == [0.0]


def test_other_models_go_by_their_name() -> None:
    content = run_files.frontier()
    content["points"].append(run_files.point("mine", "model", 0.5, 1.2))
    axes = panel(frontier(content), "Gold score")
    assert line(axes, "mine") == ([0.5], [pytest.approx(0.12)])


def test_ticks_are_round_and_apart() -> None:
    assert kl_ticks(4.6) == [0, 0.1, 0.5, 1, 2, 3]
    for end in (0.3, 7.0, 90.0, 800.0):
        ticks = kl_ticks(end)
        assert 3 <= len(ticks) <= 9 and ticks[0] == 0 and ticks[-1] <= end
        assert all(math.sqrt(b / end) - math.sqrt(a / end) > 0.1 for a, b in pairwise(ticks))


def test_a_frontier_without_points_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="none of its points has a measure"):
        frontier(run_files.frontier() | {"points": []})


# The gate


@pytest.fixture
def gates(tmp_path: Path) -> dict[str, Any]:
    return {"reward_model": run_files.gate(tmp_path)}


def test_calibration(gates: dict[str, Any]) -> None:
    axes = panel(calibration(gates), "Reward model: ECE 0.200")
    assert line(axes, "accuracy") == ([0.6, 0.9], [0.5, pytest.approx(25 / 30)])
    assert line(axes, "as sure as right") == ([0.5, 1.0], [0.5, 1.0])
    assert [bar.get_height() for bar in axes.patches] == [0.25, 0.75]  # type: ignore[attr-defined]
    # Wilson's interval of 5 hits in 10, by hand: centre .5, half width 1.96 sqrt(.025 + 1.96²/400) / 1.384.
    [low, high] = axes.collections[0].get_segments()[0][:, 1]  # type: ignore[attr-defined]
    assert (low, high) == (pytest.approx(0.2366, abs=1e-3), pytest.approx(0.7634, abs=1e-3))


def test_two_reward_models_have_a_panel_each(gates: dict[str, Any]) -> None:
    plot = calibration(gates | {"second_reward_model": gates["reward_model"]})
    assert titles(plot) == ["Reward model: ECE 0.200", "Second reward model: ECE 0.200"]


def test_accuracy_by_length(gates: dict[str, Any]) -> None:
    axes = panel(accuracy_by_length(gates), "Reward model")
    assert line(axes, "the reward model") == ([0.0, 1.0], [0.6, 0.9])
    assert line(axes, '"longer wins" on all pairs')[1] == [0.55, 0.55]
    assert line(axes, "on all pairs")[1] == [0.75, 0.75]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["−9 to −1\n20", "0 to 12\n20"]


def test_a_gate_without_pairs_cannot_be_drawn(gates: dict[str, Any]) -> None:
    gates["reward_model"]["calibration"]["bins"] = []
    with pytest.raises(ValueError, match="no pairs"):
        calibration(gates)


# Distributions


def samples_of(**rewards: list[float]) -> tuple[list[str], list[Sample]]:
    return join(
        {name: [row(n, reward=value) for n, value in enumerate(values)] for name, values in rewards.items()}, print
    )


def test_histograms_count_every_post() -> None:
    names, samples = samples_of(sft=[0.0, 1.0, 2.0, 3.0], ppo=[1.0, 2.0, 3.0, 40.0])
    plot = distributions(names, samples)
    assert titles(plot) == ["Reward", "Length", "ROUGE-L"]  # neither gold nor a second reward was measured
    axes = panel(plot, "Reward")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("score", "posts")
    outlines = {one.get_label(): one for one in axes.patches if one.get_label()}
    assert list(outlines) == ["SFT", "PPO", "reference"]
    # Two corners a bin at its count: every post is in some bin, the outlier of 40 in the last.
    assert [one.get_xy()[:, 1].sum() / 2 for one in outlines.values()] == [4, 4, 4]  # type: ignore[attr-defined]
    assert {name: to_hex(one.get_edgecolor()).upper() for name, one in outlines.items()} == {
        "SFT": "#0072B2",
        "PPO": "#D55E00",
        "reference": "#595959",
    }
    means = [float(one.get_xdata()[0]) for one in axes.get_lines()]  # type: ignore[index]
    assert means == [1.5, 11.5, 0.5]


def test_changes_are_paired() -> None:
    names, samples = samples_of(sft=[0.0, 1.0, 2.0, 3.0], ppo=[1.0, 1.0, 4.0, 1.0])
    plot = changes(names, samples)
    axes = panel(plot, "Reward")
    assert [one.get_label() for one in axes.patches if one.get_label()] == ["PPO − SFT"]
    assert axes.get_xlabel() == "change: score"
    # +1, 0, +2, −2
    assert "Reward: up on 50%, down on 25% (PPO)" in plot.caption
    mean = axes.get_lines()[0].get_xdata()
    assert list(mean) == [0.25, 0.25]  # type: ignore[arg-type]


def test_one_value_alone_still_has_a_histogram() -> None:
    names, samples = samples_of(sft=[0.5], ppo=[0.5])
    assert panel(distributions(names, samples), "Reward").get_xlim()[0] < 0.5
    assert "up on 0%, down on 0%" in changes(names, samples).caption


# Style, files


def test_a_model_keeps_its_colour_beside_others() -> None:
    alone, together = colours(["ppo"]), colours(["mine", "ppo", "yours", "sft"])
    assert alone["ppo"] == together["ppo"]
    assert len(set(together.values())) == 4


def test_words() -> None:
    assert [in_words(["a"]), in_words(["a", "b"]), in_words(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_svg_is_the_same_every_time_and_runs_nothing() -> None:
    def svg() -> str:
        plot = monitor_curve(run_files.monitor())
        return to_svg(plot.drawing, plot.id)

    text = svg()
    assert text == svg()
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
    assert not tags & {"script", "a", "image", "foreignObject"}
    assert "Not trained on: gold" in text  # text stays text
    assert "date" not in text.lower()


def test_drawing_leaves_the_settings_of_others_alone() -> None:
    before = dict(matplotlib.rcParams)
    to_png(monitor_curve(run_files.monitor()).drawing, 40)
    assert dict(matplotlib.rcParams) == before


def test_pictures_for_the_docs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder.of(tmp_path / "run")
    run_files.write(run.frontier, run_files.frontier())
    run_files.write_curves(run)
    out = tmp_path / "images"
    main(["--root", str(run.root), "--out", str(out), "--only", "frontier,curves-sft", "--dots_per_inch", "40"])
    assert sorted(path.name for path in out.iterdir()) == ["curves-sft.png", "frontier.png"]
    assert (out / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.splitlines() == [str(out / "frontier.png"), str(out / "curves-sft.png")]
    with pytest.raises(UserError, match=r"--only: no figure 'frontir' .*did you mean 'frontier'"):
        main(["--root", str(run.root), "--out", str(out), "--only", "frontir"])
