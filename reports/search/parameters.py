"""What a search found of each parameter: the winner's value, where the ten best lie, and how much it mattered."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ablative.reports.search.figures import extremes, importances
from ablative.reports.search.results import DIGITS, ArmTrials, short_name, value_text
from ablative.reports.stats.summary import Summary
from ablative.reports.tables.tables import Column, Entry, Row, Table

BEST = 10


def parameters_table(arms: Sequence[ArmTrials]) -> Table | None:
    """A row for each arm and parameter of a search with one goal; None for several goals, or before any trial ends."""
    if len(arms[0].search.objective) > 1 or not any(arm.complete for arm in arms):
        return None
    labels = ("winner", f"median of the {BEST} best", f"range of the {BEST} best", "searched", "importance (%)")
    columns = tuple(Column(label, "", "", DIGITS, (), False) for label in labels)
    rows = tuple(row for arm in arms if arm.complete for row in _rows(arm))
    notes = (
        f"The {BEST} best complete trials (all, where there are fewer) by the search's seeds, with the smallest and "
        "largest value of each parameter: as wide as what was searched where the search has not narrowed it. "
        "Importance: fANOVA's share of the variance over the complete trials, the luck of seeds included; no interval.",
    )
    return Table("parameters", "Values that the search found", ("arm", "parameter"), "", columns, rows, notes, True)


def _rows(arm: ArmTrials) -> list[Row]:
    sign = -1 if arm.search.objective[0].direction == "maximize" else 1
    ten = sorted(arm.complete, key=lambda trial: (sign * trial.goal_values[0], trial.number))[:BEST]
    weights, best = importances(arm), arm.best
    rows = []
    for key, parameter in arm.search.parameters.items():
        values = [trial.values[key] for trial in ten if key in trial.values]
        middle, span = _spread(values)
        low, high = extremes(parameter)
        searched = ", ".join(map(str, parameter.choices)) or f"{value_text(low)} to {value_text(high)}"
        texts = (_winner(best.values if best else {}, key), middle, span, searched, _share(weights, key))
        name = arm.names.get(key, short_name(key))
        entries = tuple(_entry(text, len(values)) for text in texts)
        rows.append(Row((arm.name, short_name(key)), entries, (arm.title, name)))
    return rows


def _winner(values: Mapping[str, Any], key: str) -> str:
    return value_text(values[key]) if key in values else "–"


def _share(weights: Mapping[str, float], key: str) -> str:
    return f"{100 * weights[key]:.0f}" if key in weights else "–"


def _spread(values: Sequence[object]) -> tuple[str, str]:
    """Median and range of numbers; of choices the most frequent, and how often each was among them."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if not values:
        return "–", "–"
    if len(numbers) == len(values):
        return value_text(
            float(statistics.median(numbers))
        ), f"{value_text(min(numbers))} to {value_text(max(numbers))}"
    counts = Counter(map(str, values)).most_common()
    return counts[0][0], ", ".join(f"{name}: {count}" for name, count in counts)


def _entry(text: str, n: int) -> Entry:
    return Entry("", None, 0, missing="–") if text == "–" else Entry("", Summary(n, 0.0, None), n, literal=text)
