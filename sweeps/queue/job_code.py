"""The code that a plan's jobs run: packages of this program and of the trainer, and a user's repository if any."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ablative.study.core.plurals import counted
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.sweeps.queue import repository, repository_copy, snapshot
from ablative.sweeps.queue.manifest import of_all
from ablative.sweeps.queue.repository import Repository
from ablative.sweeps.queue.repository_files import MIB
from ablative.sweeps.queue.snapshot import Commit

FEW = 6
"""So many of the files that are not frozen are named."""


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

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines on the user's repository: what jobs run, and what of it may change under them."""
        return _notes(self.repository, self.commit) if self.repository else ()

    def to_json(self) -> dict[str, object]:
        """What `ablate plan --json` says of the user's repository; nothing without one."""
        if self.repository is None:
            return {}
        facts = {"commit": self.commit.commit or None, "dirty": self.commit.dirty, "sources": self.repository.sources}
        return {"folder": str(self.repository.root), **facts, "not_frozen": list(self.repository.not_frozen)}

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


def _notes(found: Repository, commit: Commit) -> tuple[str, ...]:
    size = sum(each.size for each in found.files) / MIB
    if not found.versioned:
        version = "in no git repository, so that results will name no commit"
    elif not commit.commit:
        version = "in a git repository without a commit"
    else:
        version = f"at commit {commit.commit[:10]}{', edited' if commit.dirty else ''}"
    lines = [f"Code: {found.root}, {version}; jobs run a copy ({counted(len(found.files), 'file')}, {size:,.1f} MiB)."]
    if loose := found.not_frozen:
        rest = f" and {len(loose) - FEW} more" if len(loose) > FEW else ""
        lines.append(f"Not frozen, since git ignores it or it lies elsewhere: {', '.join(loose[:FEW])}{rest}.")
    return tuple(lines)
