"""What is missing of a plan, put in a queue with its code and handed to workers.

Submitting is idempotent: what is done, running or queued is not queued again, and two submissions at the same
moment are harmless, since a task runs under its lease.
"""

from __future__ import annotations

import secrets
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ablative.study.core import extras
from ablative.study.core.damage import DamagedError, set_aside
from ablative.study.core.errors import AblateError, StoreError
from ablative.study.core.files import read_text, write_atomic
from ablative.study.core.secrets import redact
from ablative.study.home.paths import HOME_VERSION, Home, SubmissionPaths
from ablative.study.plan.plan import Plan
from ablative.study.plan.task import Task, TaskRef
from ablative.study.spec.cluster import warned
from ablative.sweeps.queue import executors, job_code, manifest, retries, snapshot
from ablative.sweeps.queue.executors import NoRoom, executor, live_jobs
from ablative.sweeps.queue.failures import NODE_FAILURE
from ablative.sweeps.queue.job_code import JobCode
from ablative.sweeps.queue.manifest import Manifest, WorkerLayout
from ablative.sweeps.queue.retries import archive_failure, is_exhausted, record_abandoned
from ablative.sweeps.status.task_states import Survey, TaskState, runtimes, stale_seconds, survey


@dataclass(frozen=True)
class Code:
    """What the jobs call."""

    entry: str = ""
    """`module:function` that runs one task; empty: the one of the study's trainer."""
    shipper: str = "ablative.sweeps.tracking.upload_client:UploadClient"
    """`module:class` of the process that ships journals; empty: nothing is tracked."""


TRAINER = Code()


@dataclass(frozen=True)
class Choice:
    """What a submission takes, and what it leaves."""

    queue: tuple[Task, ...]
    """Tasks in plan order; what others of them wait for is in it too."""
    new: tuple[TaskState, ...]
    """The part of the queue that no living worker has yet."""
    left: tuple[TaskState, ...]
    """Failures that would only repeat themselves, and what the user cancelled."""

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the new tasks."""
        return frozenset(state.task.task_id for state in self.new)


@dataclass(frozen=True)
class Submission:
    """Outcome of `submit`."""

    choice: Choice
    paths: SubmissionPaths | None
    """None: there was nothing to submit."""
    workers: int
    warning: str
    """Trouble with the tracking store, which holds nothing up: journals are shipped later."""
    notes: tuple[str, ...] = ()
    """Lines on the user's code that the jobs run."""


def submit(plan: Plan, jobs: int = 0, code: Code = TRAINER, retry: frozenset[str] = frozenset()) -> Submission:
    """Queue what is missing and start workers for it; returns at once.

    Args:
        plan: the study's plan.
        jobs: worker jobs; 0 takes the cluster configuration's number, or as many as fit.
        code: what the jobs call.
        retry: causes of failures to submit again although the same code would run.

    Raises:
        StoreError: the home cannot be written, or is of a newer version.
        MissingExtraError: this environment lacks what the jobs need, and they would run in it, on this machine.
        NoRoom: the scheduler takes none of it, or a part, for now.
        AblateError: the workers could not be started.
    """
    prepare_home(plan.home)
    executors.invalidate_cache()
    found = survey(plan)
    now = job_code.current(plan)
    choice = choose(plan, found, now.digest, retry)
    if not choice.new:
        return Submission(choice, None, 0, "")
    require_extras(code, plan, [state.task for state in choice.new])
    for state in choice.new:
        _record_abandoned(plan, state)
    stamp = new_stamp()
    layout = executor(plan.cluster.kind).arrange(plan, choice.queue, choice.ids, jobs, prefix(plan, stamp))
    plan.write()
    for state in choice.new:
        if state.state == "failed":
            archive_failure(state.task.paths(plan.home))
    paths, warning = hand_over(plan, choice.queue, layout, code, stamp)
    return Submission(choice, paths, layout.workers, warning, (*now.notes, *_short_limits(plan, choice)))


