"""The code that a plan's jobs run: packages of this program and of the trainer, and a user's repository if any."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.sweeps.queue import repository, repository_copy, snapshot
from ablative.sweeps.queue.manifest import of_all
from ablative.sweeps.queue.repository import Repository
from ablative.sweeps.queue.snapshot import Commit


@dataclass(frozen=True)
class JobCode:
    """Code of a plan's jobs."""

    snapshot: str
    """Hash of the packages."""
    repository: Repository | None
    trained_by: tuple[str, ...]
    """The trainer's packages."""

    @property
    def digest(self) -> str:
        """Hash of all of it: where it is another, a task that failed may end otherwise."""
        return of_all(self.snapshot, self.copy)

    @property
    def copy(self) -> str:
        """Name of the repository's copy; empty: there is none."""
        return self.repository.key if self.repository else ""

    @cached_property
    def commit(self) -> Commit:
        """The repository's; without one, that of the trainer's packages."""
        return self.repository.commit() if self.repository else snapshot.commit(self.trained_by)

    def environment(self, home: Home) -> dict[str, str]:
        """Variables under which a job runs it and knows which code it is."""
        own = repository_copy.variables(home, self.repository) if self.repository else {}
        return snapshot.environment(home, self.snapshot, self.commit) | own


def current(plan: Plan) -> JobCode:
    """The code as it is now, without copying it.

    Raises:
        ConfigError: it is not there, or holds more than a copy may.
    """
    found = repository.look(plan.code, plan.home) if plan.code else None
    return JobCode(snapshot.current(plan.trainer.packages), found, tuple(plan.trainer.packages))


def freeze(plan: Plan) -> JobCode:
    """Copy the code into the home for the jobs.

    Raises:
        ConfigError: as `current`.
        AblateError: the repository changed meanwhile.
        OSError: the home is full or read-only.
    """
    found = repository.look(plan.code, plan.home) if plan.code else None
    taken = snapshot.take(plan.home, plan.trainer.packages)
    if found:
        repository_copy.take(plan.home, found)
    return JobCode(taken.digest, found, tuple(plan.trainer.packages))
