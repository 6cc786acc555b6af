"""Which MLflow runs the store has no more, or not as they were left: deleted by hand, or put back from a backup.

A journal's cursor says what was sent, the tag `ablate.mark` which state of the task the store has. A database is asked
for all marks in one query (12 ms for 1,000 runs). A server needs 5 ms for each run that it returns; so it is asked
whether it has so many runs of one mark, hundreds at once (0.2 s for 1,000 runs), and for the runs themselves only where
it has fewer.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from ablative.study.core.errors import StoreError
from ablative.study.home import tracking_tags
from ablative.sweeps.tracking import store
from ablative.sweeps.tracking.faults import Refused, faults, sentence
from ablative.sweeps.tracking.quiet import quiet
from ablative.sweeps.tracking.uri import is_http, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

SHARE = 500
"""Ids in one request to a server: it reads a filter of more than some thousand words slowly or not at all."""
FEW = 20
"""So many runs of one mark are asked for themselves rather than counted."""
BUSY_SECONDS = 30.0
"""How long to wait for another process that writes to an SQLite file."""

_MARKS = """
    SELECT runs.run_uuid, runs.status, tags.value
    FROM runs LEFT JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = '{key}'
    WHERE runs.experiment_id = {experiment} AND runs.lifecycle_stage = 'active'
"""


def lost_runs(expected: Mapping[str, str], experiment: store.Experiment) -> set[str]:
    """Find the MLflow runs that the store does not have, or has in another state than their marks say.

    Args:
        expected: MLflow run id → `Cursor.mark`; an empty one, of an earlier version, fits any state.
        experiment: where they should be.

    Raises:
        StoreError: the store does not answer.
    """
    if not expected:
        return set()
    if is_http(experiment.uri):
        with quiet(experiment.uri), faults(experiment.uri):
            return _lost_on_server(expected, experiment, store.client(experiment.uri))
    found = {run: _mark(status, mark) for run, status, mark in _rows(experiment)}
    return _differing(expected, found)


def _mark(status: str, mark: str | None) -> str:
    """A run that a backup caught between its last tags and its status is in no state that we left it in."""
    return "" if mark is None or (mark.startswith("finished") and status != "FINISHED") else mark


def _differing(expected: Mapping[str, str], found: Mapping[str, str]) -> set[str]:
    return {run for run, mark in expected.items() if run not in found or (mark and found[run] != mark)}


def _rows(experiment: store.Experiment) -> list[tuple[str, str, str | None]]:
    """Id, status and mark of each of the experiment's runs in a database."""
    query = _MARKS.format(key=tracking_tags.MARK, experiment=int(experiment.id))
    if path := sqlite_path(experiment.uri):
        try:
            # MLflow's import would take a hundred times as long as the query.
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", BUSY_SECONDS, uri=True)) as connection:
                return connection.execute(query).fetchall()
        except sqlite3.Error as error:
            raise StoreError(sentence(str(error), experiment.uri)) from error
    import sqlalchemy

    with faults(experiment.uri):
        engine = sqlalchemy.create_engine(experiment.uri, poolclass=sqlalchemy.pool.NullPool)
        with engine.connect() as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(sqlalchemy.text(query))]


def _lost_on_server(expected: Mapping[str, str], experiment: store.Experiment, client: MlflowClient) -> set[str]:
    by_mark: dict[str, list[str]] = {}
    for run, mark in expected.items():
        by_mark.setdefault(mark, []).append(run)
    doubtful: list[str] = []
    for mark, runs in by_mark.items():
        for share in _shares(runs):
            if len(share) < FEW or not _has_all(share, mark, experiment, client):
                doubtful += share
    found: dict[str, str] = {}
    for share in _shares(doubtful):
        for one in client.search_runs([experiment.id], _among(share), max_results=SHARE):
            found[one.info.run_id] = _mark(one.info.status, one.data.tags.get(tracking_tags.MARK))
    return _differing({run: expected[run] for run in doubtful}, found)


def _has_all(runs: list[str], mark: str, experiment: store.Experiment, client: MlflowClient) -> bool:
    """Whether the server has all of some runs in the state of `mark`: it is asked for the last of them, by place."""
    which = _among(runs)
    if mark:
        which += f" AND tags.`{tracking_tags.MARK}` = '{mark}'"
    if mark.startswith("finished"):
        which += " AND attributes.status = 'FINISHED'"
    place = base64.b64encode(json.dumps({"offset": len(runs) - 1}).encode()).decode()
    # A server of another make may know no such places: then it is asked for the runs themselves.
    with contextlib.suppress(Refused), faults(experiment.uri):
        return bool(client.search_runs([experiment.id], which, max_results=1, page_token=place))
    return False


def _among(runs: Iterable[str]) -> str:
    return "attributes.run_id IN ({})".format(", ".join(f"'{run}'" for run in runs))


def _shares(runs: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(runs), SHARE):
        yield runs[start : start + SHARE]
