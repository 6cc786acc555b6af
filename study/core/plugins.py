"""What this program looks up by a name that users write: its own, and what other distributions add by entry points."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.registry import load

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class Plugins(Collection[str]):
    """Names of one kind of thing; none is imported before it is loaded, nor are other distributions looked through."""

    def __init__(self, kind: str, group: str, shipped: Mapping[str, str]) -> None:
        """Entry points are not read yet.

        Args:
            kind: a word for messages.
            group: entry point group of what others add.
            shipped: name → `module:object`, or module, of this program's own.
        """
        self.kind, self.group, self.shipped = kind, group, shipped

    def __contains__(self, name: object) -> bool:
        return name in self.shipped or any(name == other for other in self)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.shipped, *(point.name for point in self._points())}))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def unknown(self, name: str, where: str = "") -> str:
        """Message for a name that does not exist."""
        return f"{unknown(self.kind, name, self, where)}; others come by entry point ({self.group})"

    def load(self, name: str, where: str = "") -> object:
        """What has this name.

        Raises:
            ConfigError: there is none, there are two, or it cannot be imported.
        """
        at = f"{where}: " if where else ""
        points = [point for point in self._points() if point.name == name]
        if len(points) + (name in self.shipped) > 1:
            owners = [*(["this program"] if name in self.shipped else []), *sorted(map(_owner, points))]
            raise ConfigError(f"{at}{self.kind} '{name}' comes from {' and from '.join(owners)}; uninstall all but one")
        if name in self.shipped:
            found: object = load(self.shipped[name])
            return found
        if not points:
            raise ConfigError(self.unknown(name, where))
        [point] = points
        try:
            found = point.load()
        except (Exception, SystemExit) as error:  # whatever somebody else's module raises
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            own = f"{self.kind} '{name}' ({point.value}, of {_owner(point)})"
            raise ConfigError(f"{at}{own} cannot be imported: {reason}") from error
        return found

    def _points(self) -> list[EntryPoint]:
        if not _may_be_declared(self.group):
            return []
        from importlib.metadata import entry_points

        # A distribution that is installed and lies on the path, too, is found twice.
        points = entry_points(group=self.group)
        return list({(point.name, point.value, _owner(point)): point for point in points}.values())


def _may_be_declared(group: str) -> bool:
    """Whether some distribution names a group of entry points.

    Each plan looks for trainers, mostly in vain, and `importlib.metadata`, which imports a parser of e-mails, takes a
    tenth of it. It is asked where a folder on the path has the name, or the path has an archive, or there are other
    finders.
    """
    if any(finder is not PathFinder and hasattr(finder, "find_distributions") for finder in sys.meta_path):
        return True
    for folder in dict.fromkeys(each or os.curdir for each in sys.path):
        if os.path.isfile(folder) or any(group.encode() in points for points in _declarations(folder)):
            return True
    return False


def _declarations(folder: str) -> Iterator[bytes]:
    """Entry points of the distributions in a folder of the path, as they are written there."""
    names = []
    with contextlib.suppress(OSError):  # of the path, and not there
        names = os.listdir(folder)
    for name in names:
        if name.lower().endswith((".dist-info", "egg-info")):
            with contextlib.suppress(OSError), open(os.path.join(folder, name, "entry_points.txt"), "rb") as file:
                yield file.read()


def _owner(point: EntryPoint) -> str:
    return (point.dist.name if point.dist else "") or point.value
