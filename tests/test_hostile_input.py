"""The stages on data, models and settings that mean harm, with secrets in the environment: see SECURITY.md.

One run of SFT, reward model, PPO and evaluation, in this process; then every file that it wrote is looked through.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parent))
from tiny_stage import pairs, posts, tiny_base, write_rows

import trlx_gptneo_text_summarization as ppo
import trlx_inference_gptneo as evaluation
from reward_model import train_reward_model_gptneo as reward_model
from sft import train_gptneo_summarize as sft
from tasks import convert
from trlx.data.default_configs import TRLConfig
from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_config, load_model, load_tokenizer
from trlx.utils.spreadsheet import restore
from trlx.utils.yaml_file import read_yaml

SECRETS = {
    "HF_TOKEN": "hf_MARKERaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "WANDB_API_KEY": "MARKERbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "AWS_SECRET_ACCESS_KEY": "MARKERccccccccccccccccccccccc",
    "MY_PASSWORD": "MARKERddddddd",
}
IDS = ["../../escaped", "/tmp/escaped-absolute", "..\\escaped", "a/b/../../../escaped", "con\x1btrol", "-rf", ""]
TEXTS = [
    "=HYPERLINK(1)",
    "+1",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "<script>alert(1)</script>",
    "</script><img src=x onerror=a()>",
]


@dataclass(frozen=True)
class Run:
    """What the stages left: `outside` holds `run` and nothing else was to appear in it."""

    outside: Path
    root: Path
    printed: str


def harmful_posts(count: int, seed: int) -> list[dict[str, Any]]:
    """Posts whose ids look like paths and whose titles and summaries look like formulas and markup."""
    rows = posts(count, seed)
    for number, row in enumerate(rows):
        row["id"] = f"{IDS[number % len(IDS)]}{seed}{number}"
        harm = TEXTS[number % len(TEXTS)]
        row["prompt"] = f"SUBREDDIT: {harm}\nTITLE: {harm}\nPOST: {harm} {row['label']}\nTL;DR:"
        row["label"] = f"{harm} {row['label']}"
    return rows


def harmful_root(root: Path) -> Path:
    tiny_base(root / "base")
    for split, count, seed in (("train", 14, 1), ("valid", 7, 2), ("test", 7, 6)):
        write_rows(root / "data" / f"sft_{split}.jsonl", harmful_posts(count, seed))
    for split, count, seed in (("train", 14, 3), ("valid1", 7, 4), ("test", 7, 5)):
        rows = zip(pairs(count, seed), harmful_posts(count, seed), strict=True)
        changed = [{**pair, "id": row["id"], "prompt": row["prompt"], "chosen": row["label"]} for pair, row in rows]
        write_rows(root / "data" / f"comparisons_{split}.jsonl", changed)
    return root


def run_stages(root: Path) -> None:
    short = ["--max_length=160", "--max_steps=1", "--batch_size=4", "--precision=fp32", "--eval_steps=1"]
    data, judged = "--data={root}/data/sft", "--data={root}/data/comparisons"
    more = ["--rouge_samples=2", "--max_new_tokens=4"]
    sft.main([f"--root={root}", "--model={root}/base", data, *short, *more])
    stage = [f"--root={root}", "--model={root}/base", judged, "--references={root}/data/sft", *short]
    (root / "gate.yaml").write_text("thresholds: {min_pairs: 1, min_posts: 1, accuracy: 0.0}\n")
    reward_model.main([*stage, "--gate={root}/gate.yaml"])
    loop = ["--train.total_steps=1", "--train.batch_size=4", "--train.seq_length=160", "--train.eval_interval=1"]
    method = ["--method.num_rollouts=4", "--method.chunk_size=4", "--method.ppo_epochs=1"]
    generation = ["--method.gen_kwargs={max_new_tokens: 4, do_sample: true}", "--model.num_layers_unfrozen=1"]
    ppo.main([f"--root={root}", data, *loop, *method, *generation])
    small = ["--max_length=160", "--max_new_tokens=4", "--resamples=20", "--split=valid"]
    evaluation.main([f"--root={root}", data, *small])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    outside = tmp_path_factory.mktemp("outside")
    root = harmful_root(outside / "a" / "b" / "run")
    before = {name: os.environ.get(name) for name in SECRETS}
    os.environ.update(SECRETS)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            run_stages(root)
        yield Run(outside, root, printed.getvalue())
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def files(root: Path) -> list[Path]:
    found = [path for path in root.rglob("*") if path.is_file()]
    wanted = {"run.json", "results.json", "gate.json", "metrics.jsonl", "trainer_state.json", "report.html"}
    assert wanted <= {path.name for path in found}
    return found


def test_no_secret_is_written_or_printed(run: Run) -> None:
    told = [path for path in files(run.root) if b"MARKER" in path.read_bytes()]
    assert told == [] and "MARKER" not in run.printed


@pytest.mark.parametrize("stage", [sft, reward_model, ppo, evaluation])
def test_no_secret_is_in_help_or_an_error(stage: Any, run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["--no_such_option"]):
        with pytest.raises(SystemExit):
            stage.main(argv)
    shown = "".join(capfd.readouterr())
    assert "usage" in shown and "error: unknown option" in shown and "MARKER" not in shown


def test_ids_choose_no_file_names(run: Run) -> None:
    assert sorted(path.relative_to(run.outside).as_posix() for path in run.outside.glob("*/*/*")) == ["a/b/run"]
    assert [path for path in run.outside.rglob("*") if "escaped" in path.name or "trol" in path.name] == []
    assert not Path("/tmp/escaped-absolute").exists()


def test_no_cell_of_a_table_is_a_formula(run: Run) -> None:
    tables = [path for path in files(run.root) if path.suffix == ".csv"]
    assert len(tables) >= 5  # samples of models and baselines, those of PPO's evaluations, the reward model's pairs
    restored = set()
    for path in tables:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines(keepends=True)))
        cells = [cell for row in rows for cell in row if not is_number(cell)]
        assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@"))], path
        restored |= {restore(cell)[:8] for cell in cells}
    assert "=HYPERLI" in restored  # or there was nothing to make harmless


def is_number(cell: str) -> bool:
    with contextlib.suppress(ValueError):
        float(cell)
        return True
    return False


class Scripts(HTMLParser):
    """The tags that run or load something, with what is in scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag == "script":
            self.scripts.append(named)
        if any(name.startswith("on") for name in named) or (tag in ("img", "link", "iframe") and not is_inline(named)):
            self.loaded.append((tag, named))


