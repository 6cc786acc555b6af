"""Composed configuration trees that each user keeps between commands: importing Hydra and composing cost half a second.

A tree is kept under a digest of all that it comes from, the files' contents included, so that no tree is ever stale and
every home, config folder and checkout with these files shares it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ablative.study.core.damage import DamagedError
from ablative.study.core.files import load_json, write_atomic
from ablative.study.syntax.words import Tree

MOST = 1000
"""Trees that are kept, some kilobytes each; the oldest are removed."""
_CHANGING = re.compile(rb"\$\{\s*(oc\.env|env|now|hydra)\b")
"""Interpolations whose value no file has."""


def kept_trees() -> Path | None:
    """`$XDG_CACHE_HOME/ablate/trees`, by default below `~/.cache`; None for a user without a home folder."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    with contextlib.suppress(RuntimeError):
        # The standard has a relative one ignored.
        return (named if named.is_absolute() else Path.home() / ".cache") / "ablate" / "trees"
    return None


class KeptTrees:
    """The trees of some config folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._place = kept_trees()

    def get(self, asked: Sequence[object], studies: bool, make: Callable[[], Tree]) -> Tree:
        """A tree that is there, or the one that `make` composes.

        Args:
            asked: what is composed: its name and overrides.
            studies: the files of studies count, too; without, one may edit them.
            make: composes the tree; what it raises is not kept.
        """
        state = hashlib.sha256(repr(asked).encode())
        for content in self._contents[studies]:
            state.update(content)
        changing = any(map(_CHANGING.search, (*self._contents[studies], repr(asked).encode())))
        if self._place is None or changing:
            return make()
        path = self._place / f"{state.hexdigest()[:32]}.json"
        with contextlib.suppress(OSError, DamagedError):  # none yet, a torn one, or no folder of ours
            kept: Tree = load_json(path, {str: object})
            return kept
        made = make()
        with contextlib.suppress(OSError):  # a full disk, or a folder that cannot be written
            _write(path, made)
        return made

    @functools.cached_property
    def _contents(self) -> dict[bool, list[bytes]]:
        """Names and contents of all files that count, with and without studies."""
        found = {studies: [_version()] for studies in (True, False)}
        for folder in self._folders:
            for file in sorted(folder.rglob("*.yaml")):
                content = [repr((str(file.relative_to(folder)), file.stat().st_size)).encode(), *_content(file)]
                for studies in (True, False)[: 1 if file.parent.name == "study" else 2]:
                    found[studies] += content
            for contents in found.values():
                contents.append(b"end of a folder")
        return found


def _content(file: Path) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # a link that leads nowhere is Hydra's to report, if it is asked for
        yield file.read_bytes()


@functools.cache
def _version() -> bytes:
    """Hydra's, without importing it."""
    spec = importlib.util.find_spec("hydra")
    return Path(spec.origin).read_bytes() if spec is not None and spec.origin is not None else b""


def _write(path: Path, tree: Tree) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(tree), durable=False)
    by_age = sorted(path.parent.glob("*.json"), key=lambda kept: kept.stat().st_mtime_ns)
    for old in by_age[:-MOST]:
        old.unlink(missing_ok=True)
