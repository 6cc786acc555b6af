"""The grid of states: a row for each cell of the study, a sign for each task.

It is written row by row, as the numbers of a table are: a grid of 10,000 tasks takes a template a quarter of the page's
time.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup, escape

from ablative.reports.html.overview import Overview
from ablative.reports.store.coverage import StoredState
from ablative.reports.tables.escape import html
from ablative.study.core.plurals import counted

SYMBOLS = {
    "completed": "●",
    "diverged": "≈",
    "running": "◐",
    "failed": "✕",
    "not synced": "◍",
    "eligible": "○",
    "waiting": "·",
    "absent": "–",
}
"""State -> sign in the grid: shapes, so that no meaning rests on colour alone."""
NONE = '<span class="missing">–</span>'
"""What a cell shows that lacks the stage."""


class Sign(NamedTuple):
    """Tasks of a cell and a stage that are shown together."""

    state: str
    tasks: int
    text: str
    """What a pointer or a screen reader shows; empty where a large grid says it once, in its key."""


def state_rows(overview: Overview) -> Iterator[Markup]:
    """The rows of the grid."""

    @functools.cache
    def head(factor: str, level: str) -> str:
        return f'<th scope="row">{html(overview.labels.level(factor, level)) if level else "–"}</th>'

    for row in overview.grid:
        heads = "".join(map(head, overview.factors, row.levels))
        states = "".join([_cell(tuple(_signs(stage, overview.large))) for stage in row.stages])
        yield Markup(f"<tr data-levels='{htmlsafe_json_dumps(row.levels)}'>{heads}{states}</tr>")


def _signs(stage: Sequence[StoredState], large: bool) -> list[Sign]:
    """How a cell's tasks of a stage are shown: in a large grid, seeds of one state are one sign."""
    if large:
        groups = itertools.groupby([(each.state, each.text) for each in stage])
        counts = [(state, text, len(list(own))) for (state, text), own in groups]
        return [
            Sign(state, count, f"{counted(count, 'seed')}: {text}" if state != "completed" else "")
            for state, text, count in counts
        ]
    return [Sign(each.state, 1, f"seed {each.task.seed}: {each.text} ({each.task.task_id})") for each in stage]


@functools.lru_cache(maxsize=1000)
def _cell(signs: tuple[Sign, ...]) -> str:
    found = []
    for state, count, text in signs:
        said = f' role="img" title="{escape(text)}"' if text else ""
        kind = state.replace(" ", "-")
        found.append(f'<span class="state {kind}"{said}>{SYMBOLS[state] * count}</span>')
    return f"<td>{''.join(found) or NONE}</td>"
