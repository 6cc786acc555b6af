"""The runs of any MLflow experiment, ablate's or not: from a database, a server, or a folder `mlruns`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablative.reports.imports.mlflow_folder import FolderRuns
from ablative.reports.imports.mlflow_stores import DatabaseRuns, ServerRuns
from ablative.reports.imports.rows import Row, SourceTable, columns_of
from ablative.reports.imports.run_store import Run, RunStore
from ablative.reports.store.store_tables import Point
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.secrets import redact
from ablative.study.home import tracking_tags
from ablative.study.syntax.sources import SourceConfig
from ablative.study.syntax.yaml_text import shown

STATUS = "attributes.status"
DONE = "FINISHED"


def read_mlflow(config: SourceConfig, folder: Path) -> SourceTable:
    """The runs of the experiment that a source names; raises ConfigError or StoreError."""
    [place] = config.places
    store, title = _opened(place, folder, f"{config.at}.mlflow")
    known = store.experiments()
    name = config.experiment or _only(store, known, config.at, title)
    if name not in known:
        raise ConfigError(unknown("experiment", name, known, f"{config.at}.experiment: in {title}"))
    number = known[name]
    rows = tuple(_row(run, name, store.link(number, run.run_id)) for run in store.runs(number))

    def points(runs: Sequence[str], metrics: Sequence[str]) -> list[Point]:
        return store.points(runs, [key.partition(".")[2] for key in metrics])

    return SourceTable(f"experiment {name} of {title}", columns_of(rows), rows, frozenset([STATUS]), points=points)


def _only(store: RunStore, known: Mapping[str, str], at: str, title: str) -> str:
    """The only experiment that has runs."""
    full = [name for name, number in known.items() if any(True for _ in store.runs(number))]
    if len(full) == 1:
        return full[0]
    raise ConfigError(f"{at}.experiment: missing; {title} has {', '.join(sorted(known)) or 'no experiment'}")


def _opened(place: str, folder: Path, at: str) -> tuple[RunStore, str]:
    scheme, slashes, rest = place.partition("://")
    if scheme in ("http", "https"):
        return ServerRuns(place), redact(place)
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        return DatabaseRuns(place), redact(place)
    if scheme.partition("+")[0] == "sqlite" and slashes:
        rest = rest.removeprefix("/")
    elif slashes and scheme != "file":
        raise ConfigError(
            f"{at}: cannot read '{scheme}:…'; known are a path of mlflow.db or mlruns, sqlite:///FILE, postgresql://… "
            "and http(s)://… of an MLflow server"
        )
    path = folder / Path(rest if slashes else place.removeprefix("file:")).expanduser()
    if path.is_dir():
        return FolderRuns(path), shown(path)
    if path.is_file():
        return DatabaseRuns(f"sqlite:///{path}"), shown(path)
    near = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    raise ConfigError(unknown("file", path.name, [n for n in near if not n.startswith(".")], f"{at}: in {path.parent}"))


def _row(run: Run, experiment: str, link: str) -> Row:
    name = run.name or run.tags.get("mlflow.runName", "")
    attributes = {
        **{"run_id": run.run_id, "run_name": name, "status": run.status, "user_id": run.tags.get("mlflow.user")},
        **{"start_time": run.started, "end_time": run.ended},
    }
    values: dict[str, Any] = {}
    for head, own in (("params", run.params), ("metrics", run.metrics), ("tags", run.tags), ("attributes", attributes)):
        values |= {f"{head}.{key}": value for key, value in own.items() if value not in (None, "")}
    return Row(
        place=f"run {name} ({run.run_id[:8]}) of experiment {experiment}" if name else f"run {run.run_id}",
        values=values,
        run=run.run_id,
        link=link,
        unfinished="" if run.status == DONE else run.status.lower(),
        commit=_commit(run.tags),
        started=run.started,
        ended=run.ended,
    )


def _commit(tags: Mapping[str, str]) -> str:
    commit = tags.get(tracking_tags.COMMIT) or tags.get("mlflow.source.git.commit") or ""
    dirty = "-dirty" if tags.get(tracking_tags.DIRTY, tags.get("mlflow.git.dirty")) in ("1", "true", "True") else ""
    return f"{commit}{dirty}" if re.fullmatch(r"[0-9a-f]{7,64}", commit) else "unknown"
