"""The trials of a search: who has which, which is next, and how they ended.

Optuna's storage keeps the trials; a lease in each trial's folder says whose it is. A worker takes its next trial
under one more lease (`asking`), so that a budget is never overdrawn, and a trial is never without a lease except when
its worker died. Such a trial is still RUNNING in the storage: the next worker that asks takes it up again, the same
trial with the same runs, which go on from their checkpoints. So nothing is lost, and nothing counts twice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

from ablative.study.core.errors import ConfigError
from ablative.study.core.files import read_json, write_json
from ablative.study.home.paths import Home
from ablative.study.home.search_paths import TrialPaths
from ablative.study.plan.search_arms import SearchArm
from ablative.study.plan.task import Task, TaskRef
from ablative.sweeps.queue import leases
from ablative.sweeps.queue.leases import Lease
from ablative.sweeps.search import methods
from ablative.sweeps.search.attributes import CODE, ERROR, LOSSES, RETRY, RUNS, SECONDS, SEEDS, attribute
from ablative.sweeps.search.definition import Definition, trial_tasks
from ablative.sweeps.search.storage import check_trials, name_goals, naming_journal, open_storage

OUTCOME = {"state": str, "objectives": ([float], None), "seconds": float, "snapshot": str}
"""Shape of a repeat's `outcome.json`."""
MOST_LOSSES = 4
"""A trial whose worker, or whose task, died this often from outside is given up: it may be what kills them."""

T = TypeVar("T")


@dataclass(frozen=True)
class Taken:
    """A trial that this process has."""

    arm: SearchArm
    trial: optuna.Trial
    lease: Lease
    paths: TrialPaths
    tasks: tuple[Task, ...]
    """Tasks of a run for each seed, each after those that it needs."""

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def first(self) -> Task:
        """The task that opens the run of the first seed, by which the trial may be pruned."""
        return next(task for task in self.tasks if opens_run(task))


