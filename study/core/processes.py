"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> bool:
    """Have the kernel kill this process (SIGKILL) as soon as its parent dies (Linux only).

    For the kernel, the parent is the thread that forked: call it only in processes that a long-lived thread starts.

    Args:
        parent: process id of the parent, read before the fork.

    Returns:
        False where the parent has died already, so that no signal will come: the caller has to end itself.
    """
    if sys.platform != "linux":
        return True
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent
