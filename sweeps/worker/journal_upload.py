"""Upload of journals while a submission's workers run: one of them keeps the upload process alive.

No error here may delay or end the work: what is not uploaded waits in the journals for `ablate sync`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from ablative.study.core.registry import load
from ablative.study.core.secrets import redact
from ablative.study.home.paths import Home, SubmissionPaths
from ablative.study.plan.task import TaskRef
from ablative.sweeps.queue import leases
from ablative.sweeps.queue.manifest import Manifest
from ablative.sweeps.tracking.upload_client import UploadClient
from ablative.sweeps.tracking.uri import DEFAULT, store_key

TRACKING = "MLFLOW_TRACKING_URI"


class JournalUpload:
    """Keeps one upload process for a whole submission, as long as any of its workers lives."""

    def __init__(
        self,
        home: Home,
        submission: SubmissionPaths,
        queue: Manifest,
        job: str,
        tasks: Callable[[], Iterable[TaskRef]],
    ) -> None:
        """`tasks` returns the tasks to upload; called at every heartbeat, since a search adds tasks."""
        self.home, self.submission, self.queue, self.job = home, submission, queue, job
        self._tasks = tasks
        self._lease: leases.Lease | None = None
        self._client: UploadClient | None = None
        self._broken = not queue.shipper or not _tracks_where_its_submitter_does(queue, home)

    def keep(self) -> None:
        """Start the upload process if no worker keeps one, restart it if it died; called at every heartbeat."""
        if self._lease is not None:
            self._guard(self._lease.heartbeat)
            # Called again, it starts a process that has died, and does nothing while one lives.
            self._guard(self._follow)
        elif not self._broken:
            self._guard(self._begin)

    def finish(self) -> None:
        """Upload what is left and give the lease back, so that another worker can take the upload over."""
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
        """Call `action`; on any error of tracking print one line, and go on without uploading."""
        try:
            action()
        except Exception as error:
            self._broken = True
            print(f"tracking: {type(error).__name__}: {redact(str(error))}; `ablate sync` ships the rest", flush=True)


def _tracks_where_its_submitter_does(queue: Manifest, home: Home) -> bool:
    """Have this process ship to the submitter's store; false, with a line, where its address has not reached the job.

    A scheduler may start jobs without the submitter's environment: what they ship would fill a store of their own.
    """
    if queue.address:
        os.environ[TRACKING] = queue.address
    elif queue.store == DEFAULT:
        os.environ.pop(TRACKING, None)
    if not queue.store or store_key(home) == queue.store:
        return True
    print(
        f"tracking: {TRACKING} names another store here than where this was submitted, whose address holds a secret "
        "and has to be in the environment of jobs; results are kept in journals, and `ablate sync` ships them",
        flush=True,
    )
    return False
