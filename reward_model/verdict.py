"""The verdict of the release gate on a reward model, as it lies beside the model in `gate.json`.

The gate (`reward_model.gate`) writes it; PPO and the report read it. A verdict is of one model: the file holds a digest
of config, weights and tokenizer, and is stale beside another model. A verdict that its own checks do not bear out is
refused. Left out: what is checked, and how.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trlx.utils.digest import model_digest
from trlx.utils.errors import UserError
from trlx.utils.strict import build

FORMAT = 1
GATE_FILE = "gate.json"
REMEDY = "run `python -m reward_model.gate` on this model again, or remove the file"

Status = Literal["pass", "fail", "not judged"]
Rule = Literal[">=", "<=", ">"]


@dataclass(frozen=True)
class Check:
    """One check of the gate.

    Args:
        name: its key among the thresholds.
        about: what the value is, in a few words.
        value, low, high: measured, with its 95% interval; None where not measured or without one.
        n: pairs, posts or texts that it was measured on.
        threshold: what the value is held against; None where none is set.
        rule: how; `>` holds the low end of the interval against the threshold, the others the value.
        why: in words, where it was not judged.
    """

    name: str
    about: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    threshold: float | None
    rule: Rule
    status: Status
    why: str = ""

    @property
    def measured(self) -> str:
        """`0.890 [0.862, 0.913]`."""
        if self.value is None:
            return "–"
        interval = "" if self.low is None or self.high is None else f" [{_number(self.low)}, {_number(self.high)}]"
        return _number(self.value) + interval

    @property
    def wanted(self) -> str:
        """`>= 0.6`; `low end > 0`."""
        if self.threshold is None:
            return "–"
        end = "low end " if self.rule == ">" else ""
        return f"{end}{self.rule} {self.threshold:g}"

    @property
    def line(self) -> str:
        """One line for the terminal."""
        return f"{self.name} {self.measured} on {self.n}, must be {self.wanted} ({self.why or self.about})"


def _number(value: float) -> str:
    """Three decimals, or one digit where that would be 0."""
    return f"{value:.3f}" if abs(value) >= 0.0005 or value == 0 else f"{value:.0e}"


@dataclass(frozen=True)
class Verdict:
    """What is known of a reward model.

    Args:
        passed: what the gate said.
        lines: to be said aloud.
        stale: the verdict is of another model than the one that lies there now, and says nothing of it.
    """

    passed: bool
    lines: list[str]
    stale: bool


def decide(checks: Sequence[Check]) -> bool:
    """PASS: no check fails, and the accuracy was judged; a gate that could not judge it has let nothing through."""
    return all(c.status != "fail" for c in checks) and any(c.name == "accuracy" and c.status == "pass" for c in checks)


def verdict_lines(passed: bool, checks: Sequence[Check], stale: bool = False) -> list[str]:
    """`reward model gate: PASS (12 checks, 2 not judged)`; under a FAIL, a line for each check that fails."""
    skipped = [check for check in checks if check.status == "not judged"]
    judged = f", {len(skipped)} not judged" if skipped else ""
    lines = [f"reward model gate: {'PASS' if passed else 'FAIL'} ({len(checks)} checks{judged})"]
    if not passed:
        lines += [f"  fails: {check.line}" for check in checks if check.status == "fail"]
        lines += [f"  not judged: {check.line}" for check in skipped if check.name == "accuracy"]
    if stale:
        lines.append(f"  {GATE_FILE} is of another model than the one beside it and says nothing of this one: {REMEDY}")
    return lines


def read_verdict(folder: str | os.PathLike[str]) -> Verdict | None:
    """The verdict beside a reward model; None where no gate was run on it.

    Raises: UserError naming the file when it is broken or of another version.
    """
    content = read_gate(folder)
    if content is None:
        return None
    passed, stale = content["verdict"] == "PASS", content["model_digest"] != model_digest(folder)
    return Verdict(passed, verdict_lines(passed, content["checks"], stale), stale)


def read_gate(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """All of a model's `gate.json`, its `checks` as `Check`s; None where there is none.

    Raises: UserError naming the file when it is broken, of another version, or its verdict does not follow from its
        checks.
    """
    path = Path(folder) / GATE_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): mend that, or remove the file") from error
    except ValueError as error:  # no JSON, or no UTF-8
        raise UserError(f"{path}: not the JSON that the gate writes ({error}): {REMEDY}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT or isinstance(found, bool):  # True == 1
        raise UserError(f"{path}: is of format {found!r} where {FORMAT} is read: {REMEDY}")
    checks = _checks(path, content)
    if (content["verdict"] == "PASS") != decide(checks):
        raise UserError(f"{path}: says {content['verdict']}, which its checks do not bear out: {REMEDY}")
    return {**content, "checks": checks}


def _checks(path: Path, content: Mapping[str, Any]) -> list[Check]:
    known = content.get("verdict") in ("PASS", "FAIL") and isinstance(content.get("model_digest"), str)
    if not known or not isinstance(content.get("checks"), list):
        raise UserError(f"{path}: has no verdict, model_digest or checks: {REMEDY}")
    try:
        return [build(Check, check, f"checks.{number}") for number, check in enumerate(content["checks"])]
    except UserError as error:
        raise UserError(f"{path}: {error}: {REMEDY}") from error


def gate_content(folder: str | os.PathLike[str], checks: Sequence[Check], **measured: Any) -> dict[str, Any]:
    """What `gate.json` of the model in a folder says: verdict, digest, checks and what was measured besides."""
    head = {"format": FORMAT, "verdict": "PASS" if decide(checks) else "FAIL", "model_digest": model_digest(folder)}
    return {**head, "checks": [dataclasses.asdict(check) for check in checks], **measured}
