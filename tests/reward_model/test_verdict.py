"""The verdict beside a reward model: what is said, when it is stale, what a broken file says."""

import dataclasses
import json
from pathlib import Path

import pytest

from reward_model.verdict import Check, decide, gate_content, read_gate, read_verdict
from trlx.utils.digest import model_digest
from trlx.utils.errors import UserError
from trlx.utils.files import write_json

GOOD = Check("accuracy", "pairs ranked right", 0.89, 0.862, 0.913, 600, 0.6, ">=", "pass")
BAD = Check("beats_longer_wins", "over 'longer wins'", 0.01, -0.02, 0.04, 600, 0.0, ">", "fail")
UNKNOWN = Check("ece", "calibration error", None, None, None, 3, 0.1, "<=", "not judged", "3 pairs, 100 are needed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_nothing_is_known_before_the_gate(folder: Path) -> None:
    assert read_verdict(folder) is None and read_gate(folder) is None


def test_pass_is_one_line(folder: Path) -> None:
    write_json(folder / "gate.json", gate_content(folder, [GOOD, UNKNOWN], accuracy={"accuracy": 0.89}))
    verdict = read_verdict(folder)
    assert verdict is not None and verdict.passed and not verdict.stale
    assert verdict.lines == ["reward model gate: PASS (2 checks, 1 not judged)"]
    content = read_gate(folder)
    assert content is not None and content["checks"] == [GOOD, UNKNOWN] and content["accuracy"] == {"accuracy": 0.89}


def test_fail_names_every_failing_check(folder: Path) -> None:
    write_json(folder / "gate.json", gate_content(folder, [GOOD, BAD]))
    verdict = read_verdict(folder)
    assert verdict is not None and not verdict.passed
    assert verdict.lines == [
        "reward model gate: FAIL (2 checks)",
        "  fails: beats_longer_wins 0.010 [-0.020, 0.040] on 600, must be low end > 0 (over 'longer wins')",
    ]


def test_what_was_not_judged_never_passes_for_judged() -> None:
    assert decide([GOOD, UNKNOWN]) and not decide([GOOD, BAD])
    assert not decide([UNKNOWN]) and not decide([])
    assert not decide([dataclasses.replace(GOOD, status="not judged")])


def test_stale_once_the_model_is_another(folder: Path) -> None:
    write_json(folder / "gate.json", gate_content(folder, [GOOD]))
    (folder / "model.safetensors").write_bytes(b"other weights")
    verdict = read_verdict(folder)
    assert verdict is not None and verdict.stale
    assert "of another model" in verdict.lines[-1] and "python -m reward_model.gate" in verdict.lines[-1]


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"])
def test_stale_once_the_tokenizer_is_another(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    write_json(folder / "gate.json", gate_content(folder, [GOOD]))
    (folder / name).write_text('{"other": 1}')
    verdict = read_verdict(folder)
    assert verdict is not None and verdict.stale


@pytest.mark.parametrize(
    ("checks", "verdict"), [([], "PASS"), ([GOOD, BAD], "PASS"), ([UNKNOWN], "PASS"), ([GOOD], "FAIL")]
)
def test_a_verdict_that_its_checks_do_not_bear_out_is_refused(folder: Path, checks: list[Check], verdict: str) -> None:
    write_json(folder / "gate.json", gate_content(folder, checks) | {"verdict": verdict})
    with pytest.raises(UserError, match=rf"gate\.json: says {verdict}, which its checks do not bear out: run `python"):
        read_verdict(folder)


def test_the_digest_is_of_config_weights_and_tokenizer_alone(folder: Path) -> None:
    first = model_digest(folder)
    (folder / "results.json").write_text("{}")
    assert model_digest(folder) == first
    (folder / "config.json").write_text('{"reward_offset": 1}')
    assert model_digest(folder) != first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format 2 where 1 is read"),
        ({"format": True}, "format True where 1 is read"),
        ({"verdict": "MAYBE"}, "no verdict"),
        ({"checks": [{"name": "accuracy"}]}, "missing key 'checks.0.about'"),
        ({"checks": [dataclasses.asdict(GOOD) | {"status": "fine"}]}, "checks.0.status"),
    ],
)
def test_another_version_is_a_line_with_file_and_remedy(folder: Path, change: dict[str, object], said: str) -> None:
    write_json(folder / "gate.json", gate_content(folder, [GOOD]) | change)
    with pytest.raises(UserError, match=r"gate\.json.*python -m reward_model\.gate") as error:
        read_verdict(folder)
    assert said in str(error.value)


@pytest.mark.parametrize("content", [b'{"format": 1', b"\xff\xfe", b"[]"])
def test_a_broken_file_is_a_line_with_file_and_remedy(folder: Path, content: bytes) -> None:
    (folder / "gate.json").write_bytes(content)
    with pytest.raises(UserError, match=r"gate\.json.*python -m reward_model\.gate"):
        read_verdict(folder)


def test_values_of_a_file_are_plain_json(folder: Path) -> None:
    text = json.dumps(gate_content(folder, [UNKNOWN]), allow_nan=False)
    assert json.loads(text)["checks"][0]["value"] is None
