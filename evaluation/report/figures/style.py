"""How the figures look, and how they become SVG and PNG.

White card, dark text: legible on a light page and on a dark one. Colours are those of Okabe and Ito ("Color Universal
Design", 2008), which colour-blind readers tell apart; a model has the same one in every figure. matplotlib is used
through its objects only (no pyplot, no window, no state), and the same data give the same bytes.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from evaluation.report.data import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

WIDTH = 10.5  # inches
INK = "#262626"
FAINT = "#8c8c8c"
REFERENCE = "reference"
_COLOURS = {
    "sft": "#0072B2",
    "ppo": "#D55E00",
    REFERENCE: "#595959",
    "rft": "#009E73",
    "best_of_n": "#CC79A7",
    "ppo_heldout": "#E69F00",
    "reward_model": "#332288",
    "second_reward_model": "#56B4E9",
}
_OTHERS = ("#56B4E9", "#882255", "#999933", "#44AA99", "#AA4499", "#661100")
_RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "text.parse_math": False,  # names are others' text: a dollar in one begins no formula
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.6,
    "legend.fontsize": 8,
    "legend.frameon": True,
    "legend.framealpha": 0.8,
    "legend.edgecolor": "none",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text: small, and sharp at any size
}

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Plot:
    """A figure that is not yet SVG or PNG."""

    id: str
    title: str
    caption: str
    alt: str  # in words, for who cannot see it
    drawing: Drawing

    def to_figure(self) -> Figure:
        """As the report holds it."""
        return Figure(self.id, self.title, self.caption, to_svg(self.drawing, self.id), self.alt)


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a function that draws under this project's settings, which do not outlive it."""

    @functools.wraps(draw)
    def under_settings(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context(_RC):
            return draw(*args, **kwargs)

    return under_settings


def to_svg(drawing: Drawing, salt: str) -> str:
    """One <svg> element; the same drawing and salt give the same text on every day."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({**_RC, "svg.hashsalt": salt}):
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return re.sub(r"\A.*?(?=<svg )", "", buffer.getvalue(), flags=re.DOTALL).strip()


def to_png(drawing: Drawing, dots_per_inch: int = 150) -> bytes:
    """The same drawing as a picture for the docs."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(_RC):
        drawing.savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return buffer.getvalue()


def grid(count: int, columns: int, height: float = 2.1) -> tuple[Drawing, list[Axes]]:
    """A drawing with `count` panels in rows of at most `columns`; height in inches a row."""
    from matplotlib.figure import Figure as Drawing

    columns = min(columns, count)
    rows = -(-count // columns)
    # A row that is not full keeps the size of its panels.
    drawing = Drawing(
        figsize=(max(WIDTH * columns / 4, 6.4) if rows == 1 else WIDTH, height * rows), layout="constrained"
    )
    return drawing, [drawing.add_subplot(rows, columns, place + 1) for place in range(count)]


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: known ones have their own, others take what is left in order."""
    names = list(names)
    others = [name for name in names if name not in _COLOURS]
    extra = {name: _OTHERS[place % len(_OTHERS)] for place, name in enumerate(others)}
    return {name: _COLOURS.get(name) or extra[name] for name in names}


def legend_below(drawing: Drawing, places: Iterable[Axes]) -> None:
    """One legend under all panels, a handle for each name that any of them has."""
    found: dict[str, Any] = {}
    for axes in places:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    if found:
        drawing.legend(handles=list(found.values()), loc="outside lower center", ncols=min(6, len(found)))


def in_words(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
