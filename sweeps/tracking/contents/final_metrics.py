"""The final metrics of a stage, which are copied to the MLflow run of the task that opens its run.

So MLflow's page can sort configurations, whose parameters are there, by score. Reports take a metric from the task that
measured it, never from the copy.
"""

from __future__ import annotations

from collections.abc import Iterable

from ablative.study.home.journal import Entry, metric_rows

Row = tuple[str, int, float, int]
"""Name, step, value, milliseconds since 1970."""


def final_metrics(entries: list[Entry], stage: str, own: Iterable[str]) -> list[Row]:
    """The last value of each metric that bears the stage's name, but of those that the receiving task reports too.

    Values keep step and time, so that a copy sent twice is one row. Costs stay where they are.
    """
    taken = frozenset(own)
    last: dict[str, Row] = {}
    for row in metric_rows(entries):
        name, step = row[:2]
        if name.startswith(f"{stage}/") and name not in taken and step >= last.get(name, row)[1]:
            last[name] = row
    return list(last.values())
