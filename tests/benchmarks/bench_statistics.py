"""Simulated coverage of nominal 95 % intervals, and how often arms that differ by the margin pass for equivalent.

    python tests/benchmarks/bench_statistics.py          # about two CPU-minutes

17 tasks, each with its own noise and, between arms, its own offset; `run`: standard deviation of what a seed's run
moves in all of its tasks together, as a share of a task's own noise of 1. Paired arms share half of their noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ablative.reports.stats.columns import compare_rows
from ablative.reports.stats.compare import Sample, difference
from ablative.reports.stats.decide import tost

TASKS = 17


@dataclass(frozen=True)
class Setting:
    """A kind of study."""

    seeds: int
    run: float = 0.0
    paired: bool = True
    arms: int = 2
    estimand: str = "these tasks"
    together: bool = True

    @property
    def name(self) -> str:
        unit = "" if self.together else ", tasks taken for independent"
        pairing = "paired" if self.paired else "apart"
        return f"n = {self.seeds}, run {self.run}, {pairing}, {self.arms} arms, {self.estimand}{unit}"


def arm(values: np.ndarray) -> Sample:
    return {f"t{i}": dict(enumerate(row)) for i, row in enumerate(values.tolist())}


def study(setting: Setting, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """Noise of each arm (tasks, seeds), and the first arm's true advantage on each task, 0 on average."""
    scales = rng.uniform(0.5, 1.5, TASKS)[:, None]
    advantage = rng.normal(0, 0.5, TASKS)
    common = rng.normal(size=(TASKS, setting.seeds))
    shared = 0.5 if setting.paired else 0.0
    arms = []
    for _ in range(setting.arms):
        own = rng.normal(size=(TASKS, setting.seeds))
        noise = scales * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
        arms.append(noise + setting.run * rng.normal(size=setting.seeds))
    return arms, advantage


def coverage(setting: Setting, repetitions: int, rng: np.random.Generator) -> tuple[float, float]:
    """(share of intervals that hold the truth, mean width)."""
    held, width = 0, 0.0
    for _ in range(repetitions):
        arms, advantage = study(setting, rng)
        arms[0] += advantage[:, None]
        truth = float(advantage.mean()) if setting.estimand == "these tasks" else 0.0
        own = [arm(values) for values in arms]
        effect = difference(own[0], own[1], setting.paired, setting.estimand, others=own[2:], together=setting.together)
        assert effect.low is not None and effect.high is not None
        held += effect.low <= truth <= effect.high
        width += effect.high - effect.low
    return held / repetitions, width / repetitions


def false_equivalence(setting: Setting, margin: float, repetitions: int, rng: np.random.Generator) -> float:
    """Share of studies declared equivalent though the arms differ by exactly the margin."""
    wrong = 0
    for _ in range(repetitions):
        arms, _ = study(setting, rng)
        own = [arm(values) for values in arms]
        own[0] = arm(arms[0] + margin)
        effect = difference(own[0], own[1], setting.paired, others=own[2:], together=setting.together)
        p = tost(effect, margin)
        wrong += p is not None and p < 0.05
    return wrong / repetitions


def cell_coverage(seeds: int, cells: int, repetitions: int, rng: np.random.Generator) -> float:
    """Share of cells whose interval, with the spread of its table's, holds the true mean 0."""
    held = 0
    for _ in range(repetitions):
        values = rng.normal(size=(cells, seeds))
        means = values.mean(axis=1)
        halves = np.array(compare_rows(values, str, 0, None).halves, dtype=np.float64)
        held += int(np.sum(np.abs(means) <= halves))
    return held / (cells * repetitions)


def settings() -> Iterator[Setting]:
    for seeds in (2, 3, 5):
        for run in (0.0, 0.5, 1.0):
            yield Setting(seeds, run)
            yield Setting(seeds, run, paired=False)
            yield Setting(seeds, run, arms=8)
            yield Setting(seeds, run, arms=8, estimand="tasks like these")
        yield Setting(seeds, 0.0, together=False)
        yield Setting(seeds, 0.5, together=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=1000)
    repetitions = parser.parse_args().repetitions
    rng = np.random.default_rng(0)
    for setting in settings():
        held, width = coverage(setting, repetitions, rng)
        print(f"coverage {100 * held:5.1f} %  width {width:6.2f}  {setting.name}", flush=True)
    for seeds in (2, 3, 5):
        print(f"coverage {100 * cell_coverage(seeds, 60, 200, rng):5.1f} %  a cell of 60, n = {seeds}")
        for setting in (Setting(seeds, 0.5), Setting(seeds, 0.5, arms=8), Setting(seeds, 0.5, paired=False)):
            wrong = false_equivalence(setting, 0.5, repetitions, rng)
            print(f"false equivalence {100 * wrong:4.1f} %  margin 0.5, {setting.name}", flush=True)


if __name__ == "__main__":
    main()
