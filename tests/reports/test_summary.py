"""Means and deviations by hand."""

from __future__ import annotations

import itertools
import math

from ablative.reports.stats.summary import Summary, mean, sample_sd, summarize


def test_by_hand() -> None:
    assert summarize([1.0, 2.0, 6.0]) == Summary(3, 3.0, math.sqrt(7.0))
    assert summarize([4.0]) == Summary(1, 4.0, None)
    assert summarize([]) is None


def test_a_diverged_seed_is_no_number() -> None:
    assert summarize([1.0, math.nan, 3.0, math.inf]) == Summary(2, 2.0, math.sqrt(2.0))
    assert summarize([math.nan]) is None


def test_the_order_changes_no_bit() -> None:
    values = [0.1, 1e9, -1e9, 0.3, 1e-7]
    results = {(mean(order), sample_sd(order)) for order in itertools.permutations(values)}
    assert len(results) == 1
