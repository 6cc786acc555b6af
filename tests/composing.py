"""Configurations that Hydra has composed are kept while the tests run: a tree takes Hydra a quarter of a second of
work, and hundreds of tests ask for the same ones. Each tree is really composed when the first test asks for it."""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

from shared import folder

from ablative.study.spec.compose import Composer


@functools.cache
def _content(file: Path, modified: int, size: int) -> bytes:
    return file.read_bytes()


def _files(root: Path, studies: bool) -> list[tuple[str, bytes]]:
    """Names below a config folder, and what is in the files: two tests' folders with the same files mean the same."""
    found = sorted(file for file in root.rglob("*.yaml") if studies or file.parent != root / "study")
    stats = [file.stat() for file in found]
    return [
        (str(file.relative_to(root)), _content(file, stat.st_mtime_ns, stat.st_size))
        for file, stat in zip(found, stats, strict=True)
    ]


def _key(composer: Composer, name: str, overrides: list[str], main: Path) -> str:
    # Only studies are composed from the files of studies, which differ from test to test.
    files = [_files(root, name.startswith("study/")) for root in composer.folders]
    return hashlib.sha256(repr((name, overrides, composer.folders.index(main), files)).encode()).hexdigest()


@functools.cache
def remember() -> None:
    """Let every Composer of this process look into the folder before it asks Hydra; errors are not kept."""
    trees = folder() / "trees"
    trees.mkdir(exist_ok=True)
    compose = Composer._compose_now

    def remembered(self: Composer, name: str, overrides: list[str], main: Path) -> dict[str, Any]:
        path = trees / _key(self, name, overrides, main)
        if not path.exists():
            draft = trees / f".{path.name}.{os.getpid()}"
            draft.write_bytes(pickle.dumps(compose(self, name, overrides, main)))
            draft.rename(path)
        found: dict[str, Any] = pickle.loads(path.read_bytes())
        return found

    Composer._compose_now = remembered  # type: ignore[method-assign]
