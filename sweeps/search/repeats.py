"""Repeats: an arm's best trials run again with seeds by which they were not chosen.

The best of many trials was lucky, too: its value says more of the luck than of its parameters. Once an arm's trials
have ended, its best ones and those that were tried first (what papers print) are run with fresh seeds, and
these runs alone decide the winner. They are runs like others; how each ended is a file in its trial's folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from ablative.study.core.files import write_json
from ablative.study.home.search_paths import TrialPaths
from ablative.study.plan import winners
from ablative.study.plan.search_arms import SearchArm
from ablative.study.plan.task import Task
from ablative.study.plan.winners import Tried
from ablative.sweeps.queue.leases import Lease
from ablative.sweeps.search.definition import trial_tasks
from ablative.sweeps.search.trials import Trials


@dataclass(frozen=True)
class Repeat:
    """A trial's values with one more seed, taken by this process."""

    arm: SearchArm
    number: int
    values: dict[str, Any]
    lease: Lease
    paths: TrialPaths
    tasks: tuple[Task, ...]
    """Tasks of one run, each after those that it needs."""

    def settle(self, state: str, goal_values: list[float] | None, seconds: float, snapshot: str) -> None:
        """Note how it ended (complete, diverged, failed) and under which code, and give it back."""
        content = {"state": state, "objectives": goal_values, "seconds": seconds, "snapshot": snapshot}
        write_json(self.paths.outcome, content)
        self.lease.release()


def candidates(trials: Trials, arm: SearchArm) -> list[FrozenTrial]:
    """The arm's trials to repeat, the best first; of trials with the same values, one."""
    if not trials.search.confirm.seeds:
        return []
    sign = -1 if trials.definition.directions[0] == "maximize" else 1
    complete = sorted(trials.all(arm, TrialState.COMPLETE), key=lambda trial: (sign * trial.values[0], trial.number))
    different: list[FrozenTrial] = []
    for trial in complete:
        if all(trial.params != other.params for other in different):
            different.append(trial)
    top = different[: trials.search.confirm.top]
    tried = arm.first(trials.search)
    first = [trial for trial in different if any(values.items() <= trial.params.items() for values in tried)]
    return [trial for trial in different if trial in top or trial in first]


def open_repeats(trials: Trials, arm: SearchArm) -> Iterator[tuple[FrozenTrial, int]]:
    """(trial, seed) of what is still to be run; its trials have ended."""
    for trial in candidates(trials, arm):
        ended = trials.repeat_outcomes(arm, trial.number)
        yield from ((trial, seed) for seed in trials.search.confirm.seeds if seed not in ended)


def take(trials: Trials) -> Repeat | None:
    """Take the next repeat that no worker holds; None where none is left."""
    for arm in trials.definition.arms:
        if not trials.ended(arm):
            continue
        for trial, seed in open_repeats(trials, arm):
            paths = trials.paths.trial(arm.key, trial.number).repeat(seed)
            lease = trials.acquire(paths)
            if lease is not None and paths.outcome.exists():
                # Another worker's, settled since we looked.
                lease.release()
            elif lease is not None:
                tasks = trial_tasks(arm, trial.params, [seed])
                trials.note(paths, tasks, arm, trial.number)
                return Repeat(arm, trial.number, trial.params, lease, paths, tasks)
    return None


def all_done(trials: Trials, arm: SearchArm) -> bool:
    """Whether the arm's trials have ended, and the repeats of its best ones too."""
    return trials.ended(arm) and not any(open_repeats(trials, arm))


def expected(trials: Trials) -> bool:
    """Whether trials that others have will leave something to repeat."""
    return bool(trials.search.confirm.seeds) and not all(trials.ended(arm) for arm in trials.definition.arms)


def reopen(trials: Trials, code: str) -> None:
    """Forget failures under other code than this."""
    for arm in trials.definition.arms:
        for trial in candidates(trials, arm):
            for seed, outcome in trials.repeat_outcomes(arm, trial.number).items():
                if outcome["state"] == "failed" and outcome["snapshot"] != code:
                    trials.paths.trial(arm.key, trial.number).repeat(seed).outcome.unlink(missing_ok=True)


def winner(trials: Trials, arm: SearchArm) -> FrozenTrial | None:
    """The arm's winner so far; None: no trial is complete."""
    found = []
    for trial in trials.all(arm, TrialState.COMPLETE):
        ended = trials.repeat_outcomes(arm, trial.number)
        values = {seed: outcome["objectives"][0] for seed, outcome in ended.items() if outcome["objectives"]}
        found.append(Tried(trial.number, trial.values[0], values))
    best = winners.winner(found, trials.definition.directions[0], trials.search.confirm.seeds)
    return None if best is None else trials.all(arm)[best.number]
