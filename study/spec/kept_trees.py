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
from ablative.study.core.files import load_json, user_cache, write_atomic
from ablative.study.syntax.words import Tree

MOST = 1000
"""Trees that are kept, some kilobytes each; the oldest are removed."""
_CHANGING = re.compile(rb"\$\{\s*(oc\.env|env|now|hydra)\b")
"""Interpolations whose value no file has."""


class KeptTrees:
    """The trees of some config folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._place = user_cache("trees")

    def get(self, asked: Sequence[object], studies: bool, make: Callable[[], Tree]) -> Tree:
        """A tree that is there, or the one that `make` composes.

        Args:
            asked: what is composed: its name and overrides.
            studies: the files of studies count, too; without, one may edit them.
            make: composes the tree; what it raises is not kept.
        """
        state, changing = self._states[studies]
        words = repr(asked).encode()
        if self._place is None or changing or _CHANGING.search(words):
            return make()
        state = state.copy()
        state.update(words)
        path = self._place / f"{state.hexdigest()[:32]}.json"
        with contextlib.suppress(OSError, DamagedError):  # none yet, a torn one, or no folder of ours
            kept: Tree = load_json(path, {str: object})
            return kept
        made = make()
        with contextlib.suppress(OSError):  # a full disk, or a folder that cannot be written
            _write(path, made)
        return made

    @functools.cached_property
    def _states(self) -> dict[bool, tuple[hashlib._Hash, bool]]:
        """Whether studies count → hash of the names and contents of all files that do, and whether one may change."""
        contents = {studies: [_version()] for studies in (True, False)}
        for place, file in ((place, file) for place, folder in enumerate(self._folders) for file in _files(folder)):
            read = b"".join(_content(file))
            content = repr((place, str(file.relative_to(self._folders[place])), len(read))).encode() + read
            contents[True].append(content)
            if file.parent.name != "study":
                contents[False].append(content)
        return {
            studies: (hashlib.sha256(b"".join(found)), any(map(_CHANGING.search, found)))
            for studies, found in contents.items()
        }


def _files(folder: Path) -> Iterator[Path]:
    """The YAML files below a config folder, also of groups that are links; homes and hidden folders have none.

    The folder may be that of a whole project.
    """
    for top, folders, names in os.walk(folder):
        linked = [Path(top, name) for name in folders if Path(top) == folder and Path(top, name).is_symlink()]
        yield from (file for group in sorted(linked) for file in sorted(group.glob("*.yaml")))
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not Path(top, name, "identity").exists()
        )
        yield from (Path(top, name) for name in sorted(names) if name.endswith(".yaml"))


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
