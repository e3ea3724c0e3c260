"""Every mistake of the table in docs/bad-input.md, through the real scripts: a line, exit code 2, nothing left behind.

A row of the docs has a test of its id here, and quotes what the script says, with the run's folder as `runs/mine` and
other folders left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import cases_of_data
import cases_of_machines
import cases_of_models
import cases_of_options
import pytest
from case import Case, options_of
from harness import JUDGE, REPO, SFT, Scripts, refused, run_plainly

CASES = [
    case for module in (cases_of_data, cases_of_models, cases_of_options, cases_of_machines) for case in module.CASES
]
PAGE = REPO / "docs" / "bad-input.md"
# | what is wrong | ``error: ...`` | what to do | `id` |
ROW = re.compile(r"^\| .+? \| ``(error: .+?)`` \| .+? \| `([\w-]+)` \|$", re.MULTILINE)


def documented() -> dict[str, str]:
    """The id of each row of the docs → the line it quotes."""
    return {name: line.replace("\\|", "|") for line, name in ROW.findall(PAGE.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_mistake(case: Case, scripts: Scripts, root: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    spoilt = case.spoil(root, work)
    command = [*case.script.split(), *options_of(case.script, root), *spoilt]
    try:
        line = refused(scripts.run(root, *command, setup=case.setup, env=dict(case.env)), *case.words)
    finally:
        root.chmod(0o755)
    shown = line.replace(str(root), "runs/mine").replace(f"{work}/", "")
    assert str(tmp_path) not in shown
    assert documented().get(case.id, shown) == shown


def test_the_docs_quote_tests_and_the_tests_are_distinct() -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))
    rows = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "error:" in line
    ]
    assert len(rows) == len(documented()) and set(documented()) <= set(ids)


ISSUE = [
    *("missing-column", "empty-split", "malformed-line", "pretty-printed-json", "byte-order-mark", "wrong-encoding"),
    *("empty-post", "empty-summary", "nul-bytes", "line-of-100-megabytes", "post-longer-than-the-context"),
    *("tokenizer-without-eos", "pad-is-eos", "vocabularies-differ", "several-labels", "missing-checkpoint"),
    *("label-that-is-not-binary", "empty-review", "review-too-short", "unknown-label", "instruction-and-prompt"),
    *("unknown-config-key", "wrong-type", "no-hub", "fewer-devices", "too-little-disk", "read-only-output"),
]


def test_the_docs_have_the_mistakes_people_make_most() -> None:
    assert set(ISSUE) <= set(documented())


def test_a_plain_process_says_the_same(root: Path, scripts: Scripts, tmp_path: Path) -> None:
    """The forks are no other world: `python SCRIPT` answers the same line."""
    (tmp_path / "work").mkdir()
    case = next(case for case in CASES if case.id == "malformed-line")
    command = [SFT, *options_of(SFT, root), *case.spoil(root, tmp_path / "work")]
    assert refused(run_plainly(root, *command)) == refused(scripts.run(root, *command))


def test_a_plain_process_without_a_hub(root: Path) -> None:
    """Nobody forbade the hub; nothing answers there."""
    command = [JUDGE, *options_of(JUDGE, root), "--reward_model", "nobody/nothing"]
    online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    refused(run_plainly(root, *command, env=online), "nobody/nothing", "hub cannot be reached", "--reward_model FOLDER")