class Trials:
    """A search's trials as one worker, or the command that started it, sees them."""

    def __init__(self, definition: Definition, home: Home, job: str = "", stale_seconds: float = 60.0) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.definition, self.search = definition, definition.search
        self.paths = home.study(definition.study).search
        self._job, self._stale = job, stale_seconds
        storage = open_storage(self.paths)
        pruner = methods.make_pruner(self.search)
        samplers = {arm.key: methods.make_sampler(self.search, 0) for arm in definition.arms}
        with naming_journal(self.paths):
            self.studies = {
                arm.key: optuna.create_study(
                    storage=storage,
                    study_name=definition.optuna_name(arm),
                    directions=definition.directions,  # type: ignore[arg-type]
                    pruner=pruner,
                    sampler=samplers[arm.key],
                    load_if_exists=True,
                )
                for arm in definition.arms
            }
            for study in self.studies.values():
                check_trials(study, self.paths.storage)
                name_goals(study, definition.goals)

    def prepare(self, code: str, tried: dict[str, list[dict[str, Any]]] | None = None) -> None:
        """Enqueue what is to be tried first, and again each trial that failed under other code.

        Args:
            code: hash of the code that will run.
            tried: values that finished runs of the study have, for each arm's key (warm start).
        """
        with self._asking():
            for arm in self.definition.arms:
                study = self.studies[arm.key]
                for values in (*arm.first(self.search), *(tried or {}).get(arm.key, [])):
                    study.enqueue_trial(dict(values), skip_if_exists=True)
                retried = self._retried(arm)
                for trial in self.all(arm, TrialState.FAIL):
                    if trial.number not in retried and self.attribute(trial, CODE, code) != code:
                        study.enqueue_trial(trial.params, user_attrs={RETRY: trial.number})

    def all(self, arm: SearchArm, *states: TrialState) -> list[FrozenTrial]:
        """Trials of an arm, or those in some states."""
        return self.studies[arm.key].get_trials(deepcopy=False, states=states or None)

    def attribute(self, trial: FrozenTrial, name: str, default: T) -> T:
        """What a trial carries under a name of `attributes`."""
        return attribute(trial, name, default, self.paths)

    def _retried(self, arm: SearchArm) -> set[int]:
        """Numbers of the trials that were begun anew."""
        return {self.attribute(trial, RETRY, -1) for trial in self.all(arm)}

    def counted(self, arm: SearchArm) -> list[FrozenTrial]:
        """Trials that the budget pays for: all that were asked for, but a failed one that was begun anew."""
        retried = self._retried(arm)
        return [t for t in self.all(arm) if t.state != TrialState.WAITING and t.number not in retried]

    def hours(self, arm: SearchArm) -> float:
        """Hours of work that the arm's trials and their repeats have cost."""
        seconds: float = sum(self.attribute(trial, SECONDS, 0.0) for trial in self.all(arm))
        for trial in self.all(arm, TrialState.COMPLETE) if self.search.confirm.seeds else ():
            seconds += sum(outcome["seconds"] for outcome in self.repeat_outcomes(arm, trial.number).values())
        return seconds / 3600

    def spent(self, arm: SearchArm) -> bool:
        """Whether no further trial of the arm is to begin."""
        counted = self.counted(arm)
        if self.search.budget.hours and self.hours(arm) >= self.search.budget.hours:
            return True
        most = self.search.budget.trials
        return (bool(most) and len(counted) >= most) or self._grid_is_done(arm, counted)

    def ended(self, arm: SearchArm) -> bool:
        """Whether the arm's budget is spent and all trials that it bought have ended."""
        return self.spent(arm) and not self.all(arm, TrialState.RUNNING)

    def repeat_outcomes(self, arm: SearchArm, number: int) -> dict[int, dict[str, Any]]:
        """Seed → how the trial's repeat with that seed ended, for the repeats that have ended."""
        paths = self.paths.trial(arm.key, number)
        found = {seed: read_json(paths.repeat(seed).outcome, OUTCOME) for seed in self.search.confirm.seeds}
        return {seed: outcome for seed, outcome in found.items() if outcome is not None}

    def take(self) -> Taken | None:
        """The next trial: one that a dead worker left, else a new one of the arm with the fewest; None: nothing to do.

        A set of values that cannot be trained is a failed trial, and the next one is taken.
        """
        while True:
            with self._asking():
                found = self._left_behind() or self._ask()
            if found is None:
                return None
            if (taken := self._begin(*found)) is not None:
                return taken

    def complete(self, taken: Taken, by_seed: list[list[float]]) -> None:
        """Report the means over seeds to Optuna, and give the trial back."""
        taken.trial.set_user_attr(SEEDS, by_seed)
        self._tell(taken, TrialState.COMPLETE, [sum(column) / len(column) for column in zip(*by_seed, strict=True)])

    def prune(self, taken: Taken, why: str) -> None:
        """Report that the trial was pruned, or that it diverged (samplers keep away from it)."""
        taken.trial.set_user_attr("why", why)
        self._tell(taken, TrialState.PRUNED)

    def fail(self, taken: Taken, error: str, code: str) -> None:
        """A failure of the code or the data, whose trial is begun anew under other code; without `code`, never."""
        taken.trial.set_user_attr(ERROR, error)
        if code:
            taken.trial.set_user_attr(CODE, code)
        self._tell(taken, TrialState.FAIL)

    def lose(self, taken: Taken, error: str, code: str) -> None:
        """A task of the trial died from outside: leave the trial to be taken up again, but not for ever."""
        losses = self.attribute(self.all(taken.arm)[taken.number], LOSSES, 0) + 1
        taken.trial.set_user_attr(LOSSES, losses)
        if losses >= MOST_LOSSES:
            self.fail(taken, error, code)
        else:
            taken.lease.release()

    def acquire(self, paths: TrialPaths) -> Lease | None:
        """The trial, or the repeat, unless a living worker has it."""
        paths.root.mkdir(parents=True, exist_ok=True)
        return leases.acquire(paths.lease, self._job, self._stale)

    def note(self, paths: TrialPaths, tasks: tuple[Task, ...], arm: SearchArm, number: int) -> None:
        """Write down which tasks a trial has, for the process that uploads their journals."""
        planned = self.definition.planned
        write_json(paths.tasks, [_queued(task, arm, number, planned.get(task.task_id, [])) for task in tasks])

    def _tell(self, taken: Taken, state: TrialState, values: list[float] | None = None) -> None:
        # No other process does: we hold its lease. But we may be doing so again, killed right after the first time.
        self.studies[taken.arm.key].tell(taken.number, values, state=state, skip_if_finished=True)
        taken.lease.release()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """One process at a time; a dead one's turn is over."""
        self.paths.root.mkdir(parents=True, exist_ok=True)
        while (turn := leases.acquire(self.paths.asking, self._job, self._stale)) is None:
            time.sleep(0.01)
        try:
            yield
        finally:
            turn.release()

    def _left_behind(self) -> tuple[SearchArm, int, Lease] | None:
        """A running trial that no worker holds; it counts as lost once more where its worker died."""
        for arm in self.definition.arms:
            for trial in self.all(arm, TrialState.RUNNING):
                paths = self.paths.trial(arm.key, trial.number)
                died = paths.lease.exists()
                lease = self.acquire(paths)
                if lease is None:
                    continue
                # Its worker may have reported it, and given it back, since we looked.
                if self.all(arm)[trial.number].state != TrialState.RUNNING:
                    lease.release()
                    continue
                if died:
                    self._open(arm, trial.number).set_user_attr(LOSSES, self.attribute(trial, LOSSES, 0) + 1)
                return arm, trial.number, lease
        return None

    def _ask(self) -> tuple[SearchArm, int, Lease] | None:
        open_arms = [arm for arm in self.definition.arms if not self.spent(arm)]
        if not open_arms:
            return None
        arm = min(open_arms, key=lambda arm: len(self.counted(arm)))
        study = self.studies[arm.key]
        study.sampler = methods.make_sampler(self.search, len(self.all(arm)))
        trial = study.ask()
        methods.suggest(trial, arm, self.search.parameters)
        lease = self.acquire(self.paths.trial(arm.key, trial.number))
        assert lease is not None, "a new trial's number is ours alone"
        return arm, trial.number, lease

    def _begin(self, arm: SearchArm, number: int, lease: Lease) -> Taken | None:
        trial, paths = self._open(arm, number), self.paths.trial(arm.key, number)
        # A worker that died while it asked left some parameters without values; the others stay as they are.
        values = methods.suggest(trial, arm, self.search.parameters)
        try:
            tasks = trial_tasks(arm, values, self.search.seeds)
        except ConfigError as error:
            self.fail(Taken(arm, trial, lease, paths, ()), str(error), "")
            return None
        taken = Taken(arm, trial, lease, paths, tasks)
        if self.attribute(self.all(arm)[number], LOSSES, 0) >= MOST_LOSSES:
            self.fail(taken, f"its workers died {MOST_LOSSES} times", "")
            return None
        trial.set_user_attr(RUNS, [task.run_id for task in tasks if opens_run(task)])
        self.note(paths, tasks, arm, number)
        return taken

    def _open(self, arm: SearchArm, number: int) -> optuna.Trial:
        """A trial that is there already, as an object to report to."""
        return optuna.Trial(self.studies[arm.key], self.all(arm)[number]._trial_id)

    def _grid_is_done(self, arm: SearchArm, counted: list[FrozenTrial]) -> bool:
        if self.search.sampler.name != "grid" or self.all(arm, TrialState.WAITING):
            return False
        points = {trial.system_attrs["grid_id"] for trial in counted if "grid_id" in trial.system_attrs}
        return len(points) >= methods.grid_size(self.search)


def opens_run(task: Task) -> bool:
    """Whether a run begins with this task; one that does not depend on the seed belongs to none."""
    return task.opens and task.seeded


def _queued(task: Task, arm: SearchArm, number: int, cells: list[dict[str, str]]) -> dict[str, Any]:
    """A task as it is shipped; it is in no cell unless the grid has it, or its run, too."""
    stage = "" if opens_run(task) else f" [{task.stage}]"
    # What does not depend on the seed is one task of many trials.
    name = f"{arm.name} trial={number} seed={task.seed}{stage}" if task.seeded else f"trials{stage}"
    return {**TaskRef.of(task).to_json(), "cells": cells, "name": name}
