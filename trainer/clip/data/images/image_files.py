"""Which files of a folder are images of it, and which ones programs have left there."""

from __future__ import annotations

import os
from pathlib import Path

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""Suffixes of what can be read, in lower case."""
LEFT_BY_PROGRAMS = ("__MACOSX", "@eaDir")
"""Folders with small copies of images: of macOS's archives and of Synology's stations."""


def is_visible(name: str) -> bool:
    """Whether a file or folder is the user's: not hidden, as `.ipynb_checkpoints` is, nor left there by a program."""
    return not name.startswith(".") and name not in LEFT_BY_PROGRAMS


def visible_files(folder: Path) -> list[Path]:
    """Files at any depth below a folder, sorted by their path; hidden ones and those in hidden folders are skipped."""
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if is_visible(name)]
        found += [Path(root) / name for name in names if is_visible(name)]
    return sorted(found)
