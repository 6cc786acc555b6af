"""The report's part on a search: its files below `search/`, and its section of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ablative.reports.figures.figure_data import Drawing
from ablative.reports.search.results import ArmTrials, read_trials, winners_table
from ablative.reports.store.results import Results
from ablative.reports.tables.tables import Table


@dataclass(frozen=True)
class SearchPart:
    """What a report says of a search."""

    winners: Table
    drawings: tuple[Drawing, ...]
    paths: tuple[Path, ...]
    """Files of the figures."""


def search_part(results: Results, folder: Path, drawn: bool) -> SearchPart | None:
    """The search's table, and `drawn` its figures as files in `folder`; None where the study has no search."""
    arms = read_trials(results)
    if not arms:
        return None
    drawings, paths = draw(arms, folder) if drawn else ((), ())
    return SearchPart(winners_table(arms), tuple(drawings), tuple(paths))


def draw(arms: Sequence[ArmTrials], folder: Path) -> tuple[list[Drawing], list[Path]]:
    """Write every figure that some arm has enough trials for."""
    from ablative.reports.figures.figures import save
    from ablative.reports.search.figures import KINDS, figure

    drawings, paths = [], []
    for name, kind in KINDS.items():
        shown = [arm for arm in arms if kind.fits(arm)]
        if not shown:
            continue
        written = save(partial(figure, kind, shown), folder / name)
        svg = next(path.read_text(encoding="utf-8") for path in written if path.suffix == ".svg")
        notes = (kind.note, "Stars: tried first. Rings: winners." if name in ("history", "map") else "")
        drawings.append(Drawing(f"search-{name}", kind.title, tuple(filter(None, notes)), svg))
        paths += written
    return drawings, paths
