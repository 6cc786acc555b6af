"""Which files of a folder are images of it, and which ones programs have left there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

PICTURES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""Suffixes of images that are read, in lower case."""
UNREAD = (".avif", ".heic", ".heif", ".jp2", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".nef", ".arw")
"""Suffixes of images that are not read: they are counted where they lie among others."""
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


def unread(files: Iterable[Path]) -> str:
    """How many of the files are images that are not read, by suffix, as in `3 .heic, 1 .svg`; "" for none."""
    found = Counter(suffix for path in files if (suffix := path.suffix.lower()) in UNREAD)
    return ", ".join(f"{count} {suffix}" for suffix, count in found.most_common())
