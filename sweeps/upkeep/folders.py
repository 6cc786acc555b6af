"""The folders of a home, listed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ablative.study.home.paths import Home, TaskPaths


def names(folder: Path) -> list[str]:
    """Names of a folder's folders, without hidden ones; none where there is no such folder."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def task_folders(home: Home) -> Iterator[TaskPaths]:
    """Every task that has a folder."""
    for name in names(home.runs):
        run = home.run(name)
        yield run
        yield from map(run.evaluation, names(run.evaluations))


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what vanishes meanwhile has none."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size if os.path.lexists(path) else 0
    return sum(size(each) for each in path.iterdir())
