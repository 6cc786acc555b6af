"""Fingerprints of files that a user's program reads and that the study names: their content is part of ids."""

from __future__ import annotations

import glob
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
        texts: paths or patterns, with placeholders for keys and for the folder of the code (`{code}`).
        values: key → value.
        folder: of the code.
    """
    filling = Filling(values, {}, {"code": str(folder)}, {}, {})
    return [filling.text(text) for text in texts]


class DataFiles:
    """Fingerprints of the files of one study; the home keeps those of files that have not changed (size and time)."""

    def __init__(self, folder: Path, home: Home, without: bool = False) -> None:
        """`folder`: what a relative path begins at; `without`: files that are absent are no error."""
        self._folder, self._home, self._without = folder, home, without
        self._kept: dict[str, str] | None = None
        self._known: dict[str, str] = {}
        self.absent: dict[str, str] = {}
        """Name → what is said of a file that is not on this machine."""

    def fingerprints(self, names: Sequence[str], where: str) -> dict[str, str]:
        """Name → fingerprint of each file or folder that a stage reads; empty for one that is absent.

        Args:
            names: paths of files or folders, or patterns, as the study has them.
            where: for messages.

        Raises:
            AbsentDataError: there is no such file.
        """
        for name in names:
            if name not in self._known:
                self._known[name] = self._fingerprint(name, where)
        return {name: self._known[name] for name in names}

    def _fingerprint(self, name: str, where: str) -> str:
        top = self._folder / Path(name).expanduser()
        files = sorted(_files(top))
        if not files and glob.has_magic(name):
            own = Path(name).expanduser()
            matches = glob.glob(str(own), root_dir=self._folder, recursive=True)
            files = sorted({file for match in matches for file in _files(self._folder / match)})
            top = self._folder / next(parent for parent in own.parents if not glob.has_magic(str(parent)))
        if not files:
            said = f"{where}: no file {self._folder / Path(name).expanduser()}"
            if not self._without:
                raise AbsentDataError(said)
            self.absent[name] = said
            return ""
        total = hashlib.sha256()
        for path in files:
            place = "" if path == top else path.relative_to(top).as_posix()
            total.update(f"{place}\0{self._content(path)}\0".encode())
        return total.hexdigest()[:ID_DIGITS]

    def _content(self, path: Path) -> str:
        """Hash of one file's content, read again only where the file has changed."""
        place = self._home.cache / "program_data.json"
        if self._kept is None:
            self._kept = dict(read_json(place, {str: str}) or {})
        state = path.stat()
        key = f"{path}:{state.st_size}:{state.st_mtime_ns}"
        if key not in self._kept:
            self._kept[key] = _digest(path)
            if self._home.root.is_dir():
                write_json(place, self._kept)
        return self._kept[key]


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
