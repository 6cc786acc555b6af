"""This machine as a cluster: Submitit's local executor, detached from the terminal.

What Submitit 1.5 does locally: each job is a controller process (`submitit.local._local`) that starts the worker,
looks 24 times a second whether it has ended, passes SIGTERM on to it, and ends with it. The controller stays in
the submitter's session and keeps its standard output open, so Ctrl-C and a closing terminal would reach
it, and `ablate submit | tee log` would hang until the last task is done. Hence the launcher: a process in a
new session that submits and ends, and whose output is a file. Linux shares the processors between sessions
first, so that `nice` would end there: the new session takes it over (`give_way`). Submitit also ends jobs after
two minutes by default, and shows them no GPU (`CUDA_VISIBLE_DEVICES` is empty); the worker puts its own back.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ablative.study.core.errors import AblateError
from ablative.study.core.processes import without_peers
from ablative.study.core.secrets import guard, shielded
from ablative.study.home.paths import Home, SubmissionPaths, TaskPaths
from ablative.sweeps.queue import leases, manifest
from ablative.sweeps.queue.manifest import Job, Manifest, WorkerLayout

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task
    from ablative.study.spec.runtime import RuntimeConfig

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
TIMEOUT_MINUTES = 10 * 365 * 24 * 60
"""Submitit wants a time limit; this machine has none."""
AUTOGROUP = Path("/proc/self/autogroup")
"""A session's share of the processors (sched(7)), where the kernel has such groups: `/autogroup-123 nice 5`."""
LAUNCH_SECONDS = 120.0
"""A submission without jobs after this time was abandoned by its launcher."""


def arrange(plan: Plan, tasks: tuple[Task, ...], new: frozenset[str], jobs: int, prefix: str) -> WorkerLayout:
    """Workers that share the whole queue, and the GPUs to deal out to them where a task may use one."""
    return _layout({task.runtime for task in tasks}, jobs or plan.cluster.jobs, len(tasks))


def search_layout(plan: Plan, jobs: int, left: Mapping[str, int], prefix: str) -> WorkerLayout:
    """Workers for a search."""
    return _layout(
        {stage.runtime for arm in plan.arms for stage in arm.stages}, jobs or plan.cluster.jobs, sum(left.values())
    )


def _layout(runtimes: set[RuntimeConfig], wanted: int, most: int) -> WorkerLayout:
    processes = max(runtime.processes for runtime in runtimes)
    threads = max(runtime.threads for runtime in runtimes) * processes
    count, devices = workers(wanted, most, threads, processes)
    return WorkerLayout(count, devices if any(runtime.device != "cpu" for runtime in runtimes) else ())


def workers(wanted: int, tasks: int, threads: int, processes: int = 1) -> tuple[int, tuple[str, ...]]:
    """Number of worker jobs, and the GPUs to deal out to them, as many at a time as a task has processes.

    Args:
        wanted: the user's number; 0 takes one for each GPU, or without GPUs as many as the cores allow.
        tasks: tasks in the queue; more workers than that are useless.
        threads: CPU threads of a task (0: a library's choice, that is all cores).
        processes: of a task; where there are fewer GPUs than that, the task gets them all, and says what it misses.
    """
    found = gpus()
    devices = tuple(",".join(found[i : i + processes]) for i in range(0, len(found) - processes + 1, processes))
    if found and not devices:
        devices = (",".join(found),)
    available = cores()
    default = len(devices) or available // (threads or available)
    return max(1, min(wanted or default, tasks)), devices


