"""Names of the files of one submission."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SubmissionPaths:
    """Files of one `ablate submit`, `$ABLATE_HOME/studies/<study>/submissions/<stamp>`."""

    root: Path

    @property
    def manifest(self) -> Path:
        """Task ids, job ids, executor, snapshot: what was submitted."""
        return self.root / "submission.json"

    @property
    def search(self) -> Path:
        """What a search's workers look for, and among what (JSON); absent where tasks are queued."""
        return self.root / "search.json"

    @property
    def jobs(self) -> Path:
        """Submitit's folder: pickles and the scheduler's logs."""
        return self.root / "jobs"

    @property
    def alive(self) -> Path:
        """Touched by the submission's workers: the heartbeat that other hosts can see."""
        return self.root / "alive"

    @property
    def stopped(self) -> Path:
        """Why no further task of this submission is to be started (JSON): identical failures, or the user."""
        return self.root / "stopped.json"

    @property
    def launch_log(self) -> Path:
        """What the launcher of local jobs printed; empty when all went well."""
        return self.root / "launch.log"

    @property
    def launching(self) -> Path:
        """Claim of the process that is handing the submission's arrays to the scheduler."""
        return self.root / "launching"

    def output(self, job_id: str) -> Path:
        """What an array element printed beside its tasks' logs, as Submitit names it; `job_id` as in `123_4`."""
        return self.jobs / f"{job_id}_0_log.out"

    def errors(self, job_id: str) -> Path:
        return self.jobs / f"{job_id}_0_log.err"

    @property
    def patch(self) -> Path:
        """Difference of the submitted code to its commit; absent where there is none."""
        return self.root / "code.patch"

    @property
    def ended(self) -> Path:
        """Present once the submission's jobs were found gone, so that nobody looks for them again."""
        return self.root / "ended"

    @property
    def shipper(self) -> Path:
        """Claim of the worker that ships journals beside its tasks."""
        return self.root / "shipper"
