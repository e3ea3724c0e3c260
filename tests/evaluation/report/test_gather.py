"""What is below a root becomes a report; what is missing or unusable is said with its remedy, the rest is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.report.data import ReportData
from evaluation.report.figures import style
from evaluation.report.gather import gather
from evaluation.report.sources import find
from evaluation.samples import SampleRow
from tasks.run_folder import RunFolder
from tests.evaluation.report.run_files import frontier, gate, point, results, whole_run, write, write_curves
from tests.evaluation.sample_rows import row, write_models
from trlx.utils.digest import model_digest
from trlx.utils.errors import UserError

SECTIONS = ["results", "reward-model", "frontier", "training", "distributions"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return gather(whole_run(tmp_path_factory.mktemp("runs") / "demo").root, made=0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn, but not laid out and written as SVG, which takes seconds."""
    monkeypatch.setattr(style, "to_svg", lambda drawing, salt: "<svg />")


def edit(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    write(path, value)


def missing(run: RunFolder) -> list[str]:
    return find(run.root).missing


def test_a_whole_run_lacks_nothing(whole: ReportData) -> None:
    assert whole.missing == []
    assert [section.id for section in whole.sections] == SECTIONS
    assert (whole.title, whole.made) == ("Summarizers judged: demo, task miniature", "1970-01-01 00:00 UTC")
    assert whole.models == ["sft", "ppo"]  # the baseline "title" is in the tables, not among the samples
    assert [sample.id for sample in whole.samples] == ["p0", "p1", "p2"]


def test_tables_are_those_of_the_files(whole: ReportData) -> None:
    tables = {table.title: table for table in whole.tables}
    assert tables["ROUGE scores"].rows == [["SFT", "0.320 [0.311, 0.329]"]]
    checks = tables["Reward model: FAIL"]
    assert checks.rows[1] == ["ece", "about ece", "0.200 [0.100, 0.300]", "<= 0.1", "40", "fail"]
    assert tables["Reward model: accuracy by group"].rows == [["batch", "b7", "0.750 [0.600, 0.860]", "40"]]
    assert len(tables["KL against reward"].rows) == 6  # best of 3 is no power of two
    assert [line[:2] for line in tables["Curves of over-optimisation"].rows] == [
        ["RL", "reward"],
        ["best of n", "reward"],
    ]


def test_figures_of_every_subject(whole: ReportData) -> None:
    ids = [figure.id for figure in whole.figures]
    assert sorted(ids) == sorted(
        [
            "calibration",
            "accuracy-by-length",
            "frontier",
            "curves-sft",
            "curves-reward-model",
            "curves-ppo",
            "curves-monitor",
            "distributions",
            "changes",
        ]
    )
    assert all(figure.svg.startswith("<svg ") and figure.alt for figure in whole.figures)


def test_facts(whole: ReportData) -> None:
    facts = dict(whole.facts)
    assert facts["Data"] == "data, split 'test'"
    assert facts["Decoding"] == "greedy, at most 48 new tokens"
    assert facts["Models"] == "SFT (ckpts/sft), PPO (ckpts/ppo)"
    assert facts["Its accuracy on test pairs"] == "0.875"
    assert facts["Seed of the evaluation"] == "42"


@pytest.mark.usefixtures("quick")
def test_training_seeds_come_from_the_stages(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    write(run.sft / "run.json", {"options": {"seed": 7}})
    assert dict(gather(run.root).facts)["Seeds of training"] == "SFT 7"


@pytest.mark.parametrize(
    ("name", "part", "remedy"),
    [
        ("results.json", "results", "trlx_inference_gptneo.py"),
        ("frontier.json", "frontier", "python -m evaluation frontier"),
        ("ckpts/reward_model/gate.json", "reward-model", "python -m reward_model.gate"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_a_missing_file_costs_its_section_only(tmp_path: Path, name: str, part: str, remedy: str) -> None:
    run = whole_run(tmp_path)
    (run.root / name).unlink()
    report = gather(run.root)
    [said] = report.missing
    assert said.startswith(f"{name} is missing: ") and remedy in said
    assert [section.id for section in report.sections] == [one for one in SECTIONS if one != part]
    assert len(report.samples) == 3


@pytest.mark.parametrize("stage", ["sft", "reward_model", "ppo_logs"])
def test_a_stage_without_curves(tmp_path: Path, stage: str) -> None:
    run = whole_run(tmp_path)
    path = getattr(run, stage) / "metrics.jsonl"
    path.unlink()
    [said] = missing(run)
    assert said.startswith("Training curves of ")
    assert f"{path.relative_to(run.root)} is missing or empty: `" in said


def test_a_line_of_curves_that_is_no_json(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    path = run.sft / "metrics.jsonl"
    path.write_text("{broken\n" + path.read_text())
    [said] = missing(run)
    assert "ckpts/sft/metrics.jsonl has a line that is not JSON" in said


@pytest.mark.usefixtures("quick")
def test_results_of_an_older_version(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    edit(run.results, lambda value: value.pop("format"))
    report = gather(run.root)
    [said] = report.missing
    assert said.startswith("results.json is of format without a number") and "reads 2" in said
    assert report.models == ["sft", "ppo"]  # from the CSVs, without the trivial baseline
    assert [section.id for section in report.sections] == SECTIONS[1:]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("results.json", '{"format": 3}', "is of format 3, and this version reads 2"),
        ("results.json", "{", "is not JSON"),
        ("results.json", "[]", "holds no JSON object"),
        ("results.json", '{"format": 2, "models": {"sft": {}}}', "left out (KeyError: 'kind')"),
        ("results.json", '{"format": 2}', "The models of results.json left out (KeyError: 'models')"),
        ("frontier.json", '{"format": 9}', "is of format 9, and this version reads 1"),
        ("ckpts/reward_model/gate.json", '{"format": 2}', "is of format 2 where 1 is read"),
        ("ckpts/reward_model/gate.json", '{"format": 1}', "has no verdict"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_files_with_other_content(tmp_path: Path, name: str, content: str, words: str) -> None:
    run = whole_run(tmp_path)
    write(run.root / name, content)
    found = find(run.root)
    assert any(words in sentence for sentence in found.missing), found.missing
    assert len(found.samples) == 3
    assert str(tmp_path) not in " ".join(found.missing)


@pytest.mark.usefixtures("quick")
def test_files_of_the_right_format_with_other_content(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    write(run.frontier, {"format": 1, "points": [{}]})
    write(run.monitor, {"format": 1, "metric": "gold", "history": []})
    report = gather(run.root)
    whys = [sentence.split(")")[0] for sentence in report.missing]
    assert whys == [
        "The frontier left out (KeyError: 'kind'",
        "The monitor left out (ValueError: its history is empty",
        "The frontier's tables left out (KeyError: 'posts'",
    ]
    assert [section.id for section in report.sections] == [one for one in SECTIONS if one != "frontier"]


@pytest.mark.usefixtures("quick")
def test_a_gate_of_another_model(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    write(run.reward_model / "config.json", {"hidden_size": 2})
    report = gather(run.root)
    [said] = report.missing
    assert said.startswith("ckpts/reward_model/gate.json judges another model than the one now in its folder: `python")
    assert "calibration" in [figure.id for figure in report.figures]


def test_a_second_reward_model_is_asked_for_its_gate_and_curves(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    write(run.second_reward_model / "config.json", {})
    assert [sentence.split(" ")[0] for sentence in missing(run)] == [
        "ckpts/second_reward_model/gate.json",
        "Training",
    ]
    write(run.second_reward_model / "gate.json", gate(run.second_reward_model))
    assert model_digest(run.second_reward_model) == gate(run.second_reward_model)["model_digest"]
    assert list(find(run.root).gates) == ["reward_model", "second_reward_model"]


def test_curves_of_rft_where_there_was_one(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    run.rft_logs.mkdir(parents=True)
    [said] = missing(run)
    assert said.startswith("Training curves of RFT: ckpts/rft/logs/metrics.jsonl is missing or empty: `accelerate")
    write(run.rft_logs / "metrics.jsonl", '{"step": 1, "loss": 0.5}\n')
    assert find(run.root).metrics["rft"] == [{"step": 1, "loss": 0.5}]


@pytest.mark.usefixtures("quick")
def test_a_csv_of_another_version(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    lines = run.samples("ppo").read_text(encoding="utf-8").replace('"faults"', '"flaws"')
    run.samples("ppo").write_text(lines, encoding="utf-8")
    report = gather(run.root)
    [said] = report.missing
    assert said.startswith("Samples of ppo left out: metadata/ppo_with_reward_scores_sample.csv: column faults missing")
    assert report.models == ["sft"]
    assert "changes" not in [figure.id for figure in report.figures]  # there is nothing to compare with


@pytest.mark.parametrize("cell", ["nan", "inf", "many"])
def test_a_csv_whose_tokens_are_no_number(tmp_path: Path, cell: str) -> None:
    run = whole_run(tmp_path)
    write(run.samples("ppo"), run.samples("ppo").read_text(encoding="utf-8").replace(',"true",5,', f',"true",{cell},'))
    [said] = missing(run)
    assert said.startswith("Samples of ppo left out")


@pytest.mark.usefixtures("quick")
def test_a_csv_that_is_missing_or_empty(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    run.samples("sft").unlink()
    write_models(run.root, ppo=[])
    report = gather(run.root)
    assert report.missing[0].startswith("Samples of sft left out: metadata/sft_with_reward_scores_sample.csv: no such")
    assert report.missing[1].startswith("metadata/ppo_with_reward_scores_sample.csv holds no sample")
    assert (report.models, report.samples) == ([], [])


def test_samples_that_the_results_do_not_know(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    write_models(run.root, older=[row(1)])
    [said] = missing(run)
    assert said == "Samples of older left out: results.json does not know them; evaluate all models in one call."


def test_the_baseline_of_the_comparisons_comes_first(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    write(run.results, results(ppo="model", sft="model", title="baseline"))
    assert find(run.root).models == ["sft", "ppo"]


@pytest.mark.usefixtures("quick")
def test_scores_that_are_no_numbers_are_said_and_drawn_around(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    rows: list[SampleRow] = [row(place, reward=value) for place, value in enumerate((float("nan"), 1.0, 2.0))]
    write_models(run.root, sft=rows)
    report = gather(run.root)
    assert "sft: 1 of 3 values of score_pred are not finite numbers (id 'p0')" in report.missing[0]
    assert [sample.outputs["sft"].scores["reward"] for sample in report.samples] == [None, 1.0, 2.0]
    assert {"distributions", "changes"} <= {figure.id for figure in report.figures}


@pytest.mark.usefixtures("quick")
def test_curves_alone_make_a_report(tmp_path: Path) -> None:
    write_curves(RunFolder.of(tmp_path))
    report = gather(tmp_path)
    assert [section.id for section in report.sections] == ["training"]
    assert [sentence.split(" ")[0] for sentence in report.missing] == [
        "results.json",
        "ckpts/reward_model/gate.json",
        "frontier.json",
        "ckpts/ppo/monitor.json",
    ]


@pytest.mark.usefixtures("quick")
def test_an_empty_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to report"):
        gather(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        gather(tmp_path / "nowhere")


@pytest.mark.usefixtures("quick")
def test_a_frontier_without_fits_has_one_table(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    write(run.frontier, frontier() | {"fits": [], "fits_refused": []})
    [section] = [one for one in gather(run.root).sections if one.id == "frontier"]
    assert [table.title for table in section.tables] == ["KL against reward"]


@pytest.mark.parametrize("run_of", [None, [], "x", 3])
@pytest.mark.usefixtures("quick")
def test_results_whose_run_is_no_object_cost_their_facts_only(tmp_path: Path, run_of: object) -> None:
    run = whole_run(tmp_path / "demo")
    edit(run.results, lambda value: value.update(run=run_of))
    report = gather(run.root)
    [said] = report.missing
    assert said.startswith("The run's facts left out (TypeError: ") and "trlx_inference_gptneo.py" in said
    assert report.title == "Summarizers judged: demo"
    assert [section.id for section in report.sections] == SECTIONS


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_figure_that_cannot_be_laid_out_costs_itself_only(tmp_path: Path) -> None:
    run = RunFolder.of(tmp_path)
    lines = [{"step": step, "loss": value} for step, value in enumerate((1e308, -1e308))]
    write(run.sft / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write(run.reward_model / "metrics.jsonl", json.dumps({"step": 1, "loss": 0.5}) + "\n")
    report = gather(run.root)
    [said] = [one for one in report.missing if one.startswith("The figure")]
    assert said.startswith("The figure 'SFT: 1 optimizer steps' left out (") and "training of that stage" in said
    assert [figure.id for figure in report.figures] == ["curves-reward-model"]


def test_names_with_dollars_are_no_formulas(tmp_path: Path) -> None:
    run = RunFolder.of(tmp_path)
    write(run.frontier, frontier() | {"points": [point("sft", "sft", 0.0, 1.0), point("$x^{$", "new", 1.0, 2.0)]})
    report = gather(run.root)
    [figure] = report.figures
    assert "$x^{$" in figure.svg


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"rewards": [1.0, 1.1, 1.2003]}, None),
        ({"rewards": [1.0, 1.1, 1.3]}, "(a mean reward of 1.1333, not 1.1000)"),
        ({"rewards": [1.1, 1.1]}, "(2 posts, not 3)"),
        ({"rewards": [5.0]}, "(1 posts, not 3, a mean reward of 5.0000, not 1.1000)"),
    ],
)
def test_a_csv_of_another_evaluation_than_the_results(
    tmp_path: Path, change: dict[str, Any], words: str | None
) -> None:
    run = whole_run(tmp_path)
    edit(run.results, lambda value: value["models"]["ppo"].update(reward={"mean": 1.1}))
    write_models(run.root, ppo=[row(n, reward=value) for n, value in enumerate(change.get("rewards", [1.0, 1.1, 1.2]))])
    said = [one for one in missing(run) if "another evaluation" in one]
    if words is None:
        assert said == []
    else:
        [sentence] = said
        assert sentence.startswith("metadata/ppo_with_reward_scores_sample.csv is of another evaluation than results")
        assert words in sentence and sentence.endswith("writes it anew.")


def test_the_second_reward_models_gate_has_its_own_command(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    folder = run.second_reward_model
    write(folder / "config.json", {})
    command = "`python -m reward_model.gate --reward_model {root}/ckpts/second_reward_model` with the same --root"
    name = "ckpts/second_reward_model/gate.json"
    assert missing(run)[0] == f"{name} is missing: {command} writes it."
    write(folder / "run.json", {"options": {"gate": "configs/reward_gate.yaml"}})
    assert missing(run)[0] == f"{name} is missing: {command} writes it."
    write(folder / "gate.json", gate(folder) | {"model_digest": "other"})
    assert missing(run)[0].endswith(f"now in its folder: {command} writes it anew.")
    (folder / "gate.json").unlink()
    write(folder / "run.json", {"options": {"gate": None}})
    assert not any(name in one for one in missing(run))  # it only judges; nobody misses what was asked not to be


def test_a_reward_model_that_was_asked_for_no_gate(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    (run.reward_model / "gate.json").unlink()
    write(run.reward_model / "run.json", {"options": {"gate": None}})
    assert "is not there, as that training was asked for none (gate: null); if wanted, " in missing(run)[0]


@pytest.mark.usefixtures("quick")
def test_captions_of_samples_say_their_decoding(tmp_path: Path) -> None:
    run = whole_run(tmp_path)
    captions = {figure.id: figure.caption for figure in gather(run.root).figures}
    for name in ("distributions", "changes"):
        assert "Summaries: greedy, at most 48 new tokens. " in captions[name]
    run.results.unlink()
    captions = {figure.id: figure.caption for figure in gather(run.root).figures}
    assert "Summaries: decoding not known" in captions["changes"]
    assert "method.gen_kwargs" in captions["curves-monitor"] and "sampled" not in captions["curves-monitor"]
