"""Runs in a folder `mlruns`, which MLflow wrote by default before its version 3.7."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ablative.reports.imports.run_store import Run, RunStore
from ablative.reports.store.store_tables import Point
from ablative.study.core.errors import StoreError
from ablative.study.syntax.yaml_text import shown

META = "meta.yaml"
STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}


class FolderRuns(RunStore):
    """`mlruns/EXPERIMENT/RUN/{params,metrics,tags}/NAME`: one file a value."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def experiments(self) -> Mapping[str, str]:
        found = {}
        for path in sorted(self._root.glob(f"*/{META}")):
            meta = _meta(path)
            if meta.get("lifecycle_stage", "active") == "active":
                found[str(meta.get("name", path.parent.name))] = path.parent.name
        return found

    def runs(self, experiment: str) -> Iterator[Run]:
        found = []
        for path in sorted((self._root / experiment).glob(f"*/{META}")):
            meta = _meta(path)
            if meta.get("lifecycle_stage", "active") != "active":
                continue
            status = meta.get("status")
            found.append(
                Run(
                    run_id=str(meta.get("run_id") or meta.get("run_uuid") or path.parent.name),
                    status=STATUSES.get(status, str(status)) if isinstance(status, int) else str(status),
                    name=str(meta.get("run_name") or meta.get("name") or ""),
                    started=meta.get("start_time"),
                    ended=meta.get("end_time"),
                    params=_texts(path.parent / "params"),
                    metrics={name: _points(file)[-1][1] for name, file in _files(path.parent / "metrics")},
                    tags=_texts(path.parent / "tags"),
                )
            )
        return iter(sorted(found, key=lambda run: (run.started or 0, run.run_id)))

    def points(self, runs: Sequence[str], metrics: Sequence[str]) -> list[Point]:
        files = [
            (run, name, folder / name)
            for run in runs
            for folder in self._root.glob(f"*/{run}/metrics")
            for name in metrics
        ]
        return [Point.of(run, name, *each) for run, name, file in files if file.is_file() for each in _points(file)]


def _meta(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise StoreError(f"{shown(path)}: {' '.join(str(error).split())}") from None
    return found if isinstance(found, dict) else {}


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def _texts(folder: Path) -> dict[str, str]:
    return {name: path.read_text(encoding="utf-8", errors="replace") for name, path in _files(folder)}


def _points(file: Path) -> list[tuple[int, float]]:
    """(step, value) of each line `time value step`, the latest step last."""
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            time, value, *step = line.split()
            found.append((int(step[0]) if step else 0, int(time), float(value)))
        except (ValueError, IndexError):
            raise StoreError(f"{shown(file)}:{number}: expected time, value and step, found '{line[:60]}'") from None
    if not found:
        raise StoreError(f"{shown(file)}: empty")
    return [(step, value) for step, _, value in sorted(found, key=lambda each: each[:2])]
