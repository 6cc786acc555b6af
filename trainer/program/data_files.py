"""Fingerprints of files that a user's program reads and that the study names: their content is part of ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from ablative.study.core.errors import AbsentDataError
from ablative.study.core.files import read_json, write_json
from ablative.study.core.identity import ID_DIGITS
from ablative.study.core.typed import Settings
from ablative.study.home.paths import Home
from ablative.trainer.program.words import Filling

BLOCK = 1 << 20


def data_names(texts: Sequence[str], values: Settings, folder: Path) -> list[str]:
    """The paths that a stage's `data` means.

    Args:
        texts: paths, with placeholders for keys and for the folder of the code (`{code}`).
        values: key → value.
        folder: of the code.
    """
    filling = Filling(values, {}, {"code": str(folder)}, {}, {})
    return [filling.text(text) for text in texts]


def fingerprints(names: Sequence[str], folder: Path, home: Home, where: str) -> dict[str, str]:
    """Name → fingerprint of each file or folder that a stage reads.

    Args:
        names: paths, as the study has them.
        folder: what a relative one begins at.
        home: keeps the fingerprints of files that have not changed (size and time).
        where: for messages.

    Raises:
        AbsentDataError: there is no such file.
    """
    if not names:
        return {}
    kept_at = home.cache / "program_data.json"
    kept = dict(read_json(kept_at, {str: str}) or {})
    found = {}
    for name in names:
        files = sorted(_files(folder / Path(name).expanduser()))
        if not files:
            raise AbsentDataError(f"{where}: no file {folder / name}")
        total = hashlib.sha256()
        for path in files:
            stat = path.stat()
            key = f"{path}:{stat.st_size}:{stat.st_mtime_ns}"
            if key not in kept:
                kept[key] = _digest(path)
            total.update(f"{path.relative_to(files[0].parent) if len(files) > 1 else ''}\0{kept[key]}\0".encode())
        found[name] = total.hexdigest()[:ID_DIGITS]
    if home.root.is_dir():
        write_json(kept_at, kept)
    return found


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or every file below a folder."""
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file())


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            total.update(block)
    return total.hexdigest()
