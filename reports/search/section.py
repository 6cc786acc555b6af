"""The report's part on a search: its files below `search/`, and its section of the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ablative.reports.figures.figure_data import Drawing
from ablative.reports.figures.style import PAGE_INCHES, page_inches
from ablative.reports.search.results import ArmTrials, read_trials, winners_table
from ablative.reports.search.spread import verdict
from ablative.reports.store.results import Results
from ablative.reports.tables.tables import Table


@dataclass(frozen=True)
class SearchPart:
    """What a report says of a search."""

    tables: tuple[Table, ...]
    """Winners with the verdict on each arm's trials below them, and what was found of each parameter."""
    drawings: tuple[Drawing, ...]
    paths: tuple[Path, ...]
    """Files of the figures."""


def search_part(results: Results, folder: Path, drawn: bool, page_alone: bool = False) -> SearchPart | None:
    """The search's table, and `drawn` its figures as files in `folder`; None where the study has no search."""
    arms = read_trials(results)
    if not arms:
        return None
    drawings, paths = draw(arms, folder, page_inches(results.study.report.width), page_alone) if drawn else ((), ())
    return SearchPart(search_tables(arms), tuple(drawings), tuple(paths))


def search_tables(arms: Sequence[ArmTrials]) -> tuple[Table, ...]:
    """The tables of a search, those that it has results for."""
    from ablative.reports.search.parameters import parameters_table

    winners = winners_table(arms)
    words = [text for arm in arms if (text := verdict(arm))]
    winners = dataclasses.replace(winners, notes=(*words, *winners.notes))
    parameters = parameters_table(arms)
    return (winners, parameters) if parameters else (winners,)


def draw(
    arms: Sequence[ArmTrials], folder: Path, page: float = PAGE_INCHES, page_alone: bool = False
) -> tuple[list[Drawing], list[Path]]:
    """Write every figure that some arm has enough trials for; `page_alone`: only what the page shows."""
    from ablative.reports.figures.figures import save
    from ablative.reports.search.figures import KINDS, figure

    drawings, paths = [], []
    for name, kind in KINDS.items():
        shown = [arm for arm in arms if kind.fits(arm)]
        if not shown:
            continue
        written = save(partial(figure, kind, shown, page), folder / name, page_alone)
        svg = next(path.read_text(encoding="utf-8") for path in written if path.suffix == ".svg")
        notes = (kind.note, "Stars: tried first. Rings: winners." if name in ("history", "map") else "")
        drawings.append(Drawing(f"search-{name}", kind.title, tuple(filter(None, notes)), svg))
        paths += written
    return drawings, paths
