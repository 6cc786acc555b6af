"""Where jobs run, behind one interface: a module of functions for each kind of cluster.

An executor starts a submission's workers, says which of its jobs still live, and stops them. The code in the job
(`sweeps.worker`) is the same for all of them.
"""

from __future__ import annotations

import importlib
from typing import Protocol

from study.errors import ConfigError, unknown
from study.paths import Home, SubmissionPaths
from sweeps.manifest import Job, Manifest

MODULES = {"local": "sweeps.local"}


class Executor(Protocol):
    """What a module of `MODULES` provides."""

    def workers(self, wanted: int, tasks: int, threads: int) -> tuple[int, tuple[str, ...]]:
        """How many workers to start, and the GPUs to deal out to them."""

    def launch(self, home: Home, submission: SubmissionPaths, environment: dict[str, str]) -> None:
        """Start the manifest's workers, and write their jobs into the manifest; returns at once."""

    def live_jobs(self, submission: SubmissionPaths, manifest: Manifest) -> tuple[Job, ...]:
        """Jobs of the submission that run or wait in the scheduler's queue."""

    def last_words(self, submission: SubmissionPaths) -> str:
        """What the submission's jobs complained of last, on one line; empty when they did not."""

    def stop(self, jobs: tuple[Job, ...], force: bool) -> None:
        """Ask jobs to save and end; with `force`, kill them."""


def executor(kind: str) -> Executor:
    """The executor for a cluster's `kind`."""
    if kind not in MODULES:
        raise ConfigError(unknown("cluster kind", kind, MODULES))
    module: Executor = importlib.import_module(MODULES[kind])
    return module


def live_jobs(submission: SubmissionPaths, manifest: Manifest) -> tuple[Job, ...]:
    """Jobs of a submission that are not over, whatever executor it went to."""
    return executor(manifest.executor).live_jobs(submission, manifest)
