"""Ships journals into MLflow, so that doing it twice, at once, or half and again, gives the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ablative.study.core.errors import StoreError
from ablative.study.home.paths import Home
from ablative.study.plan.task import Task, TaskRef
from ablative.sweeps.tracking import store
from ablative.sweeps.tracking.cursor import has_pending, read_target
from ablative.sweeps.tracking.faults import Refused, faults
from ablative.sweeps.tracking.locks import Busy
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


def ship(
    tasks: Iterable[Task | TaskRef],
    study: str,
    home: Home,
    *,
    again: bool = False,
    verify: bool = False,
    until: float = float("inf"),
    progress: Callable[[int, int], None] | None = None,
) -> Shipped:
    """Bring the study's experiment up to date with the tasks' journals. Never raises for a fault of the store.

    Args:
        tasks: what to ship; those without news cost one look at the file system.
        study: its name, which is the experiment's.
        again: send everything once more, whatever was sent before (adds no rows; repairs a damaged store).
        verify: ask the store even when there is no news: it may have been replaced behind our back.
        until: `time.monotonic()` at which to stop between two batches.
        progress: called with (tasks done, tasks to do) after each task.
    """
    found = [TaskRef.of(task) for task in tasks]
    todo = _waiting(found, study, home, again)
    if not (todo or verify):
        return Shipped()
    try:
        experiment = store.prepare(home, study)
        # The store may be another than the one that the cursors speak of.
        todo = _waiting(found, study, home, again)
        with quiet(experiment.uri), faults(experiment.uri):
            uploader = Uploader(store.client(experiment.uri), experiment, study, home, again, until)
            return _ship_all(uploader, todo, progress)
    except (StoreError, OSError) as error:
        return Shipped(pending=len(todo), errors=(_line(error),))


def _waiting(found: list[TaskRef], study: str, home: Home, again: bool) -> list[TaskRef]:
    target = None if again else read_target(study, home)
    return [task for task in found if has_pending(task, study, home, target)]


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
    return Shipped(done, uploader.metrics, len(todo) - done, tuple(errors))


def _line(error: Exception) -> str:
    return str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {redact_store(str(error))}"
