"""Processes that must not outlive the one that started them, nor inherit what describes other processes."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping

UNUSED = "ABLATE_UNUSED"
"""Variable of a job: what `without_peers` took out of its environment, as its tasks' logs name it."""
PEERS = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "ROLE_RANK",
    "ROLE_WORLD_SIZE",
    "ROLE_NAME",
    "MASTER_ADDR",
    "MASTER_PORT",
    "ABLATE_TEAM_PORT",
    "ABLATE_SCHEDULER",
)
"""Variables by which a process finds the others of its run, or knows the scheduler's job that it is in."""
PEER_PREFIXES = ("TORCHELASTIC_", "PET_")

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


def without_peers(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that the executor starts, from the one in which `ablate` was called.

    A shell inside `torchrun`, of a PyTorchJob's pod or of a job of ours has variables that describe its own
    processes; a task that believed them would wait for peers that never come. `UNUSED` names those that were left out.
    """
    left_out = {name for name in environment if name in PEERS or name.startswith(PEER_PREFIXES)}
    kept = {name: value for name, value in environment.items() if name not in left_out and name != UNUSED}
    # Of the many names with a prefix, which follow from the others, only that there were some.
    named = [f"{name}={environment[name]}" for name in PEERS if name in left_out]
    named += [f"{prefix}*" for prefix in PEER_PREFIXES if any(name.startswith(prefix) for name in left_out)]
    return kept | ({UNUSED: ", ".join(named)} if named else {})
