"""The width of a paper's text, which its LaTeX tables fit: a length, or the name of a usual layout."""

from __future__ import annotations

import re

from ablative.study.core.errors import ConfigError, unknown

ONE_COLUMN = "one-column"
POINTS = {"in": 72.27, "cm": 72.27 / 2.54, "mm": 72.27 / 25.4, "pt": 1.0}
"""Unit → points of TeX."""
LAYOUTS = {ONE_COLUMN: (5.5 * 72.27,), "two-column": (3.25 * 72.27, 6.875 * 72.27)}
"""Name → widths in points: of a column, and of the whole text where that is wider."""
LEAST, MOST = 1.0, 40.0
"""Inches that a text may be wide."""


def text_widths(width: str, where: str) -> tuple[float, ...]:
    """Widths in points that a table may have, the narrowest first; raises ConfigError for what is no width."""
    if width in LAYOUTS:
        return LAYOUTS[width]
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)\s*", width)
    if found is None:
        allowed = f"a length ({', '.join(f'5.5{unit}' for unit in POINTS)})"
        raise ConfigError(f"{unknown('width', width, LAYOUTS, where)}, or {allowed}")
    if found[2] not in POINTS:
        raise ConfigError(unknown("unit", found[2], POINTS, f"{where}: {width}"))
    inches = float(found[1]) * POINTS[found[2]] / POINTS["in"]
    if not LEAST <= inches <= MOST:
        raise ConfigError(f"{where}: {width}: a text is {LEAST:g} to {MOST:g} inches wide")
    return (inches * POINTS["in"],)