def is_inline(attributes: dict[str, str | None]) -> bool:
    return str(attributes.get("src") or attributes.get("href") or "data:").startswith("data:")


def test_the_page_runs_and_loads_nothing_of_the_data(run: Run) -> None:
    text = (run.root / "report.html").read_text(encoding="utf-8")
    parsed = Scripts()
    parsed.feed(text)
    assert parsed.loaded == [] and len(parsed.scripts) == 2  # the samples as JSON, and the page's own
    assert "alert(1)" in text and "<script>alert(1)" not in text


# ---------------------------------------------------------------- other ways in


def test_names_of_splits_choose_no_files_elsewhere(tmp_path: Path) -> None:
    write_rows(tmp_path / "in" / "train.jsonl", harmful_posts(7, 1))
    convert.main(["--data", str(tmp_path / "in"), "--to", "trl-completions", "--out", str(tmp_path / "out")])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    named = ["--data", str(tmp_path / "in"), "--to", "trl-completions", "--split", "../escaped"]
    with pytest.raises(UserError):
        convert.main([*named, "--out", str(tmp_path / "out2")])
    assert not list(tmp_path.rglob("escaped*"))


@dataclass
class Payload:
    """Makes a file when it is unpickled."""

    path: str

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self.path, "w")


def test_weights_that_are_a_pickle_run_nothing(tmp_path: Path) -> None:
    folder, made = tiny_base(tmp_path / "model"), tmp_path / "made"
    (folder / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Payload(str(made))}, folder / "pytorch_model.bin")
    with pytest.raises(UserError):
        load_model(AutoModelForCausalLM, folder)
    assert not made.exists()


CODE = "open({path!r}, 'w').close()\nclass Config: pass\nclass Tokenizer: pass\nclass Model: pass\n"


def test_code_that_comes_with_a_model_is_not_run_and_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, made = tiny_base(tmp_path / "model"), tmp_path / "made"
    (folder / "own.py").write_text(CODE.format(path=str(made)))
    own = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model", "AutoTokenizer": ["own.Tokenizer", None]}
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": own, "model_type": "of_its_own"}))
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # what somebody at a terminal might answer
    for load in (load_config, load_tokenizer, lambda path: load_model(AutoModelForCausalLM, path)):
        with contextlib.suppress(UserError):  # a tokenizer may load without its code
            load(folder)
        assert not made.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [{path}]", "!!python/name:os.system", "!env HOME"])
def test_yaml_is_not_evaluated(tmp_path: Path, tag: str) -> None:
    path, made = tmp_path / "settings.yaml", tmp_path / "made"
    path.write_text(f"seed: {tag.format(path=made)}\n")
    for read in (read_yaml, TRLConfig.load_yaml, lambda file: sft.main(["--config", str(file)])):
        with pytest.raises((UserError, SystemExit)):
            read(str(path))
        assert not made.exists()


def test_a_variable_in_yaml_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("data: ${HOME}/$HOME/{PATH}\n")
    assert read_yaml(str(path)).values == {"data": "${HOME}/$HOME/{PATH}"}
