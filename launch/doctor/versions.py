"""Are the packages those that the project asks for (pyproject.toml) and was tested with (requirements.txt)?"""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from launch.doctor.finding import Finding, judge, ok
from tasks.run_folder import REPO

SHOWN = 4  # names in a line


def version_findings(folder: Path = REPO) -> list[Finding]:
    """One line for Python, one for each package out of its range, one for all pins.

    Args:
        folder: holds pyproject.toml and requirements.txt.
    """
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = list(_requirements((folder / "requirements.txt").read_text(encoding="utf-8").splitlines()))
    return [_python(project["requires-python"]), *range_findings(project), _pins(pins)]


def range_findings(project: Mapping[str, Any]) -> list[Finding]:
    """A line for each package that is missing or out of range, or one that says that none is.

    Args:
        project: the table of that name in pyproject.toml. Extras count only where they are installed.
    """
    extras = [one for names in project.get("optional-dependencies", {}).values() for one in names]
    needed, optional = list(_requirements(project["dependencies"])), list(_requirements(extras))
    bad = [_outside(one) for one in needed if not _holds(one)]
    bad += [_outside(one) for one in optional if installed(one.name) and not _holds(one)]
    return bad or [ok("packages", f"{len(needed)} packages are within the ranges of pyproject.toml")]


def installed(name: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _python(wanted: str) -> Finding:
    here = platform.python_version()
    return judge(
        SpecifierSet(wanted).contains(here, prereleases=True),
        "python",
        here,
        f"the project needs Python {wanted}: make the environment anew with it",
    )


def _pins(pins: list[Requirement]) -> Finding:
    known = [one for one in pins if installed(one.name)]
    other = [f"{one.name} {installed(one.name)} (tested: {one.specifier})" for one in known if not _holds(one)]
    more = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
    seen = f"{len(known) - len(other)} of {len(known)} installed packages are those of requirements.txt"
    seen += f"; not {', '.join(other[:SHOWN])}{more}" if other else ""
    return judge(
        not other,
        "tested set",
        seen,
        "should results differ, `pip install -r requirements.txt` is the tested set",
        "warn",
    )


def _outside(wanted: Requirement) -> Finding:
    there = installed(wanted.name) or "not installed"
    return Finding("fail", wanted.name, f"{there}, not {wanted.specifier}", f'pip install "{wanted}"')


def _holds(wanted: Requirement) -> bool:
    there = installed(wanted.name)
    return there is not None and wanted.specifier.contains(there, prereleases=True)


def _requirements(lines: Iterable[str]) -> Iterable[Requirement]:
    for line in lines:
        try:
            found = Requirement(line.split("#")[0].strip())
        except InvalidRequirement:  # a comment, an option of pip
            continue
        if found.marker is None or found.marker.evaluate():
            yield found
