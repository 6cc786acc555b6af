"""The shipper beside a submission's workers: one of them keeps it running, and has it ship the rest at the end.

Nothing here may hold up or end the work: what is not shipped waits in the journals for `ablate sync`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ablative.study.core.registry import load
from ablative.study.core.secrets import redact
from ablative.study.home.paths import Home, SubmissionPaths
from ablative.study.plan.task import TaskRef
from ablative.sweeps.queue import leases
from ablative.sweeps.queue.manifest import Manifest
from ablative.sweeps.tracking.upload_client import UploadClient


class JournalUpload:
    """Keeps one shipper for a whole submission, whichever of its workers are alive."""

    def __init__(
        self,
        home: Home,
        submission: SubmissionPaths,
        queue: Manifest,
        job: str,
        tasks: Callable[[], Iterable[TaskRef]],
    ) -> None:
        """`tasks`: those to ship, asked at every heartbeat; of a search, they grow more."""
        self.home, self.submission, self.queue, self.job = home, submission, queue, job
        self._tasks = tasks
        self._lease: leases.Lease | None = None
        self._client: UploadClient | None = None
        self._broken = not queue.shipper

    def keep(self) -> None:
        """Take the shipping over if nobody has it; called at every heartbeat."""
        if self._lease is not None:
            self._guard(self._lease.heartbeat)
            # Told again, it starts a process that has died, and does nothing while one lives.
            self._guard(self._follow)
        elif not self._broken:
            self._guard(self._begin)

    def finish(self) -> None:
        """Ship what is left and let another worker have the shipping."""
        if self._client is not None:
            self._guard(self._follow)
            self._guard(self._client.close)
        if self._lease is not None:
            self._guard(self._lease.release)

    def _begin(self) -> None:
        self._lease = leases.acquire(self.submission.shipper, self.job, self.queue.stale_seconds)
        if self._lease is None:
            return
        # Its thread, which feeds a pipe, is the only one in this process and holds nothing that a forked task uses.
        self._client = load(self.queue.shipper)(self.queue.study, self.home)
        self._follow()

    def _follow(self) -> None:
        assert self._client is not None
        for task in self._tasks():
            self._client.follow(task)

    def _guard(self, action: Callable[[], object]) -> None:
        """Tracking may fail in any way it likes: it is told once, and the work goes on without it."""
        try:
            action()
        except Exception as error:
            self._broken = True
            print(f"tracking: {type(error).__name__}: {redact(str(error))}; `ablate sync` ships the rest", flush=True)
