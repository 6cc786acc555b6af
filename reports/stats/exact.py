"""Contrasts that no seed changes: the value itself decides, without an interval.

What is computed from a configuration (FLOPs, parameters, a deterministic time) is the same in every seed. So may be
accuracies that tie, because they lie on the grid of a test set (k / N): two seeds tie often, and it is no certainty.
Values that lie on no grid do not tie by chance.
"""

from __future__ import annotations

import numpy as np

from ablative.reports.stats.moderated import ROUNDING, resolution
from ablative.reports.stats.student import Floats

SAME = "the same in every seed"


def same_in_every_seed(values: Floats, weighted: int, paired: bool, exact: bool | None) -> bool:
    """Whether the contrasts of some rows have no error over seeds.

    Args:
        values: (rows, tasks, seeds), NaN where missing; rows with a weight first.
        weighted: number of rows with a weight.
        paired: contrasts are taken by seed, so that what a seed does to all rows alike is none of them.
        exact: what is declared of the metrics (`study.trainers.Metric.exact`). True: the weighted rows alone have to
            agree over their seeds. None: no row may have any spread, and no task's values may lie on a grid.
    """
    if exact is False:
        return False
    units = (values[:weighted] if exact else values).mean(axis=1)
    units = units[np.isfinite(units).any(axis=1)]
    counts = np.isfinite(units).sum(axis=1)
    if len(units) < max(weighted, 1) or counts.min() < 2:
        return False
    room = ROUNDING * float(np.nanmax(np.abs(units)))
    common = paired and bool((np.isfinite(units) == np.isfinite(units[0])).all())
    spans = [units, units - units[0]] if common else [units]
    if not any(float(np.max(np.nanmax(each, axis=1) - np.nanmin(each, axis=1))) <= room for each in spans):
        return False
    return bool(exact) or all(_off_grid(values[:, task]) for task in range(values.shape[1]))


def _off_grid(values: Floats) -> bool:
    """Zeros alone say nothing: every grid has them."""
    return bool(np.nansum(np.abs(values)) > 0) and resolution(values) == 0