def require_extras(code: Code, plan: Plan, tasks: Iterable[Task] = ()) -> None:
    """Raise MissingExtraError where workers on this machine would lack a package for these tasks.

    A scheduler's nodes may have what the machine that submits lacks; a task that lacks it there says so itself.
    """
    if code.entry or plan.cluster.kind != "local":
        return
    own = (extra for task in tasks for extra in plan.trainer.extras(task.stage, task.config))
    for extra in dict.fromkeys(filter(None, (plan.trainer.extra, *own))):
        extras.require(extra)


def hand_over(
    plan: Plan,
    queue: tuple[Task, ...],
    layout: WorkerLayout,
    code: Code,
    stamp: str,
    complete: Callable[[SubmissionPaths], None] = lambda paths: None,
) -> tuple[SubmissionPaths, str]:
    """Write the submission down and start its workers.

    Args:
        plan: the plan.
        queue: tasks for the workers; none where they look for work themselves.
        layout: which workers.
        code: what they call.
        stamp: the submission's name.
        complete: adds what else the workers need to the submission's files.

    Returns:
        The submission, and a warning about the tracking store, which holds nothing up.
    """
    _close_ended(plan.home)
    warning = _prepare_store(plan) if code.shipper else ""
    frozen = job_code.freeze(plan)
    paths, written = _write_manifest(plan, queue, layout, code, frozen, stamp)
    complete(paths)
    try:
        executor(written.executor).launch(plan.home, paths, frozen.environment(plan.home))
    except AblateError as error:
        left = manifest.read(paths)
        if left is None or not left.arrays:
            # Else a scheduler took some arrays before it refused one, and those go on.
            paths.ended.touch()
        elif isinstance(error, NoRoom):
            error.taken = paths
        raise
    return paths, warning


def prefix(plan: Plan, stamp: str) -> str:
    """What the names of a submission's jobs begin with: no other submission's do."""
    return f"ablate.{plan.study.name}.{stamp}"


def choose(plan: Plan, found: Survey, code: str, retry: frozenset[str] = frozenset()) -> Choice:
    """Pick the tasks to queue.

    Failures from outside (killed, out of memory, disk full, …) are taken again, up to `cluster.retries` times for
    each cause. A failure of the code or the data is taken again only with other code than it failed under: the same
    would fail the same; unless a file was not there that is there now.

    Args:
        plan: the plan.
        found: states of its tasks.
        code: hash of the code that would run.
        retry: causes of failures that are taken again in any case.
    """
    failed = found.having("failed")
    left = {state.task.task_id: state for state in failed if state.cause not in retry and not _again(plan, state, code)}
    out = found.blocked(left) | left.keys()
    wanted = [state for state in found.having("eligible", "waiting", "failed") if state.task.task_id not in out]
    ids = {state.task.task_id for state in wanted}
    busy = {state.task.task_id for state in found.having("running", "submitted")}
    # What other workers have and these need counts too: should they die, ours go on with it.
    for state in reversed(found.states):
        if state.task.task_id in ids:
            ids.update(need for need in state.task.needs if need in busy)
    queue = tuple(task for task in plan.tasks if task.task_id in ids)
    return Choice(queue, tuple(wanted), tuple(left.values()))


def prepare_home(home: Home) -> None:
    """Create the home, or check that it can be written and that this version understands it.

    Raises StoreError with what to do.
    """
    try:
        home.root.mkdir(parents=True, exist_ok=True)
        version = _home_version(home)
        probe = home.root / f".probe.{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreError(
            f"the home {home.root} cannot be written ({error.strerror}); point --home or $ABLATE_HOME to a folder "
            f"that can"
        ) from None
    if version > HOME_VERSION:
        raise StoreError(
            f"the home {home.root} has layout version '{version}', this ablate knows up to {HOME_VERSION}; "
            f"use the newer ablate that wrote it, or another home"
        )


def _home_version(home: Home) -> int:
    """Version of the home's layout; a home without one, or with a damaged one, is of ours."""
    try:
        text = read_text(home.version).strip()
        if text.isdecimal():
            return int(text)
        set_aside(home.version, "no number")
    except FileNotFoundError:
        pass
    except DamagedError as error:
        set_aside(home.version, error.reason)
    write_atomic(home.version, f"{HOME_VERSION}\n")
    return HOME_VERSION


