"""Curves over steps: single seeds, their mean and its running mean; and which curves no axis may share."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ablative.reports.figures.figure_data import Curve
from ablative.reports.stats.summary import mean
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import cell_key
from ablative.study.core.identity import flatten
from ablative.study.spec.design import Cell
from ablative.study.spec.labels import joined

SHARE = 12
"""A running mean is over about one twelfth of the logged steps."""
MOST = 4
"""The most levels in the title of a row of panels."""


def curves_of(cells: Sequence[Cell], metrics: Sequence[str], results: Results) -> tuple[Curve, ...]:
    """A curve for each cell that has logged the metric."""
    by_key = {cell_key(cell): cell for cell in cells}
    points: dict[str, dict[int, dict[int, list[float]]]] = {}
    for key, seed, _, step, value in results.warehouse.curves(metrics):
        if key in by_key:
            points.setdefault(key, {}).setdefault(seed, {}).setdefault(step, []).append(value)
    kept = {key: cell for key, cell in by_key.items() if key in points}
    quantities = _quantities(kept, metrics, results)
    return tuple(_curve(cell, points[key], quantities[key]) for key, cell in kept.items())


def _curve(cell: Cell, points: Mapping[int, Mapping[int, Sequence[float]]], quantity: str) -> Curve:
    steps = sorted(set(itertools.chain.from_iterable(points.values())))
    seeds = {
        seed: tuple(mean(own[step]) if step in own else math.nan for step in steps) for seed, own in points.items()
    }
    means = [mean([value for value in column if value == value]) for column in zip(*seeds.values(), strict=True)]
    return Curve(cell, tuple(steps), tuple(means), running_mean(means, window(len(steps))), seeds, quantity)


def window(count: int) -> int:
    """Number of neighbouring values in a running mean over `count` values: odd, and 1 where there are few."""
    return 2 * (count // (2 * SHARE)) + 1 if count >= SHARE else 1


def running_mean(values: Sequence[float], width: int) -> tuple[float, ...]:
    """Means over `width` values around each; near the ends over fewer, as many on either side.

    >>> running_mean([0.0, 3.0, 6.0, 0.0], 3)
    (0.0, 3.0, 3.0, 0.0)
    """
    reach = width // 2
    sides = [min(reach, i, len(values) - 1 - i) for i in range(len(values))]
    return tuple(float(np.mean(values[i - side : i + side + 1])) for i, side in enumerate(sides))


def _quantities(cells: Mapping[str, Cell], metrics: Sequence[str], results: Results) -> dict[str, str]:
    """Cell key -> the values, of those that differ, of the keys that make the metric another quantity."""
    keys = list(dict.fromkeys(key for metric in metrics for key in results.coverage.measures.metric(metric).depends))
    found = {key: _values(key, keys, metrics, results) for key in cells}
    differ = [key for key in keys if len({str(own.get(key)) for own in found.values()}) > 1]
    texts = {
        key: joined(", ", (_text(results.labels.axis(name), name, own.get(name)) for name in differ))
        for key, own in found.items()
    }
    return _by_levels(cells, texts, results)


def _by_levels(cells: Mapping[str, Cell], texts: Mapping[str, str], results: Results) -> dict[str, str]:
    """The quantities, named by the levels that have each (`CLIP, Masked CLIP`) where a factor distinguishes them all:
    the study's words in place of values of configuration keys."""
    for factor, order in results.study.factors.items():
        own = {text: {cells[key].get(factor, "") for key in cells if texts[key] == text} for text in texts.values()}
        every = list(itertools.chain.from_iterable(own.values()))
        if len(own) > 1 and len(set(every)) == len(every) and "" not in every and max(map(len, own.values())) <= MOST:
            label = functools.partial(results.labels.level, factor)
            names = {text: joined(", ", (label(level) for level in order if level in own[text])) for text in own}
            return {key: names[text] for key, text in texts.items()}
    return dict(texts)


def _values(cell: str, keys: Sequence[str], metrics: Sequence[str], results: Results) -> dict[str, object]:
    """Values of configuration keys in the task that logs the metrics in a cell."""
    if not keys:
        return {}
    tasks = results.coverage.behind(cell, results.coverage.measures.stages_of(metrics))
    config = flatten(tasks[0].task.config) if tasks else {}
    return {key: config[key] for key in keys if key in config}


def _text(label: str, key: str, value: object) -> str:
    """A value that speaks for itself is alone: `clip`, but `w_image 0.1`; `label`: the key's, the key without one."""
    return value if isinstance(value, str) else f"{label if label != key else key.rpartition('.')[2]} {value}"


def curve_notes(curves: Sequence[Curve]) -> tuple[str, ...]:
    if not curves:
        return ()
    counts = sorted({len(curve.seeds) for curve in curves})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    widths = sorted({window(len(curve.steps)) for curve in curves})
    smooth = f", running mean over {' or '.join(map(str, widths))} logged values" if widths[-1] > 1 else ""
    raw = "; thin: single seeds as logged" if counts[-1] > 1 else "; thin: as logged" if smooth else ""
    whole = f"Mean over seeds ({n})" if counts[-1] > 1 else "One seed (n = 1)"
    apart = "One row of panels for each loss: losses of different terms or weights are no one quantity."
    return (f"{whole}{smooth}{raw}.", *([apart] if len({curve.quantity for curve in curves}) > 1 else []))
