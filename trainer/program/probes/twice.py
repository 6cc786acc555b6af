"""The same question in another process: what differs between the answers is no configuration that was chosen.

The second process runs later, in another folder that holds links to the same files, with another seed of hashes and
another number of processor cores.
"""

from __future__ import annotations

import fnmatch
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ablative.study.core.errors import ConfigError
from ablative.study.core.identity import differences, flatten
from ablative.study.core.typed import Settings
from ablative.trainer.program.probes.process import Place
from ablative.trainer.program.probes.program import Invocation

_DATES = ("%Y-%m-%d", "%Y_%m_%d", "%Y.%m.%d", "%Y/%m/%d", "%Y%m%d", "%d-%m-%Y", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
"""How programs write a day into the name of a run; a second apart, two of them are the same."""
_MOST = 4
"""Keys that an error shows."""


def here(invocation: Invocation) -> Place:
    return Place(invocation.cwd, invocation.environment())


@contextmanager
def elsewhere(invocation: Invocation) -> Iterator[Place]:
    """A folder of links to what lies in the program's, for a second process."""
    with tempfile.TemporaryDirectory(prefix="ablate-") as name:
        folder = Path(name).resolve()
        for path in invocation.cwd.iterdir():
            (folder / path.name).symlink_to(path.absolute())
        yield Place(folder, _environment(invocation), elsewhere=True)


def later_here(invocation: Invocation) -> Place:
    """The program's own folder, for a second process of a program that reaches out of its folder (`../data`)."""
    return Place(invocation.cwd, _environment(invocation), elsewhere=True)


def _environment(invocation: Invocation) -> Mapping[str, str]:
    environment = invocation.environment()
    if "PYTHONHASHSEED" not in invocation.env:
        environment["PYTHONHASHSEED"] = "1" if environment.get("PYTHONHASHSEED") != "1" else "2"
    return environment


def varying(first: Settings, second: Settings, given: str, started: float) -> dict[str, str]:
    """Dotted keys whose values were not chosen → what was found.

    Args:
        first: the values of one process.
        second: those of the other.
        given: all that was asked, as text: a date in it was chosen.
        started: when the first process was, in seconds since the epoch.
    """
    found = {key: f"{a!r} and {b!r}" for key, (a, b) in differences(first, second).items()}
    days = {time.strftime(form, moment(started)) for form in _DATES for moment in (time.localtime, time.gmtime)}
    for key, value in flatten(first).items():
        if isinstance(value, str) and value not in given and any(day in value for day in days):
            found.setdefault(key, f"{value!r}, of today")
    return found


def is_unhashed(key: str, patterns: Sequence[str]) -> bool:
    """Whether a dotted key, or a section that it is in, matches a glob of `unhashed`.

    >>> is_unhashed("trainer.log_every", ["*.log_*"]), is_unhashed("paths.root", ["paths"])
    (True, True)
    """
    parts = key.split(".")
    names = [".".join(parts[:i]) for i in range(1, len(parts) + 1)]
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def check_constant(found: Mapping[str, str], unhashed: Sequence[str], where: str, name: str) -> None:
    """Raise ConfigError for keys that vary and are part of the identity."""
    keys = [key for key in sorted(found) if not is_unhashed(key, unhashed)]
    if keys:
        shown = "; ".join(f"{key}: {found[key]}" for key in keys[:_MOST])
        more = f"; and {len(keys) - _MOST} more" if len(keys) > _MOST else ""
        raise ConfigError(
            f"{where}: {name} was asked twice for its configuration, and its values depend on time, folder, chance or "
            f"processor cores ({shown}{more}); if they change no result, write `unhashed: [{', '.join(keys)}]`, else "
            "give them values"
        )
