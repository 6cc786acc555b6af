"""How figures look: sizes, fonts, and the signs by which levels differ in colour, in grey and in print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ablative.study.syntax.text_width import POINTS, text_widths

COLUMN_INCHES = 3.25
PAGE_INCHES = 6.75
"""Width of one column and of both in ICML's and CVPR's layout; NeurIPS and ICLR (5.5) lie between."""


def page_inches(width: str) -> float:
    """Widest that a figure may be in a paper of this text width (`report.width`)."""
    return min(PAGE_INCHES, max(text_widths(width, "report.width")) / POINTS["in"])


INK = "#222222"
"""Colour of every text and axis; the page replaces it by the reader's own (light or dark)."""
ON_PALE = "#212121"
"""Colour of a text on a pale fill, which the page leaves as it is: the fill is pale in the dark, too."""
FAINT = "#888888"

SMALLEST = 7.0
"""Points of the smallest text: figures are as wide as they are printed, so nothing is set smaller."""
SEED = "seed"
"""`gid` of what is drawn of single seeds, whose dots and lines do not hide their means."""

Color = tuple[float, float, float] | str
MARKERS = "osD^vPX*<>phdH8"
Marker = str | tuple[int, Literal[0, 1, 2], int]
LineStyle = Literal["-", ""] | tuple[float, Sequence[float]]
LINES: tuple[LineStyle, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
HATCHES = ("", "///", "..", "\\\\\\", "xx", "---", "|||", "//.")


def nth_marker(place: int) -> Marker:
    """The marker at a place of a list, another one at each: asterisks of ever more rays follow the shapes."""
    return MARKERS[place] if place < len(MARKERS) else (place - len(MARKERS) + 5, 2, 0)


def nth_line(place: int) -> LineStyle:
    """The line style at a place of a list, another one at each: dashes with ever more dots follow the usual ones."""
    if place < len(LINES):
        return LINES[place]
    return (0, (6, 1.2, *(1, 1.2) * (place - len(LINES) + 3)))


STYLE: Any = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],  # both ship with matplotlib: the same on every machine
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.alpha": 0.35,
    "grid.color": FAINT,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.7,
    "pdf.fonttype": 42,  # TrueType: conference submission systems refuse Type 3
    "svg.fonttype": "path",  # a reader without the font sees the same
    "svg.hashsalt": "ablate",
    "text.parse_math": False,  # a level may be called $x
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}

METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}
"""Everything that would differ between two runs, left out."""

COLORBLIND = (
    *("#0173B2", "#DE8F05", "#029E73", "#D55E00", "#CC78BC"),
    *("#CA9161", "#FBAFE4", "#949494", "#ECE133", "#56B4E9"),
)
"""Seaborn's palette of this name: to import seaborn, and pandas with it, takes a tenth of a report's time."""


def palette(count: int) -> list[tuple[float, float, float]]:
    """So many colours that differ; up to ten do so for the colour-blind, too."""
    if count > len(COLORBLIND):
        import seaborn

        found: list[tuple[float, float, float]] = seaborn.color_palette("husl", count)
        return found
    from matplotlib.colors import to_rgb

    return [to_rgb(each) for each in COLORBLIND[:count]]
