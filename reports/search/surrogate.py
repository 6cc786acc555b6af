"""The goal between the trials: a Gaussian process through all of them, with what the seeds' spread leaves open.

A trial's value is a mean over n seeds, so its error has the variance σ² / n; σ is estimated together with the surface,
from the spread of the seeds within trials and from what a smooth surface does not explain. Nothing is drawn between
the points of a noisy sample that the sample does not say: the less it says, the flatter the surface, and the larger its
standard error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablative.reports.stats.student import Floats

MOST_POINTS = 300
"""Trials that a surface is fitted to; of more, evenly many are left out, as the time grows with their cube."""
LENGTH, LENGTH_SPREAD = 0.5, 0.7
"""Prior of a length scale, as a share of the parameter's range: median, and standard deviation of its logarithm."""
LEAST_NOISE = 1e-3
"""Smallest σ, as a share of the values' standard deviation: keeps the matrix regular."""


@dataclass(frozen=True)
class Surrogate:
    """The fitted surface; places are shares of the parameters' ranges, 0 to 1."""

    points: Floats
    """(trials, parameters)"""
    lengths: Floats
    signal: float
    """Standard deviation of the surface around its level."""
    noise: float
    """σ: standard deviation of a seed's value around its trial's."""
    level: float
    inverse: Floats
    """(trials, trials), of the values' covariance."""
    residuals: Floats

    def at(self, places: Floats) -> tuple[Floats, Floats]:
        """Mean and standard error of the surface at (n, parameters) places."""
        cross = self.signal**2 * kernel(places, self.points, self.lengths)
        ones = np.ones(len(self.points))
        solved = cross @ self.inverse
        open_level = (1 - solved @ ones) ** 2 / (ones @ self.inverse @ ones)
        variance = self.signal**2 - np.sum(solved * cross, axis=1) + open_level
        return self.level + solved @ self.residuals, np.sqrt(np.maximum(variance, 0.0))


def kernel(one: Floats, other: Floats, lengths: Floats) -> Floats:
    """Matérn's correlation of smoothness 5/2 between (n, d) and (m, d) places: (n, m)."""
    distance = np.sqrt(np.sum(((one[:, None] - other[None]) / lengths) ** 2, axis=-1))
    root: Floats = np.sqrt(5.0) * distance
    found: Floats = (1 + root + root**2 / 3) * np.exp(-root)
    return found


def fit(points: Floats, values: Floats, counts: Floats, within: tuple[float, int] = (0.0, 0)) -> Surrogate:
    """The surface of largest posterior density.

    Args:
        points: (trials, parameters), 0 to 1.
        values: (trials,), each the mean over some seeds.
        counts: (trials,), how many.
        within: standard deviation of a seed's value within its trial with its degrees of freedom, where it is known.
    """
    from scipy.optimize import minimize

    step = -(-len(points) // MOST_POINTS)
    points, values, counts = points[::step], values[::step], counts[::step]
    width = float(np.std(values, ddof=1)) or 1.0
    start = np.log([*[LENGTH] * points.shape[1], width * 0.7, within[0] if within[1] and within[0] else width * 0.7])
    bounds = [(np.log(0.05), np.log(10.0))] * points.shape[1] + [(np.log(width * LEAST_NOISE), np.log(width * 20))] * 2

    def cost(logs: Floats) -> float:
        *lengths, signal, noise = np.exp(logs)
        covariance = signal**2 * kernel(points, points, np.array(lengths)) + np.diag(noise**2 / counts)
        inverse, half_log = _inverse(covariance)
        rest = values - _level(inverse, values)
        prior = np.sum((logs[:-2] - np.log(LENGTH)) ** 2) / (2 * LENGTH_SPREAD**2)
        prior += (logs[-2] - np.log(width)) ** 2 / 2
        known = within[1] * (logs[-1] + within[0] ** 2 / (2 * noise**2))
        return float(rest @ inverse @ rest / 2 + half_log + prior + known)

    logs = minimize(cost, np.clip(start, *np.array(bounds).T), bounds=bounds, method="L-BFGS-B").x
    *lengths, signal, noise = np.exp(logs).tolist()
    covariance = signal**2 * kernel(points, points, np.array(lengths)) + np.diag(noise**2 / counts)
    inverse, _ = _inverse(covariance)
    level = _level(inverse, values)
    return Surrogate(points, np.array(lengths), signal, noise, level, inverse, values - level)


def _inverse(covariance: Floats) -> tuple[Floats, float]:
    """The inverse, and half the logarithm of the determinant."""
    factor = np.linalg.cholesky(covariance)
    solved = np.linalg.solve(factor, np.eye(len(factor)))
    return solved.T @ solved, float(np.sum(np.log(np.diag(factor))))


def _level(inverse: Floats, values: Floats) -> float:
    """The generalised least squares mean of the values."""
    return float(inverse.sum(axis=0) @ values / inverse.sum())
