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

from ablative.study.core.errors import DataError, UnfitDataError
from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.images.image_files import PICTURES, visible_files
from ablative.trainer.clip.data.shards.shard_files import FINGERPRINT_DIGITS
from ablative.trainer.clip.spec.config import DatasetConfig


def required(folder: Path, name: str, where: str, expected: str) -> Path:
    """A file or folder that the layout has; raises DataError naming the layout and what is there instead."""
    path = folder / name
    if path.exists():
        return path
    raise DataError(f"{where}: no {name} in {folder} (found: {listing(folder)}); expected {expected}")


def listing(folder: Path) -> str:
    """The first names in a folder, for error messages."""
    if not folder.is_dir():
        return "no folder"
    return ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"


def images_in(folder: Path) -> list[Path]:
    """Images at any depth below a folder, sorted by their path; nothing that is hidden, or left there by a program."""
    return [path for path in visible_files(folder) if path.suffix.lower() in PICTURES]


def read_json(path: Path, where: str, expected: str, keep: bool = True) -> dict[str, Any]:
    """The object in a JSON file; raises DataError where there is none.

    Args:
        keep: annotations are large, so the last two stay in memory; those of gigabytes better do not.
    """
    try:
        content = _kept(path, path.stat().st_mtime_ns, path.stat().st_size) if keep else _parsed(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: {path} is no readable JSON ({error}); expected {expected}") from None
    if not isinstance(content, dict):
        raise DataError(f"{where}: {path} is a {type(content).__name__}, expected an object: {expected}")
    return content


@functools.lru_cache(maxsize=2)
def _kept(path: Path, modified: int, size: int) -> Any:
    return _parsed(path)


def _parsed(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def misfit(path: Path, error: Exception, where: str, expected: str) -> DataError:
    """What to raise where reading a JSON's content failed: a key that it lacks, or a value of another kind."""
    found = f"lacks {error}" if isinstance(error, KeyError) else f"holds a value of another kind ({error})"
    return DataError(f"{where}: {path} {found}; expected {expected}")


def read_lines(path: Path) -> list[str]:
    """Lines of a text file without empty ones."""
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def choose(dataset: DatasetConfig, split: str, rows: np.ndarray, where: str) -> np.ndarray:
    """A fixed random subset of `rows`, ascending, as large as the configuration's `train` or `test` says."""
    wanted = count_of(dataset, split, len(rows), where)
    if wanted == len(rows):
        return rows
    order = streams.permutation(streams.stream("split", split, dataset.seed), len(rows))
    return np.sort(rows[order[:wanted]])


def count_of(dataset: DatasetConfig, split: str, there: int, where: str) -> int:
    """How many of a split's samples the configuration takes; raises UnfitDataError where it takes more than `there`."""
    wanted: int = getattr(dataset, split) or there
    if wanted > there:
        of_label = f" that have the label '{dataset.task}'" if dataset.kind == "shards" and dataset.task else ""
        path = dataset.test_path if dataset.kind == "shards" and split == "test" else dataset.path
        raise UnfitDataError(
            f"{where}: suite.datasets.{dataset.name}.{split}={wanted}, but the {split} split"
            f"{f' ({path})' if path else ''} has {there} samples{of_label}; give as many at most, or 0 for all"
        )
    return wanted


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
