"""Several users of one home: what is written there has the group's rights that the home's folder has."""

from __future__ import annotations

import os
import stat

from ablative.study.home.paths import Home

GROUP = stat.S_IRWXG


def follow_group(home: Home) -> int:
    """Let this process, and those that it starts, give the home's group what the home's folder gives it.

    A home that a group may write is shared as a whole, also where a member's umask is 022. Returns the umask that was
    set before.
    """
    before = os.umask(0o077)
    try:
        given = os.stat(home.root).st_mode & GROUP
    except OSError:
        given = 0  # no home yet: its folder will have what the umask leaves
    os.umask(before & ~given)
    return before


def new_file_mode() -> int:
    """Rights of a new file under the umask, for those whose library makes it with fewer."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask
