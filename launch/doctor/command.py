"""`python -m launch doctor`: is everything as training needs it?

    python -m launch doctor --root runs/demo
    python -m launch doctor --policy EleutherAI/gpt-neo-1.3B --skip '[bandwidth, hub]'

Exits with 0 where nothing failed (warnings are told), with 1 where something did, with 2 for a mistyped option.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from launch.doctor.examine import check
from launch.doctor.finding import has_failed, print_findings
from launch.doctor.options import DoctorOptions
from trlx.utils.cli import parse_config

FAILED = 1


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, look, and tell. Raises: SystemExit with `FAILED` where a check failed."""
    findings = check(parse_config(DoctorOptions, "Is everything as training needs it?", argv))
    print_findings(findings)
    if has_failed(findings):
        sys.exit(FAILED)