def cores() -> int:
    """Cores that this process may use: its affinity, and its container's quota where there is one."""
    available = len(os.sched_getaffinity(0))
    try:
        quota, period = CPU_QUOTA.read_text().split()
    except (OSError, ValueError):
        return available
    return available if quota == "max" else max(1, min(available, int(quota) // int(period)))


def gpus() -> tuple[str, ...]:
    """GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them; asks no driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    devices = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return tuple(str(index) for index in range(len(devices)))


def launch(home: Home, submission: SubmissionPaths, environment: dict[str, str]) -> None:
    """Start the manifest's workers; they outlive this process and its terminal.

    Args:
        home: the home.
        submission: of a written manifest; its jobs are filled in.
        environment: variables on top of this process's.

    Raises:
        AblateError: the launcher failed; the message ends with its last line.
    """
    submission.jobs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ablative.sweeps.submission.local", str(home.root), str(submission.root)]
    command.append(str(niceness()))
    with submission.launch_log.open("ab") as log:
        process = subprocess.run(
            command,
            check=False,
            env={**without_peers(os.environ), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if process.returncode:
        lines = submission.launch_log.read_text().strip().splitlines() or [f"exit code {process.returncode}"]
        raise AblateError(f"the workers could not be started: {lines[-1]} (whole text: {submission.launch_log})")


def niceness() -> int:
    """How far this process gives way to others: by its own nice value, or by its session's; at least 0."""
    try:
        session = int(AUTOGROUP.read_text().split()[-1])
    except (OSError, ValueError, IndexError):
        session = 0
    return max(0, os.nice(0), session)


def give_way(nice: int) -> None:
    """Let this process's session, which must be its own, give way to other sessions; without such groups, nothing."""
    if nice > 0:
        with contextlib.suppress(OSError):  # no such file; or the system changes only so many groups in a second
            AUTOGROUP.write_text(str(nice))


def live_jobs(submission: SubmissionPaths, manifest: Manifest) -> tuple[Job, ...]:
    """Jobs whose process lives; on another host, all of them while the submission has a heartbeat."""
    if not manifest.jobs:
        age = time.time() - submission.manifest.stat().st_mtime
        starting = Job("starting", socket.gethostname(), "", 0)
        return (starting,) if age < LAUNCH_SECONDS else ()
    here = leases.identify()
    return tuple(
        job
        for job in manifest.jobs
        if (
            leases.process_alive(int(job.job_id), job.start)
            if (job.host, job.scope) == (here.host, here.scope)
            else _age(submission.alive) < manifest.stale_seconds
        )
    )


def held(submission: SubmissionPaths, manifest: Manifest) -> frozenset[str]:
    """Every worker has the whole queue before it."""
    return frozenset(task.task_id for task in manifest.tasks) if live_jobs(submission, manifest) else frozenset()


def withdraw(home: Home, submission: SubmissionPaths, manifest: Manifest) -> None:
    """Nothing: no worker waits, and those that run pass cancelled tasks over."""


def queue_summary(home: Home, study: str) -> str:
    """Nothing: there is no scheduler."""
    return ""


def output(home: Home, task: TaskPaths) -> str:
    """Nothing: which worker had the task is not noted; their output is in the submissions' folders."""
    return ""


def ending(submission: SubmissionPaths, manifest: Manifest, task_id: str, owner: leases.Owner) -> None:
    """Nothing: no one records what ends a process of this machine."""


def invalidate_cache() -> None:
    """Nothing: processes are looked at whenever they are asked for."""


def stop(jobs: tuple[Job, ...], force: bool) -> None:
    """SIGTERM to the controllers, which pass it on; with `force`, SIGKILL to them and their workers.

    A worker's task dies with it (`task_process`). Jobs of other hosts cannot be reached and are left alone.
    """
    here = leases.identify()
    for job in jobs:
        if (job.host, job.scope) != (here.host, here.scope):
            continue
        pid = int(job.job_id)
        if not leases.process_alive(pid, job.start):
            continue
        try:
            # Controllers and workers of a submission share the launcher's process group.
            os.killpg(os.getpgid(pid), signal.SIGKILL) if force else os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue


def last_error_line(submission: SubmissionPaths, usual: tuple[str, ...] = ("submitit ",)) -> str:
    """Last line of the newest error log of the submission's jobs, such as the exception that a worker died of."""
    logs = sorted(submission.jobs.glob("*_log.err"), key=lambda path: path.stat().st_mtime, reverse=True)
    for log in logs:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line]
        lines = [line for line in lines if not any(words in line for words in usual)]
        if lines:
            return f"{lines[-1]} ({log})"
    return ""


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _submit(home: Home, submission: SubmissionPaths) -> None:
    """The launcher: hand the workers to Submitit and note their processes."""
    import submitit

    from ablative.sweeps.worker.worker import work

    queue = manifest.require(submission)
    executor = submitit.AutoExecutor(folder=submission.jobs, cluster="local")
    executor.update_parameters(timeout_min=TIMEOUT_MINUTES)
    here = leases.identify()
    jobs = []
    for index in range(queue.workers):
        # What a worker raises, Submitit writes into its log and its result.
        job = executor.submit(shielded, work, str(home.root), queue.study, submission.root.name, index)
        start = leases.start_time(int(job.job_id)) or 0
        jobs.append(Job(job.job_id, here.host, here.scope, start))
    queue.with_jobs(tuple(jobs)).write(submission)


if __name__ == "__main__":
    guard()
    give_way(int(sys.argv[3]))
    _submit(Home(Path(sys.argv[1])), SubmissionPaths(Path(sys.argv[2])))
