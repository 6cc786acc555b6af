"""Carries one task's journal into its MLflow run.

Sent twice, at once, or half and again, the rows are the same. How: a metric row's time stamp is the journal's, and
MLflow's primary key (run, name, time, step, value, is_nan) drops a row that is there already; params are sent once,
tags overwrite; the MLflow run of a task is looked up by its tag before it is created, under a lock; the cursor moves
only after the store has confirmed.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.journal import metric_rows
from study.paths import Home, TaskPaths
from study.states import directory_state
from trainer.tracking import store
from trainer.tracking.cursor import Cursor, Opening, changed, marks, opening, read_cursor
from trainer.tracking.faults import Gone, faults
from trainer.tracking.locks import exclusive
from trainer.tracking.source import Source, plan_tags
from trainer.tracking.values import (
    PARAM_LENGTH,
    TAG_LENGTH,
    Line,
    Outcome,
    batches,
    cut,
    key_name,
    last_event,
    outcome,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK_SECONDS = 30.0
"""How long to wait for another process that is shipping the same task."""


class OutOfTime(Exception):
    """The time given for shipping is over; what is left stays in the journal."""


@dataclass
class Courier:
    """Carries one task after another into one experiment."""

    client: MlflowClient
    experiment: store.Experiment
    study: str
    home: Home
    again: bool
    until: float
    metrics: int = 0

    def ship(self, source: Source) -> None:
        """Everything of a task that is not in the store; raises StoreError, Busy, OutOfTime, OSError, ValueError."""
        paths = source.paths(self.home)
        with exclusive(paths.shipping(self.study), LOCK_SECONDS):
            start = opening(paths.journal)
            cursor = None if self.again else self._cursor(paths, start)
            if cursor is None:
                cursor = self._begin(source, paths, start)
            try:
                self._send(source, paths, cursor)
            except Gone:
                self._send(source, paths, self._begin(source, paths, start))

    def _cursor(self, paths: TaskPaths, start: Opening) -> Cursor | None:
        """The task's cursor, where it speaks of this store and of this journal."""
        cursor = read_cursor(paths, self.study)
        if cursor is None or cursor.experiment != self.experiment.key:
            return None
        if cursor.journal not in ("", start.identity):
            return None
        return replace(cursor, journal=start.identity)

    def _begin(self, source: Source, paths: TaskPaths, start: Opening) -> Cursor:
        """A cursor before the journal's first byte, of an MLflow run that exists."""
        with faults(self.experiment.uri):
            run_id = self._find(source, start.identity)
            if run_id is not None:
                cursor = Cursor(run_id, start.identity, self.experiment.key)
            else:
                cursor = self._create(source, start)
        cursor.write(paths, self.study)
        return cursor

    def _find(self, source: Source, journal: str) -> str | None:
        """The MLflow run of this task and journal, if there is one.

        Runs of the task that this home filled from an earlier journal are deleted (MLflow keeps them
        restorable): the task was started anew. Those of other homes on the same server are not ours.
        """
        found = self.client.search_runs(
            [self.experiment.id], filter_string=f"tags.`ablate.task_id` = '{source.task_id}'"
        )
        ours = [run for run in found if run.data.tags.get("ablate.home") == store.home_identity(self.home)]
        same = [run for run in ours if run.data.tags.get("ablate.journal", "") in ("", journal)]
        same.sort(key=lambda run: (run.info.start_time, run.info.run_id))
        for run in ours:
            if run not in same[:1]:
                self.client.delete_run(run.info.run_id)
        return same[0].info.run_id if same else None

    def _create(self, source: Source, start: Opening) -> Cursor:
        running = Outcome("RUNNING", "running")
        tags = self._tags(source, start.identity, running)
        name = cut(source.name, TAG_LENGTH)
        run = self.client.create_run(self.experiment.id, start.time, tags, name)
        return Cursor(
            run.info.run_id,
            start.identity,
            self.experiment.key,
            tags=_digest(tags),
            status=str(running),
            name=name,
        )

    def _tags(self, source: Source, journal: str, end: Outcome) -> dict[str, str]:
        tags = plan_tags(source, self.study) | end.tags()
        tags |= {"ablate.home": store.home_identity(self.home), "ablate.journal": journal, "mlflow.user": _user()}
        if source.kind == "evaluate":
            tags["mlflow.parentRunId"] = self._parent(source.run())
        return tags

    def _parent(self, run: Source) -> str:
        """MLflow run of an evaluation's pretraining, created if it was not shipped yet."""
        paths = run.paths(self.home)
        start = opening(paths.journal)
        if (cursor := self._cursor(paths, start)) is not None:
            return cursor.mlflow_run_id
        with exclusive(paths.shipping(self.study), LOCK_SECONDS):
            cursor = self._cursor(paths, start) or self._begin(run, paths, start)
        return cursor.mlflow_run_id

    def _send(self, source: Source, paths: TaskPaths, cursor: Cursor) -> None:
        # Marks before contents: what changes meanwhile is seen next time.
        seen, size = marks(source, self.study, paths), paths.journal.stat().st_size
        lines = _lines(paths.journal, cursor.offset)
        run_id = cursor.mlflow_run_id
        with faults(self.experiment.uri):
            self._send_texts(run_id, lines)
            for batch in batches(lines):
                self._send_metrics(run_id, batch)
                cursor = replace(cursor, offset=batch[-1].end, event=last_event(batch, cursor.event), marks="")
                cursor.write(paths, self.study)
            cursor = self._send_state(source, paths, cursor, seen)
        replace(cursor, size=max(size, cursor.offset), marks=seen).write(paths, self.study)

    def _send_metrics(self, run_id: str, batch: list[Line]) -> None:
        from mlflow.entities import Metric

        rows = metric_rows([line.entry for line in batch])
        metrics = [Metric(key_name(name), value, moment, step) for name, step, value, moment in rows]
        if time.monotonic() > self.until:
            raise OutOfTime
        if metrics:
            self.client.log_batch(run_id, metrics=metrics, synchronous=True)
            self.metrics += len(metrics)

    def _send_texts(self, run_id: str, lines: list[Line]) -> None:
        """Params and tags of journal lines. MLflow refuses to change a param: a changed one becomes a tag."""
        from mlflow.entities import Param, RunTag

        tags = {key_name(key): cut(value, TAG_LENGTH) for key, value in _texts(lines, "tags")}
        params = [(key_name(key), cut(value, PARAM_LENGTH)) for key, value in _texts(lines, "params")]
        known = dict(self.client.get_run(run_id).data.params) if params else {}
        new: dict[str, str] = {}
        for key, value in params:
            if (known | new).get(key, value) == value:
                new[key] = value
            else:
                tags[key_name(f"ablate.changed.{key}")] = value
        fresh = [Param(key, value) for key, value in changed(known, new).items()]
        labels = [RunTag(key, value) for key, value in tags.items()]
        self.client.log_batch(run_id, params=fresh, tags=labels, synchronous=True)

    def _send_state(self, source: Source, paths: TaskPaths, cursor: Cursor, seen: str) -> Cursor:
        """Tags, name, status and end, last of all: a run that reads as finished has all its metrics."""
        from mlflow.entities import RunTag

        run_id = cursor.mlflow_run_id
        end = outcome(directory_state(paths), cursor.event)
        tags = self._tags(source, cursor.journal, end)
        told = _digest(tags)
        if told != cursor.tags:
            for key in self._stale(run_id, tags) if cursor.tags else ():
                self.client.delete_tag(run_id, key)
            labels = [RunTag(key, value) for key, value in tags.items()]
            self.client.log_batch(run_id, tags=labels, synchronous=True)
        if cursor.status != str(end):
            if end.status == "RUNNING":
                self.client.update_run(run_id, end.status)
            else:
                self.client.set_terminated(run_id, end.status, end.end)
        name = cut(source.name, TAG_LENGTH)
        if cursor.name != name:
            self.client.update_run(run_id, name=name)
        return replace(cursor, tags=told, status=str(end), name=name)

    def _stale(self, run_id: str, tags: dict[str, str]) -> list[str]:
        """Tags of factors that the study no longer has."""
        present = self.client.get_run(run_id).data.tags
        return [key for key in present if key.startswith("ablate.cell.") and key not in tags]


def _texts(lines: list[Line], kind: str) -> list[tuple[str, str]]:
    return [pair for line in lines if line.entry["kind"] == kind for pair in line.entry["values"].items()]


def _lines(journal: Path, offset: int) -> list[Line]:
    """Complete journal lines from byte `offset` on; raises ValueError that names the byte of an unreadable one."""
    with journal.open("rb") as file:
        file.seek(offset)
        data = file.read()
    lines: list[Line] = []
    for text in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        try:
            entry: dict[str, Any] = json.loads(text)
        except ValueError:
            raise ValueError(f"{journal}: byte {offset} begins a line that is not JSON") from None
        offset += len(text)
        lines.append(Line(entry, offset))
    return lines


def _digest(tags: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(tags, sort_keys=True).encode()).hexdigest()[:12]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
