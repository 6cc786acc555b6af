"""`ablate search`: starts workers for what is left of a search, and watches them. Nothing depends on it to survive."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState

from ablative.study.core.errors import ConfigError
from ablative.study.core.files import read_json, write_json
from ablative.study.core.identity import differences
from ablative.study.core.plurals import counted
from ablative.study.home.paths import SubmissionPaths
from ablative.study.home.task_state import directory_state
from ablative.study.plan.plan import Plan
from ablative.study.plan.search_arms import SearchArm
from ablative.study.plan.task import Task
from ablative.study.spec.search import inside
from ablative.sweeps.queue import job_code, manifest
from ablative.sweeps.queue.executors import executor, live_jobs
from ablative.sweeps.queue.manifest import Job, Manifest
from ablative.sweeps.search import repeats, results
from ablative.sweeps.search.definition import Definition
from ablative.sweeps.search.trials import Trials
from ablative.sweeps.status.task_states import stale_seconds
from ablative.sweeps.submission.submit import TRAINER, Code, hand_over, new_stamp, prefix, prepare_home, require_extras

POLL_SECONDS = 0.5
RESTARTS = 3
"""How often workers are started again while no trial ends."""
UNLIMITED = 10**6
"""Trials, where the budget is in hours."""


@dataclass
class Searcher:
    """A study's search as its user drives it; `say` prints one line."""

    plan: Plan
    jobs: int
    say: Callable[[str], None]
    code: Code = TRAINER
    own: list[SubmissionPaths] = field(default_factory=list)
    """Submissions that we made, and whose workers we stop on Ctrl-C."""

    def __post_init__(self) -> None:
        if self.plan.study.search is None:
            raise ConfigError(f"study '{self.plan.study.name}' has no `search` section")
        prepare_home(self.plan.home)
        self.definition = Definition.of(self.plan)
        self.trials = Trials(self.definition, self.plan.home, "", stale_seconds(self.plan))

    @property
    def done(self) -> bool:
        return all(repeats.all_done(self.trials, arm) for arm in self.definition.arms)

    def start(self) -> bool:
        """Start workers unless some live or nothing is left; true where there are any now."""
        if self.done:
            return False
        if any(jobs for _, _, jobs in self._live()):
            return True
        require_extras(self.code, self.plan)
        code = job_code.current(self.plan).digest
        self.trials.prepare(code, self._tried())
        repeats.reopen(self.trials, code)
        stamp = new_stamp()
        wanted = self.jobs or self.definition.search.parallel
        left = {arm.name: self._left(arm) or self._repeats_left(arm) for arm in self.definition.arms}
        layout = executor(self.plan.cluster.kind).search_layout(self.plan, wanted, left, prefix(self.plan, stamp))
        paths, warning = hand_over(self.plan, (), layout, self.code, stamp, self.definition.write)
        self.own.append(paths)
        if warning:
            self.say(warning)
        self.say(f"{counted(layout.workers, 'worker')} for {self._rest()}")
        return True

    def watch(self) -> bool:
        """Wait until the budget is spent, starting workers again where they died; true when it is."""
        restarts, ended, told = 0, -1, ""
        while self.start_again(restarts):
            while any(jobs for _, _, jobs in self._live()):
                told = self._tell(told)
                time.sleep(POLL_SECONDS)
            count = self._ended()
            restarts, ended = (restarts + 1, ended) if count == ended else (0, count)
        self._tell(told)
        results.write(self.trials)
        return self.done

    def start_again(self, restarts: int) -> bool:
        """Start workers unless they keep dying, or stopped for a reason."""
        for paths in self.own:
            if (stopped := read_json(paths.stopped, {"reason": str})) is not None:
                self.say(f"stopped: {stopped['reason']}")
                return False
        if restarts >= RESTARTS:
            self.say(f"the workers end with work left: {self._last_error_line()}")
            return False
        return self.start()

    def stop(self, everybody: bool = False) -> int:
        """Let our workers (or all of the search's) save and end; how many there were."""
        count = 0
        for paths, found, jobs in self._live():
            if everybody or paths in self.own:
                write_json(paths.stopped, {"reason": "interrupted by the user", "fingerprint": ""})
                executor(found.executor).stop(jobs, force=False)
                count += len(jobs)
        while any(jobs for paths, _, jobs in self._live() if everybody or paths in self.own):
            time.sleep(0.1)
        return count

    def to_json(self) -> list[dict[str, Any]]:
        """Each arm with its states and its best trial so far."""
        found = []
        for arm in self.definition.arms:
            told = results.result(self.trials, arm)
            states = Counter(trial["state"] for trial in told["trials"])
            found.append(
                {
                    "arm": arm.name,
                    "cell": arm.cell,
                    "optuna_study": self.definition.optuna_name(arm),
                    "budget": self.definition.search.budget.trials,
                    "counted": len(self.trials.counted(arm)),
                    "states": dict(states),
                    "done": repeats.all_done(self.trials, arm),
                    "hours": told["hours"],
                    "best": told["best"],
                    "front": told["front"],
                    "trials": told["trials"],
                }
            )
        return found

    def _live(self) -> Iterator[tuple[SubmissionPaths, Manifest, tuple[Job, ...]]]:
        """Searching submissions of this study with the jobs that live."""
        for paths, found in manifest.submissions(self.plan.home, self.plan.study.name):
            if paths.search.exists():
                yield paths, found, live_jobs(paths, found)

    def _left(self, arm: SearchArm) -> int:
        """Trials of an arm that may still begin, or go on."""
        budget = self.definition.search.budget.trials or UNLIMITED
        new = 0 if self.trials.spent(arm) else max(0, budget - len(self.trials.counted(arm)))
        return new + len(self.trials.all(arm, TrialState.RUNNING))

    def _repeats_left(self, arm: SearchArm) -> int:
        return len(list(repeats.open_repeats(self.trials, arm))) if self.trials.ended(arm) else 0

    def _rest(self) -> str:
        """What is left, in words."""
        left, again = (sum(map(count, self.definition.arms)) for count in (self._left, self._repeats_left))
        words = [f"{left} trials" if left < UNLIMITED else "trials until the hours are spent"] if left else []
        return " and ".join([*words, *([f"{again} repeats of the best"] if again else [])])

    def _ended(self) -> int:
        """Trials and repeats that have ended: their number grows as long as the workers make progress."""
        trials = [(arm, trial) for arm in self.definition.arms for trial in self.trials.all(arm)]
        again = sum(len(self.trials.repeat_outcomes(arm, trial.number)) for arm, trial in trials)
        return again + sum(trial.state.is_finished() for _, trial in trials)

    def _last_error_line(self) -> str:
        found = [manifest.read(paths) for paths in self.own[-1:]]
        words = [executor(one.executor).last_error_line(self.own[-1]) for one in found if one is not None]
        return next(iter(words), "") or "see their logs"

    def _tell(self, before: str) -> str:
        """Say where the arms stand, if that is news."""
        parts = []
        for arm in self.definition.arms:
            ended = sum(trial.state.is_finished() for trial in self.trials.counted(arm))
            complete = self.trials.all(arm, TrialState.COMPLETE)
            best = ""
            if complete and len(self.definition.directions) == 1:
                best = f", best {self.trials.studies[arm.key].best_value:.4g}"
            again = sum(len(self.trials.repeat_outcomes(arm, t.number)) for t in repeats.candidates(self.trials, arm))
            repeated = f", {again} repeats" if again else ""
            parts.append(f"{arm.name} {ended}{self._of()}{best}{repeated}")
        text = "; ".join(parts)
        if text != before:
            self.say(text)
        return text

    def _of(self) -> str:
        """`/20`, of a budget in trials."""
        return f"/{self.definition.search.budget.trials}" if self.definition.search.budget.trials else ""

    def _tried(self) -> dict[str, list[dict[str, Any]]]:
        """Parameters of the study's finished runs, by the arm in whose space they lie (warm start)."""
        search = self.definition.search
        if not search.warm_start:
            return {}
        home, found = self.plan.home, dict[str, list[dict[str, Any]]]()
        done = [task for task in self.plan.runs if directory_state(task.paths(home)).state == "completed"]
        for arm in self.definition.arms:
            for task in (task for task in done if task.seed in search.seeds):
                values = self._values(arm, task)
                if values is not None and values not in found.setdefault(arm.key, []):
                    found[arm.key].append(values)
        return found

    def _values(self, arm: SearchArm, task: Task) -> dict[str, Any] | None:
        """What a run has for the parameters, where it is the arm's run in everything else."""
        search = self.definition.search
        changed = {key: new for key, (_, new) in differences(arm.run, task.config).items() if key in search.parameters}
        with contextlib.suppress(ConfigError):
            same = any(other.task_id == task.task_id for other in arm.tasks(changed, task.seed))
            flat = arm.flat()
            every = {key: changed.get(key, flat[key]) for key in arm.active(search.parameters, {**flat, **changed})}
            if same and all(inside(search.parameters[key], value) for key, value in every.items()):
                return every
        return None
