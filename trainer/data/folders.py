"""Folders and files of evaluation sets: where they are, which images they hold, and their fingerprint."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from study.errors import AbsentDataError, ConfigError, DataError
from study.schema import DatasetConfig
from trainer.data import streams
from trainer.data.shard_files import FINGERPRINT_DIGITS
from trainer.data.shard_paths import VARIABLE

IMAGES = (".jpg", ".jpeg", ".png", ".webp")
"""Suffixes of images, in either case."""


def locate(path: str, where: str, expected: str) -> Path:
    """A file or folder of a data set; relative paths start at $ABLATE_DATA or else at the current folder.

    Args:
        expected: the layout, in words, for the error message.

    Raises:
        ConfigError: no path is set.
        AbsentDataError: nothing there.
    """
    if not path:
        raise ConfigError(f"{where}: no path is set; expected {expected}")
    roots = list(dict.fromkeys([os.environ.get(VARIABLE) or os.getcwd(), os.getcwd()]))
    places = [Path(root).absolute() / Path(path).expanduser() for root in roots]
    for place in places:
        if place.exists():
            return place
    hint = "" if os.environ.get(VARIABLE) or Path(path).is_absolute() else f"; ${VARIABLE} is not set"
    raise AbsentDataError(f"{where}: {' or '.join(map(str, places))} does not exist; expected {expected}{hint}")


def required(folder: Path, name: str, where: str, expected: str) -> Path:
    """A file or folder that the layout has; raises DataError naming the layout and what is there instead."""
    path = folder / name
    if path.exists():
        return path
    found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) if folder.is_dir() else "no folder"
    raise DataError(f"{where}: no {name} in {folder} (found: {found or 'nothing'}); expected {expected}")


def images_in(folder: Path) -> list[Path]:
    """Images below a folder, sorted by their path."""
    found = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if path.suffix.lower() in IMAGES and not path.name.startswith("."))


def read_json(path: Path, where: str, expected: str) -> Any:
    """A JSON file; raises DataError where it is none. Annotations are large, so the last two stay in memory."""
    try:
        return _parsed(path, path.stat().st_mtime_ns, path.stat().st_size)
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: {path} is no readable JSON ({error}); expected {expected}") from None


@functools.lru_cache(maxsize=2)
def _parsed(path: Path, modified: int, size: int) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[str]:
    """Lines of a text file without empty ones."""
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def choose(dataset: DatasetConfig, split: str, rows: np.ndarray, where: str) -> np.ndarray:
    """A fixed random subset of `rows`, ascending, as large as the configuration's `train` or `test` says."""
    wanted = getattr(dataset, split)
    if wanted > len(rows):
        raise ConfigError(f"{where}: {split}={wanted}, but there are {len(rows)} such samples")
    if not wanted:
        return rows
    order = streams.permutation(streams.stream("split", split, dataset.seed), len(rows))
    return np.sort(rows[order[:wanted]])


def fingerprint_files(root: Path, files: Sequence[Path], texts: Sequence[Path] = ()) -> str:
    """12 hexadecimal digits over names and sizes of files, and the content of `texts`.

    The content of images is left out: ImageNet's 140 GB would have to be read before anything can be planned.
    """
    state = hashlib.sha256()
    for path in sorted(files):
        state.update(f"{os.path.relpath(path, root)}\n{path.stat().st_size}\n".encode("utf-8", "surrogateescape"))
    for path in texts:
        state.update(path.read_bytes())
    return state.hexdigest()[:FINGERPRINT_DIGITS]
