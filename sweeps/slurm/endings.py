"""Why an element ended, when the element itself wrote nothing: by its state in `squeue` while the controller
remembers it, else by what slurmstepd and srun wrote into its error file. Accounting (`sacct`) is not needed.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from ablative.study.home.failed_attempts import OUT_OF_MEMORY
from ablative.sweeps.queue.executors import Ending
from ablative.sweeps.queue.failures import NODE_FAILURE
from ablative.sweeps.slurm.squeue import QueuedElement, SchedulerSilent, call

ENDINGS = {
    "OUT_OF_MEMORY": (OUT_OF_MEMORY, "SLURM killed it: out of memory"),
    "NODE_FAIL": (NODE_FAILURE, "its node failed"),
    "BOOT_FAIL": (NODE_FAILURE, "its node did not boot"),
    "TIMEOUT": ("time limit", "killed at the time limit, before it had saved"),
    "DEADLINE": ("time limit", "killed at its deadline, before it had saved"),
    "PREEMPTED": ("preempted", "killed by a preemption, before it had saved"),
    "DISK": ("disk", "its worker could not write how it ended: the home was full or read-only"),
}
WORDS = {
    "oom-kill event": "OUT_OF_MEMORY",
    "oom_kill event": "OUT_OF_MEMORY",
    "Out Of Memory": "OUT_OF_MEMORY",
    "exceeded memory limit": "OUT_OF_MEMORY",
    "exceeded job memory limit": "OUT_OF_MEMORY",
    "DUE TO NODE FAILURE": "NODE_FAIL",
    "DUE TO TIME LIMIT": "TIMEOUT",
    "DUE TO PREEMPTION": "PREEMPTED",
    "Read-only file system": "DISK",
    "No space left on device": "DISK",
    "Disk quota exceeded": "DISK",
}
"""What slurmstepd and srun print into a job's errors (src/slurmd/slurmstepd, src/srun), or a worker that the disk ended
→ the state that it means."""
REPEATED = ("Exited with exit code", ": Terminated", ": Killed")
"""Parts of the lines by which srun says only that a process has ended: why, a line above may say."""
BEGINS = "begins on node"
"""Part of the line that an element prints to its errors when it starts: lines above it are from before a requeue."""
BROKEN = ("DOWN", "NOT_RESPONDING", "FAIL", "DRAIN", "POWERED_DOWN")


def cause_of_end(elements: tuple[QueuedElement, ...], name: str, index: int, errors: Path) -> Ending | None:
    """Cause and message of an element's end; None where neither the queue nor the errors say.

    Args:
        elements: the queue as it was seen last, ended elements too.
        name: of the element's array.
        index: of the element in the array.
        errors: the file of its errors.
    """
    for element in elements:
        if (element.name, element.index) == (name, index) and element.state in ENDINGS:
            return ENDINGS[element.state]
    if not errors.exists():
        return None
    lines = errors.read_text(errors="replace").rpartition(BEGINS)[2].splitlines()
    known = [state for line in lines for words, state in WORDS.items() if words in line]
    return ENDINGS[known[-1]] if known else None


def node_failed(node: str, since: float) -> bool:
    """Whether the scheduler has given up on a node, or it was started again after `since` (seconds since 1970)."""
    try:
        text = call("scontrol", "--oneliner", "show", "node", node)
    except SchedulerSilent:
        return False
    state = re.search(r"\bState=(\S+)", text)
    booted = re.search(r"\bBootTime=([\dT:-]+)", text)
    if state is not None and any(word in state[1] for word in BROKEN):
        return True
    return booted is not None and datetime.fromisoformat(booted[1]).timestamp() > since
