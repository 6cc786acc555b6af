"""Means, deviations and intervals by hand and against scipy."""

from __future__ import annotations

import itertools
import math

import pytest
from scipy import stats

from ablative.reports.stats.summary import Summary, mean, sample_sd, summarize, t_interval


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


def test_interval_agrees_with_scipy() -> None:
    values = [71.2, 70.4, 73.9, 72.2]
    summary = summarize(values)
    assert summary is not None
    low, high = stats.t.interval(0.95, 3, loc=sum(values) / 4, scale=stats.sem(values))
    assert t_interval(summary) == pytest.approx((low, high), rel=1e-12)
    assert t_interval(Summary(1, 2.0, None)) is None
    # two seeds: the quantile is 12.706, which is what makes two seeds say so little
    assert t_interval(Summary(2, 0.0, math.sqrt(2.0))) == pytest.approx((-12.7062, 12.7062), abs=1e-4)
