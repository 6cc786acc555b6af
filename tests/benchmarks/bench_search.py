"""Searches: overhead per trial against plain Optuna on the same storage, and slots kept busy against batches.

The runs are formulas (`tests/sweeps/search_fakes.py`): what is measured is everything around them. Overhead compares a
worker's asking, leasing, telling and noting with `study.optimize` on the same journal file. Occupancy compares workers
that ask for the next trial at once with launching batches of as many trials and waiting for the slowest of each, for
the same durations.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

import optuna

from ablative.sweeps.search.storage import open_storage

TESTS = Path(__file__).parents[1]
TRIALS = 100
SLOTS = 4
DURATIONS = (0.2, 1.8)
"""Seconds of a trial, drawn uniformly: runs of one arm hardly differ, pruned ones end early."""


def plain_optuna(folder: Path) -> float:
    """CPU seconds of a trial whose objective is one multiplication, in Optuna's own loop."""
    import search_fakes

    found = search_fakes.searcher(folder)
    study = optuna.create_study(storage=open_storage(found.trials.paths), sampler=optuna.samplers.TPESampler(seed=0))
    begin = time.process_time()
    study.optimize(
        lambda trial: trial.suggest_float("a", 0.01, 1, log=True) * trial.suggest_float("b", 0.01, 1, log=True), TRIALS
    )
    return (time.process_time() - begin) / TRIALS


def ours(folder: Path) -> float:
    """Likewise through the search's own asking and telling, without starting any process."""
    import search_fakes

    trials = search_fakes.searcher(folder, where={"pooling": ["map"]}, budget={"trials": TRIALS}).trials
    begin = time.process_time()
    while (taken := trials.take()) is not None:
        values = list(taken.trial.params.values())
        trials.complete(taken, [[values[0] * values[1]]])
    return (time.process_time() - begin) / TRIALS


def occupancy(durations: list[float]) -> tuple[float, float]:
    """(refilled at once, in batches): share of the slots' time that is spent on trials."""
    free = [0.0] * SLOTS
    for seconds in durations:
        slot = free.index(min(free))
        free[slot] += seconds
    batches = sum(max(durations[start : start + SLOTS]) for start in range(0, len(durations), SLOTS))
    return sum(durations) / (SLOTS * max(free)), sum(durations) / (SLOTS * batches)


def measured_occupancy(folder: Path) -> float:
    """Share of the time from the first trial's beginning to the last one's end that real workers spent on trials."""
    import search_fakes

    os.environ["PYTHONPATH"] = str(TESTS / "sweeps")
    os.environ[search_fakes.STEP_SECONDS] = "0.1"
    found = search_fakes.searcher(folder, where={"pooling": ["map"]}, budget={"trials": 24}, sampler="random")
    found.jobs = SLOTS
    found.watch()
    (arm,) = found.plan.arms
    spans = [(t.datetime_start, t.datetime_complete) for t in found.trials.all(arm)]
    whole = [(begin, end) for begin, end in spans if begin is not None and end is not None]
    busy = sum((end - begin).total_seconds() for begin, end in whole)
    last, first = max(end for _, end in whole), min(begin for begin, _ in whole)
    return busy / (SLOTS * (last - first).total_seconds())


def main() -> None:
    # The root first: `tests/study` is no package of ours.
    sys.path[:0] = [str(TESTS), str(TESTS / "sweeps")]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs, own = plain_optuna(folder / "plain"), ours(folder / "ours")
        print(
            f"CPU per trial: plain Optuna {1000 * theirs:.1f} ms, ablate {1000 * own:.1f} ms ({own / theirs:.1f} times)"
        )
        rng = random.Random(0)
        at_once, batched = occupancy([rng.uniform(*DURATIONS) for _ in range(TRIALS)])
        print(f"slots busy, {SLOTS} of them: refilled at once {at_once:.0%}, in batches {batched:.0%} (computed)")
        print(f"slots busy, {SLOTS} real workers on {os.cpu_count()} cores: {measured_occupancy(folder / 'real'):.0%}")


if __name__ == "__main__":
    main()
