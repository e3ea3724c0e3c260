"""The report's figures as PNG files, for documentation.

python -m evaluation.report.figures --root runs/demo --out docs/images
python -m evaluation.report.figures --root runs/demo --out docs/images --only frontier,changes
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.report.figures.plots import all_plots
from evaluation.report.figures.style import to_png
from evaluation.report.sources import find
from tasks.run_folder import DEFAULT_ROOT
from trlx.utils.cli import parse_config
from trlx.utils.disk import writing
from trlx.utils.errors import UserError, nearest, run_main
from trlx.utils.ranges import AT_LEAST_1, require_ranges


@dataclass
class FigureOptions:
    """Options of the figures.

    Args:
        root: the run's root folder.
        out: the folder for the PNG files, each named as its figure in the report.
        only: ids of figures, separated by commas; null for all that the run's files give.
        dots_per_inch: of the pictures, which are 10.5 inches wide at most.
    """

    root: str = DEFAULT_ROOT
    out: str = "docs/images"
    only: str | None = None
    dots_per_inch: int = 100


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, draw and write."""
    options = parse_config(FigureOptions, "Save the report's figures as PNG.", argv)
    require_ranges(options, {"dots_per_inch": AT_LEAST_1})
    found = find(options.root)
    plots = {plot.id: plot for section in all_plots(found).values() for plot in section}
    wanted = [name.strip() for name in options.only.split(",")] if options.only else list(plots)
    if unknown := [name for name in wanted if name not in plots]:
        raise UserError(f"--only: no figure '{unknown[0]}' of {options.root}{nearest(unknown[0], plots)}")
    for name in wanted:
        path = Path(options.out) / f"{name}.png"
        picture = to_png(plots[name].drawing, options.dots_per_inch)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
        print(path)


if __name__ == "__main__":
    run_main(main)
