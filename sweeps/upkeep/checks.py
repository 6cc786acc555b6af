"""The lines of `ablate doctor` on a home's files: damaged ones, rights of its group, and what it could lose."""

from __future__ import annotations

import os
import stat

from ablative.study.core.errors import StoreError
from ablative.study.core.plurals import counted
from ablative.study.home.paths import Home
from ablative.sweeps.upkeep.damaged_files import damaged_files
from ablative.sweeps.upkeep.disposable import KINDS, disposable

SHOWN = 3


def damage(home: Home) -> tuple[bool, str]:
    """Whether files are damaged, and which."""
    found = list(damaged_files(home))
    if not found:
        return False, "all records, journals, configurations, plans and submissions can be read"
    shown = "; ".join(found[:SHOWN]) + (f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    return True, f"{counted(len(found), 'damaged file')}: {shown}; `ablate run STUDY` does those tasks again"


def rights(home: Home) -> tuple[bool, str]:
    """Whether all that lies in a home that a group shares may be written by the group."""
    mode = home.root.stat().st_mode
    if not mode & stat.S_IWGRP:
        return False, "the home is its owner's alone"
    shut = []
    for folder, folders, files in os.walk(home.root):
        paths = (os.path.join(folder, name) for name in (*folders, *files))
        shut += [path for path in paths if not os.path.islink(path) and not os.stat(path).st_mode & stat.S_IWGRP]
    if shut:
        advice = f"chmod -R g+rwX {home.root}, each owner for the own files"
        return True, f"{counted(len(shut), 'file')} the home's group cannot write, such as {shut[0]}; {advice}"
    if not mode & stat.S_ISGID:
        advice = f"find {home.root} -type d -exec chmod g+s {{}} +"
        return False, f"its group may write all of it; new files get their maker's group, unless: {advice}"
    return False, "its group may write all of it"


def room(home: Home) -> tuple[bool, str]:
    """What the home could lose."""
    parts = []
    for kind in KINDS:
        try:
            found = disposable(home, kind)
        except StoreError as error:
            parts.append(f"{kind}: {error}")
            continue
        if found.paths:
            parts.append(f"{kind} {shown(found.bytes)}")
    return False, f"{', '.join(parts)} (`ablate doctor --free KIND` removes one)" if parts else "nothing"


def shown(size: int) -> str:
    """`3.2 MiB`."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
