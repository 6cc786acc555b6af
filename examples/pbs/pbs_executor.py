"""OpenPBS: each worker of a submission is a job, and all of them share its queue of tasks."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

from ablative.study.core.errors import AblateError
from ablative.study.core.typed import plain
from ablative.sweeps.queue import manifest
from ablative.sweeps.queue.manifest import Array, Job, WorkerLayout
from ablative.sweeps.submission import local
from ablative.sweeps.submission.local import ending, invalidate_cache, last_error_line, output, queue_summary, withdraw

__all__ = ["ending", "invalidate_cache", "last_error_line", "output", "queue_summary", "withdraw"]

GONE = (35, 153)
"""Exit codes of `qstat` for a job that has ended, and for one that is not known; of others a job may live."""


def arrange(plan, tasks, new, jobs, prefix):
    """Workers for these tasks; the manifest keeps what each asks the scheduler for."""
    count = max(1, min(jobs or plan.cluster.jobs or 1, len(tasks)))
    return WorkerLayout(count, (), (Array(prefix, ((),) * count, plain(plan.cluster)),))


def search_layout(plan, jobs, left, prefix):
    """Workers that look for a search's trials themselves."""
    return arrange(plan, range(sum(left.values())), frozenset(), jobs, prefix)


def launch(home, submission, environment):
    """One `qsub` for each worker; the manifest notes the jobs."""
    found = manifest.read(submission)
    cluster = found.arrays[0].cluster
    resources = f"walltime={int(3600 * cluster['hours'])},select=1:ncpus={cluster['cpus']}"
    submission.jobs.mkdir(parents=True, exist_ok=True)
    jobs = []
    for index in range(found.workers):
        arguments = (str(home.root), found.study, submission.root.name, index)
        worker = [sys.executable, "-c", f"from ablative.sweeps.worker.worker import work; work{arguments}"]
        script, log = submission.jobs / f"{index}.sh", submission.jobs / f"{index}_log.err"
        script.write_text(f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(worker)}\n")
        command = ["qsub", "-V", "-j", "oe", "-o", str(log), "-l", resources, str(script)]
        variables = {**os.environ, **environment}
        done = subprocess.run(command, check=False, env=variables, capture_output=True, text=True)
        if done.returncode:
            raise AblateError(f"qsub refused a worker: {done.stderr.strip()}")
        jobs.append(Job(done.stdout.strip(), "", "pbs", 0))
    found.with_jobs(tuple(jobs)).write(submission)


def live_jobs(submission, manifest):
    """Jobs that wait or run; while the submission is being made, what stands for them."""
    if not manifest.jobs:
        return local.live_jobs(submission, manifest)
    return tuple(job for job in manifest.jobs if _call("qstat", job.job_id) not in GONE)


def held(submission, manifest):
    """Every worker has the whole queue before it."""
    return frozenset(task.task_id for task in manifest.tasks) if live_jobs(submission, manifest) else frozenset()


def stop(jobs, force):
    """SIGTERM, on which a worker saves; with `force`, at once."""
    for job in jobs:
        _call("qdel", *(("-W", "force") if force else ()), job.job_id)


def _call(*command):
    return subprocess.run(command, check=False, capture_output=True).returncode
