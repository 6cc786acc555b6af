"""Which shard files a pattern names: a folder, a glob or a brace range, relative ones under $ABLATE_DATA."""

from __future__ import annotations

import difflib
import glob
import os
import re
from pathlib import Path

from ablative.study.core.errors import AbsentDataError, DataError, unknown
from ablative.trainer.clip.data.images.places import VARIABLE

SUFFIXES = (".tar", ".tar.gz", ".tgz")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def find_shards(pattern: str, where: str = "") -> list[Path]:
    """Absolute paths of the shards that a pattern names, in the order of their names.

    A folder means the shards in it; `{000..008}` and `{a,b}` expand to names that must all exist; `*`, `?`, `[]`
    and `**` match what is there. A relative pattern starts at `$ABLATE_DATA` or, where that is not set or holds
    nothing that matches, at the current folder.

    Args:
        where: what the pattern was given for, to stand in front of error messages.

    Raises DataError (AbsentDataError where nothing is there) saying where was looked and what was expected.
    """
    where = f"{where}: " if where else ""
    if not pattern:
        raise DataError(f"{where}no path given; expected shards ({', '.join(SUFFIXES)}): a folder, glob or brace range")
    if re.match(r"\w+:", pattern):
        raise DataError(f"{where}'{pattern}' is no local path; copy the shards here first")
    roots = _roots(pattern)
    for root in roots:
        names = [os.path.join(root, name) for name in expand_braces(os.path.expanduser(pattern))]
        matches = {name: _match(name) for name in names}
        if found := sorted({path for paths in matches.values() for path in paths}):
            if lost := [name for name, paths in matches.items() if not paths]:
                raise DataError(
                    f"{where}{lost[0]} does not exist ({len(lost)} of the {len(names)} that the range names)"
                )
            return [Path(path) for path in found]
    raise AbsentDataError(_nothing(pattern, roots, where))


def expand_braces(pattern: str) -> list[str]:
    """What a shell makes of braces; zeros in front set the width.

    >>> expand_braces("cc-{08..10}.{tar,tgz}")[:3]
    ['cc-08.tar', 'cc-08.tgz', 'cc-09.tar']
    """
    braces = _BRACES.search(pattern)
    if braces is None:
        return [pattern]
    span = _RANGE.fullmatch(braces[1])
    if span:
        first, last = span.groups()
        words = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    else:
        words = braces[1].split(",")
    return [
        name for word in words for name in expand_braces(pattern[: braces.start()] + word + pattern[braces.end() :])
    ]


def _roots(pattern: str) -> list[str]:
    """Folders where the pattern may start."""
    if os.path.isabs(os.path.expanduser(pattern)):
        return ["/"]
    folder = os.environ.get(VARIABLE)
    return list(dict.fromkeys([os.path.abspath(folder), os.getcwd()] if folder else [os.getcwd()]))


def _match(name: str) -> list[str]:
    if os.path.isdir(name):
        return [os.path.join(name, entry) for entry in os.listdir(name) if _is_shard(entry)]
    if os.path.isfile(name):
        # Named outright: whether it is an archive is found out by reading it.
        return [name]
    return [path for path in glob.glob(name, recursive=True) if _is_shard(path) and os.path.isfile(path)]


def _is_shard(name: str) -> bool:
    return name.endswith(SUFFIXES) and not os.path.basename(name).startswith(".")


def _nothing(pattern: str, roots: list[str], where: str) -> str:
    """Why nothing was found: the deepest folder that exists, and what is there instead."""
    places = [os.path.normpath(os.path.join(root, os.path.expanduser(pattern))) for root in roots]
    if os.path.isdir(places[0]):
        return f"{where}no shards ({', '.join(SUFFIXES)}) in {places[0]}; `ablate data pack` makes some"
    # What is lacking is the first name of a range.
    base = named = os.path.normpath(os.path.join(roots[0], expand_braces(os.path.expanduser(pattern))[0]))
    while not os.path.isdir(base):
        base = os.path.dirname(base)
    wanted = os.path.relpath(named, base).split(os.sep)[0]
    there = sorted(name for name in os.listdir(base) if not name.startswith("."))[:12]
    message = f"{where}no shards match {' or '.join(places)}"
    if roots == ["/"] or os.environ.get(VARIABLE):
        return unknown("path", wanted, there, message)
    if difflib.get_close_matches(wanted, there, n=1):
        message = unknown("path", wanted, there, message)
    return f"{message}; ${VARIABLE}, where relative paths start, is not set"
