"""Ships journals into MLflow, so that doing it twice, at once, or half and again, gives the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ablative.study.core.errors import StoreError
from ablative.study.home.paths import Home
from ablative.study.plan.task import Task, TaskRef
from ablative.sweeps.tracking import store
from ablative.sweeps.tracking.artifacts import send_configs, without_config
from ablative.sweeps.tracking.contents.run_names import run_names
from ablative.sweeps.tracking.cursor import has_pending, last_target, read_cursor, read_target
from ablative.sweeps.tracking.faults import Refused, faults
from ablative.sweeps.tracking.locks import Busy
from ablative.sweeps.tracking.lost_runs import lost_runs
from ablative.sweeps.tracking.quiet import quiet
from ablative.sweeps.tracking.uploader import OutOfTime, Uploader
from ablative.sweeps.tracking.uri import redact_store


@dataclass(frozen=True)
class Shipped:
    """What one call of `ship` did."""

    tasks: int = 0
    """Tasks brought up to date."""
    metrics: int = 0
    """Metric values sent, those that the store had already included."""
    pending: int = 0
    """Tasks that still have something to ship."""
    errors: tuple[str, ...] = ()
    restored: int = 0
    """Tasks of those brought up to date that the store had had, and had lost."""
    files_error: str = ""
    """Why configurations could not be sent to where the store keeps files; no task waits for that."""


def ship(
    tasks: Iterable[Task | TaskRef],
    study: str,
    home: Home,
    *,
    again: bool = False,
    verify: bool = False,
    files: bool = True,
    title: str = "",
    until: float = float("inf"),
    progress: Callable[[int, int], None] | None = None,
) -> Shipped:
    """Bring the study's experiment up to date with the tasks' journals. Never raises for a fault of the store.

    Args:
        tasks: what to ship; those without news cost one look at the file system.
        study: its name, which is the experiment's.
        again: send everything once more, whatever was sent before (adds no rows; repairs a damaged store).
        verify: ask the store what it has even when there is no news: it may have been replaced, and runs deleted.
        files: send configurations, too.
        title: the study's, for MLflow's page.
        until: `time.monotonic()` at which to stop between two batches.
        progress: called with (tasks done, tasks to do) after each task.
    """
    found = [TaskRef.of(task) for task in tasks]
    todo = _waiting(found, study, home, again)
    if not (todo or verify):
        return Shipped()
    before = last_target(study, home)
    try:
        experiment = store.prepare(home, study, title)
        lost, stale = _contradicted(found, study, home, experiment) if verify and not again else ({}, set())
        # The store may be another than the one that the cursors speak of.
        waiting = {task.task_id for task in _waiting(found, study, home, again)} | stale
        todo = [task for task in found if task.task_id in waiting]
        shipped = Shipped()
        if todo:
            with quiet(experiment.uri), faults(experiment.uri):
                names = run_names(home.study(study).plan, found)
                uploader = Uploader(store.client(experiment.uri), experiment, study, home, names, again, until, lost)
                uploader.before = before.experiment if before else ""
                shipped = _ship_all(uploader, todo, progress)
        if not files or shipped.errors:
            return shipped
        return replace(shipped, files_error=_send_files(found if verify else todo, study, home, experiment))
    except (StoreError, OSError) as error:
        return Shipped(pending=len(todo), errors=(_line(error),))


def _waiting(found: list[TaskRef], study: str, home: Home, again: bool) -> list[TaskRef]:
    target = None if again else read_target(study, home)
    return [task for task in found if has_pending(task, study, home, target)]


def _contradicted(
    found: list[TaskRef], study: str, home: Home, experiment: store.Experiment
) -> tuple[dict[str, str], set[str]]:
    """MLflow runs that the store has lost, with the marks that it should have, and ids of tasks that are to be shipped.

    With the MLflow run of an opening task, copies of its evaluations' metrics are gone, and their tags name no run.
    """
    read = {task.task_id: read_cursor(task.paths(home), study) for task in found}
    cursors = {key: one for key, one in read.items() if one and one.mlflow_run_id and one.experiment == experiment.key}
    # One that was interrupted is behind the store.
    expected = {one.mlflow_run_id: one.mark if one.state_digest else "" for one in cursors.values()}
    lost = lost_runs(expected, experiment)
    stale: set[str] = set()
    for task in found:
        cursor, opening = cursors.get(task.task_id), cursors.get(task.run_id)
        if cursor is None:
            continue
        moved = cursor.parent and (cursor.parent in lost or (opening and opening.mlflow_run_id != cursor.parent))
        if moved or cursor.mlflow_run_id in lost:
            stale.add(task.task_id)
    return {one.mlflow_run_id: one.mark for one in cursors.values() if one.mlflow_run_id in lost}, stale


def _send_files(found: list[TaskRef], study: str, home: Home, experiment: store.Experiment) -> str:
    lacking = without_config(found, study, home, experiment)
    if not lacking:
        return ""
    with quiet(experiment.uri):
        return send_configs(lacking, study, home, experiment)


def _ship_all(uploader: Uploader, todo: list[TaskRef], progress: Callable[[int, int], None] | None) -> Shipped:
    done = 0
    errors: list[str] = []
    for index, task in enumerate(todo):
        try:
            uploader.ship(task)
            done += 1
        except OutOfTime:
            break
        except Busy:
            errors.append(f"task {task.task_id}: another process is shipping it")
        except (Refused, OSError, ValueError, KeyError, TypeError) as error:
            errors.append(f"task {task.task_id}: {_line(error)}")
        except StoreError as error:
            errors.append(_line(error))
            break
        if progress:
            progress(index + 1, len(todo))
    return Shipped(done, uploader.metrics, len(todo) - done, tuple(errors), len(uploader.restored))


def _line(error: Exception) -> str:
    return str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {redact_store(str(error))}"