def _record_abandoned(plan: Plan, state: TaskState) -> None:
    """Write down what ended a worker that could not."""
    if not state.abandoned or state.owner is None:
        return
    message = (state.detail or {})["message"]
    record_abandoned(state.task.paths(plan.home), state.owner, state.cause, message)
    if state.cause == NODE_FAILURE and state.owner.node:
        retries.note_failed_node(plan.home.study(plan.study.name), state.owner.node, message)


def _again(plan: Plan, state: TaskState, code: str) -> bool:
    """Whether another attempt at a failed task may end otherwise."""
    if state.cause == "cancelled":
        return False
    retries = plan.clusters.get(state.task.run_id, plan.cluster).retries
    paths = state.task.paths(plan.home)
    detail = state.detail or {}
    lacks = str(detail.get("lacks") or "")
    # An environment that is made anew, or a folder that is mounted again.
    there_again = lacks != "" and Path(lacks).exists()
    if (state.resumable or there_again) and not is_exhausted(
        state.task, plan.trainer, paths, state.cause, retries, state.owner
    ):
        return True
    return bool(detail.get("snapshot", code) != code)


def _close_ended(home: Home) -> None:
    """Mark submissions whose jobs are gone, so that no command reads their manifests again."""
    for paths, found in manifest.submissions(home):
        if not live_jobs(paths, found):
            paths.ended.touch()


def _prepare_store(plan: Plan) -> str:
    """Create the tracking store and the study's experiment before a dozen processes try to. Returns a warning."""
    from ablative.sweeps.tracking import store

    try:
        store.prepare(plan.home, plan.study.name, plan.study.title)
    except StoreError as error:
        return f"tracking: {error}; results are kept in journals, and `ablate sync` ships them later"
    return ""


def _short_limits(plan: Plan, choice: Choice) -> list[str]:
    """Lines on time limits of which the warning before them would take the larger part."""
    found = (plan.clusters.get(task.run_id, plan.cluster) for task in choice.queue)
    configs = {repr(config): config for config in found}
    return [
        f"cluster.hours: {config.hours:g} is short for a warning of {config.signal_seconds} s before the time limit "
        f"(cluster.signal_seconds); jobs are warned {warned(config).signal_seconds} s before it"
        for config in configs.values()
        if warned(config) != config
    ]


def _tracking(home: Home) -> tuple[str, str]:
    """Key and address of the store, for jobs that lack this process's environment."""
    from ablative.sweeps.tracking import uri

    key, address = uri.store_key(home), home.tracking_uri
    plain = key != uri.DEFAULT and uri.redact_store(address) == address
    return key, address if plain else ""


def new_stamp() -> str:
    """Name of a new submission: sorts by time, and no other submission has it."""
    now = time.time()
    # Two of one second sort by its fraction, in 65,536ths.
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{int(now % 1 * 65536):04x}{secrets.token_hex(1)}"


def _write_manifest(
    plan: Plan, tasks: tuple[Task, ...], layout: WorkerLayout, code: Code, frozen: JobCode, stamp: str
) -> tuple[SubmissionPaths, Manifest]:
    """Write down what is queued, and with which code."""
    settings = runtimes(plan)
    store, address = _tracking(plan.home)
    queue = Manifest(
        study=plan.study.name,
        executor=plan.cluster.kind,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=redact(shlex.join(["ablate", *sys.argv[1:]])),
        workers=layout.workers,
        devices=layout.devices,
        snapshot=frozen.snapshot,
        commit=frozen.commit.commit,
        dirty=frozen.commit.dirty,
        entry=code.entry or plan.trainer.entry,
        shipper=code.shipper,
        heartbeat_seconds=min(runtime.heartbeat_seconds for runtime in settings),
        stale_seconds=stale_seconds(plan),
        tasks=tuple(TaskRef.of(task) for task in tasks),
        arrays=layout.arrays,
        user=layout.user,
        trainer=plan.trainer.name,
        repository=frozen.copy,
        store=store,
        address=address,
    )
    paths = plan.home.study(plan.study.name).submission(stamp)
    paths.root.mkdir(parents=True)
    snapshot.write_patch(paths.patch, frozen.commit)
    paths.alive.touch()
    queue.write(paths)
    return paths, queue
