"""Carries one task's journal into its MLflow run.

Sent twice, at once, or half and again, the rows are the same. How: a metric row's time stamp is the journal's, and
MLflow's primary key (run, name, time, step, value, is_nan) drops a row that is there already; params are sent once,
tags overwrite; the MLflow run of a task is looked up by its tag before it is created, under a lock; the cursor moves
only after the store has confirmed.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablative.study.costs.usage import TaskUsage
from ablative.study.home import tracking_tags
from ablative.study.home.journal import metric_rows, parse, read
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.home.task_state import directory_state
from ablative.study.plan.task import TaskRef
from ablative.sweeps.tracking import store
from ablative.sweeps.tracking.contents.final_metrics import Row, final_metrics
from ablative.sweeps.tracking.contents.run_names import RunNames
from ablative.sweeps.tracking.contents.tags import PARENT, page_tags, plan_tags
from ablative.sweeps.tracking.contents.values import (
    BATCH,
    PARAM_LENGTH,
    TAG_LENGTH,
    JournalLine,
    Outcome,
    batches,
    cut,
    key_name,
    last_event,
    outcome,
)
from ablative.sweeps.tracking.cursor import Cursor, JournalStart, changed, journal_start, read_cursor, state_digest
from ablative.sweeps.tracking.faults import Gone, Missing, Unanswered, faults
from ablative.sweeps.tracking.locks import exclusive
from ablative.sweeps.tracking.quiet import REQUEST_SECONDS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LOCK_SECONDS = 30.0
"""How long to wait for another process that is shipping the same task."""
PENDING_CREATE_SECONDS = 2.0 * REQUEST_SECONDS
"""How long a server may take to do what it was asked for, after we have given up waiting for its answer."""


class OutOfTime(Exception):
    """The time given for shipping is over; what is left stays in the journal."""


@dataclass
class Uploader:
    """Carries one task after another into one experiment."""

    client: MlflowClient
    experiment: store.Experiment
    study: str
    home: Home
    names: RunNames
    again: bool
    until: float
    lost: Mapping[str, str] = field(default_factory=dict)
    """MLflow run → mark, of cursors that the store contradicts (`sweeps.tracking.lost_runs`)."""
    before: str = ""
    """The experiment that this store had when we last saw it; another one where the store was replaced."""
    metrics: int = 0
    restored: set[str] = field(default_factory=set)
    """MLflow runs that the store had lost, by their former ids."""
    _fresh: set[str] = field(default_factory=set)
    """MLflow runs just created, which have no params yet."""
    _own_metrics: dict[str, frozenset[str]] = field(default_factory=dict)
    """Id of a run → metrics that its opening task reports itself."""

    def ship(self, task: TaskRef, anew: bool = False) -> None:
        """Everything of a task that is not in the store; raises StoreError, Busy, OutOfTime, OSError, ValueError.

        `anew`: whatever the cursor says.
        """
        paths = task.paths(self.home)
        with exclusive(paths.shipping(self.study), LOCK_SECONDS):
            start = journal_start(paths.journal)
            cursor = None if self.again or anew else self._cursor(paths, start)
            if cursor is None:
                cursor = self._begin(task, paths, start)
            try:
                self._send(task, paths, cursor)
            except Gone:
                self.restored.add(cursor.mlflow_run_id)
                self._send(task, paths, self._begin(task, paths, start))

    def _cursor(self, paths: TaskPaths, start: JournalStart) -> Cursor | None:
        """The task's cursor, where it speaks of this store and of this journal."""
        cursor = read_cursor(paths, self.study)
        if cursor is None or not cursor.mlflow_run_id or cursor.journal not in ("", start.identity):
            return None
        if cursor.experiment != self.experiment.key or self.lost.get(cursor.mlflow_run_id) == cursor.mark:
            if cursor.experiment in (self.experiment.key, self.before):
                self.restored.add(cursor.mlflow_run_id)
            return None
        return replace(cursor, journal=start.identity)

    def _begin(self, task: TaskRef, paths: TaskPaths, start: JournalStart) -> Cursor:
        """A cursor before the journal's first byte, of an MLflow run that exists."""
        before = read_cursor(paths, self.study)
        with faults(self.experiment.uri):
            cursor = self._find(task, start.identity)
        try:
            with faults(self.experiment.uri):
                cursor = cursor or self._create(task, start)
        except Unanswered:
            Cursor("", start.identity, self.experiment.key, pending_create=time.time()).write(paths, self.study)
            raise
        cursor = replace(cursor, pending_create=before.pending_create if before else 0.0)
        cursor.write(paths, self.study)
        return cursor

    def _find(self, task: TaskRef, journal: str) -> Cursor | None:
        """A cursor of the MLflow run of this task and journal, if there is one.

        Runs of the task that this home filled from an earlier journal are deleted (MLflow keeps them
        restorable): the task was started anew. Those of other homes on the same server are not ours.
        """
        ours = self._ours(task)
        same = [run for run in ours if run.data.tags.get(tracking_tags.JOURNAL, "") in ("", journal)]
        same.sort(key=lambda run: (run.info.start_time, run.info.run_id))
        for run in ours:
            if run not in same[:1]:
                self.client.delete_run(run.info.run_id)
        if not same:
            return None
        return Cursor(same[0].info.run_id, journal, self.experiment.key, factors=_factors(same[0].data.tags))

    def _settle(self, task: TaskRef, cursor: Cursor) -> Cursor:
        """Delete a second MLflow run: one that a slow server made long after it was asked, and after we asked again."""
        late = time.time() - cursor.pending_create > PENDING_CREATE_SECONDS
        for run in self._ours(task):
            if run.info.run_id != cursor.mlflow_run_id:
                self.client.delete_run(run.info.run_id)
        return replace(cursor, pending_create=0.0) if late else cursor

    def _ours(self, task: TaskRef) -> list[Run]:
        """Live MLflow runs of a task that this home made."""
        found = self.client.search_runs(
            [self.experiment.id], filter_string=f"tags.`{tracking_tags.TASK_ID}` = '{task.task_id}'"
        )
        return [run for run in found if run.data.tags.get(tracking_tags.HOME) == store.home_identity(self.home)]

    def _create(self, task: TaskRef, start: JournalStart) -> Cursor:
        running = Outcome("RUNNING", "running")
        tags = self._tags(task, start.identity, running)
        name = cut(self.names.name(task), TAG_LENGTH)
        run = self.client.create_run(self.experiment.id, start.time, tags, name)
        self._fresh.add(run.info.run_id)
        return Cursor(
            run.info.run_id,
            start.identity,
            self.experiment.key,
            tags=_digest(tags),
            factors=_factors(tags),
            parent=tags.get(PARENT, ""),
            status=str(running),
            name=name,
        )

    def _tags(self, task: TaskRef, journal: str, end: Outcome) -> dict[str, str]:
        tags = plan_tags(task, self.study) | page_tags(task, self.study, dict(end.code)) | end.tags()
        tags |= {
            tracking_tags.HOME: store.home_identity(self.home),
            tracking_tags.JOURNAL: journal,
            "mlflow.user": _user(),
        }
        if not task.opens:
            tags[PARENT] = self._parent(task.run())
        return tags

    def _parent(self, run: TaskRef) -> str:
        """MLflow run of the task that opens a run, created if it was not shipped yet."""
        paths = run.paths(self.home)
        start = journal_start(paths.journal)
        if (cursor := self._cursor(paths, start)) is not None:
            return cursor.mlflow_run_id
        with exclusive(paths.shipping(self.study), LOCK_SECONDS):
            cursor = self._cursor(paths, start) or self._begin(run, paths, start)
        return cursor.mlflow_run_id

    def _send(self, task: TaskRef, paths: TaskPaths, cursor: Cursor) -> None:
        """Batch after batch; params go with the first, tags and status with the last.

        MLflow writes params, then metrics, then tags, then the status: a run that reads as completed is complete.
        """
        # Marks before contents: what changes meanwhile is seen next time.
        seen, size = state_digest(task, self.study, paths), paths.journal.stat().st_size
        lines = _lines(paths.journal, cursor.offset)
        *earlier, last = list(batches(lines)) or [[]]
        with faults(self.experiment.uri):
            params, tags = self._texts(cursor.mlflow_run_id, lines)
            for batch in earlier:
                self._log(cursor.mlflow_run_id, batch, params, tags)
                params, tags = {}, {}
                cursor = _advance(cursor, batch)
                cursor.write(paths, self.study)
            cursor = _advance(cursor, last)
            end = outcome(directory_state(paths), cursor.event)
            if end.status == "FINISHED" and not task.opens:
                cursor = self._copy(task, paths, cursor)
            cursor, news = self._retag(task, cursor, end)
            if end.status in ("FAILED", "KILLED") and (spent := TaskUsage.unfinished(paths)) is not None:
                news |= spent.tags()  # a killed attempt could not say so itself
            cursor = cursor.marked(end.status)
            self._log(cursor.mlflow_run_id, last, params, tags | news | {tracking_tags.MARK: cursor.mark})
            cursor = self._finish(task, cursor, end)
            if cursor.pending_create:
                cursor = self._settle(task, cursor)
        replace(cursor, size=max(size, cursor.offset), state_digest=seen).write(paths, self.study)

    def _copy(self, task: TaskRef, paths: TaskPaths, cursor: Cursor) -> Cursor:
        """Copy the task's final metrics to the MLflow run of its run's opening task; made anew where it is gone."""
        run = task.run()
        parent = self._parent(run)
        if cursor.copied == parent:
            return cursor
        if run.run_id not in self._own_metrics:
            own = metric_rows(read(run.paths(self.home).journal)[0])
            self._own_metrics[run.run_id] = frozenset(row[0] for row in own)
        rows = final_metrics(read(paths.journal)[0], task.stage, self._own_metrics[run.run_id])
        try:
            with faults(self.experiment.uri):
                self._log_rows(parent, rows)
        except Gone:
            self.ship(run, anew=True)
            parent = self._parent(run)
            self._log_rows(parent, rows)
        return replace(cursor, copied=parent)

    def _log_rows(self, run_id: str, rows: list[Row]) -> None:
        from mlflow.entities import Metric

        for start in range(0, len(rows), BATCH):
            metrics = [
                Metric(key_name(name), value, moment, step) for name, step, value, moment in rows[start:][:BATCH]
            ]
            self.client.log_batch(run_id, metrics=metrics, synchronous=True)

    def _log(self, run_id: str, batch: list[JournalLine], params: dict[str, str], tags: dict[str, str]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        if time.monotonic() > self.until:
            raise OutOfTime
        rows = metric_rows([line.entry for line in batch])
        metrics = [Metric(key_name(name), value, moment, step) for name, step, value, moment in rows]
        self.client.log_batch(
            run_id,
            metrics=metrics,
            params=[Param(key, value) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
            synchronous=True,
        )
        self.metrics += len(metrics)

    def _texts(self, run_id: str, lines: list[JournalLine]) -> tuple[dict[str, str], dict[str, str]]:
        """New params and tags of journal lines. MLflow refuses to change a param: a changed one becomes a tag."""
        tags = {key_name(key): cut(value, TAG_LENGTH) for key, value in _pairs(lines, "tags")}
        params = [(key_name(key), cut(value, PARAM_LENGTH)) for key, value in _pairs(lines, "params")]
        ask = params and run_id not in self._fresh
        known = dict(self.client.get_run(run_id).data.params) if ask else {}
        self._fresh.discard(run_id)
        new: dict[str, str] = {}
        for key, value in params:
            if (known | new).get(key, value) == value:
                new[key] = value
            else:
                tags[key_name(tracking_tags.CHANGED + key)] = value
        return changed(known, new), tags

    def _retag(self, task: TaskRef, cursor: Cursor, end: Outcome) -> tuple[Cursor, dict[str, str]]:
        """The task's tags, where they are not those sent last; tags of factors that are no more are deleted."""
        tags = self._tags(task, cursor.journal, end)
        told = _digest(tags)
        if told == cursor.tags:
            return cursor, {}
        for key in cursor.factors:
            if key not in tags:
                # It may be gone already: a kill came between this and the cursor.
                with contextlib.suppress(Missing), faults(self.experiment.uri):
                    self.client.delete_tag(cursor.mlflow_run_id, key)
        return replace(cursor, tags=told, factors=_factors(tags), parent=tags.get(PARENT, "")), tags

    def _finish(self, task: TaskRef, cursor: Cursor, end: Outcome) -> Cursor:
        """Status, end and name of the MLflow run."""
        run_id = cursor.mlflow_run_id
        if cursor.status != str(end):
            if end.status == "RUNNING":
                self.client.update_run(run_id, end.status)
            else:
                self.client.set_terminated(run_id, end.status, end.end)
        name = cut(self.names.name(task), TAG_LENGTH)
        if cursor.name != name:
            self.client.update_run(run_id, name=name)
        return replace(cursor, status=str(end), name=name)


def _advance(cursor: Cursor, batch: list[JournalLine]) -> Cursor:
    """The cursor behind a batch."""
    if not batch:
        return cursor
    metrics = any(line.entry["kind"] == "metrics" for line in batch)
    return replace(
        cursor,
        offset=batch[-1].end,
        event=last_event(batch, cursor.event),
        state_digest="",
        copied="" if metrics else cursor.copied,
    )


def _pairs(lines: list[JournalLine], kind: str) -> list[tuple[str, str]]:
    return [pair for line in lines if line.entry["kind"] == kind for pair in line.entry["values"].items()]


def _lines(journal: Path, offset: int) -> list[JournalLine]:
    """Complete journal lines from byte `offset` on; raises ValueError that names the byte of an unreadable one."""
    with journal.open("rb") as file:
        file.seek(offset)
        data = file.read()
    lines: list[JournalLine] = []
    for text in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        entry = parse(text)
        if entry is None:
            raise ValueError(f"{journal}: byte {offset} begins a damaged line; nothing after it is uploaded")
        offset += len(text)
        lines.append(JournalLine(entry, offset))
    return lines


def _factors(tags: dict[str, str]) -> list[str]:
    return [key for key in tags if key.startswith(tracking_tags.CELL)]


def _digest(tags: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(tags, sort_keys=True).encode()).hexdigest()[:12]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
