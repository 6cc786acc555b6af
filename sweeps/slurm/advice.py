"""What `ablate doctor` says of the SLURM cluster that it is run on."""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
from pathlib import Path

from ablative.study.core.errors import AblateError
from ablative.sweeps.slurm import cluster, environment
from ablative.sweeps.slurm.cluster import Cluster, Partition
from ablative.sweeps.slurm.limits import of
from ablative.sweeps.slurm.squeue import SchedulerSilent

CONFIGURATION = Path("/etc/slurm/slurm.conf")
KILL_WAIT_SECONDS = 30
"""Enough for a step and a checkpoint of most models."""
OWN_FILE_SYSTEMS = ("tmpfs", "ramfs", "overlayfs")
OWN_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/scratch/local")
"""No other machine sees what lies there."""
DISKS = ("ext2/ext3", "xfs", "btrfs", "zfs", "f2fs")
"""Other machines see a disk if this one exports it."""
SHOWN = 8


def examine() -> tuple[bool, str]:
    """(whether something is broken, what was found and what to do): the scheduler and its partitions."""
    if not configured():
        return False, "no SLURM is configured here; studies run with cluster=local"
    try:
        found = cluster.inspect()
    except SchedulerSilent as silent:
        return True, f"{silent}; ask the administrators, or try again: what is queued is not lost"
    if not any(one.up for one in found.partitions.values()):
        return True, f"{found.name} answers, but all partitions are down; sinfo says since when"
    return False, "; ".join([f"{found.name} answers", *_partitions(found)])


def configured() -> bool:
    """Whether this machine has SLURM's programs and knows a controller."""
    known = bool(os.environ.get("SLURM_CONF")) or CONFIGURATION.exists()
    return cluster.installed() and known


def answers() -> bool:
    """Whether there is a SLURM here, and it can be asked: its own line says what is wrong where it cannot."""
    if not configured():
        return False
    try:
        cluster.inspect()
    except AblateError:
        return False
    return True


def limits(found: Cluster) -> str:
    """What a submission may ask for, and what the cluster does to jobs that loses work."""
    most = f"{found.max_array} elements an array, {found.max_jobs} jobs in all"
    own = _own_limits(found)
    return "; ".join([f"{most}{own}: longer queues are dealt out over them", *_shell(), *_advice(found)])


def shared(found: Cluster, root: Path, kind: str) -> tuple[bool, str]:
    """Whether the nodes can see the home, as far as this machine can know.

    Args:
        found: the cluster.
        root: the home.
        kind: its file system, as `stat --file-system` names it.
    """
    own = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    others = sorted({node.host for one in found.partitions.values() for node in one.nodes} - own - {""})
    if not others:
        return False, f"{kind}; all nodes are on this machine"
    names = ", ".join(others[:SHOWN]) + (", …" if len(others) > SHOWN else "")
    where = next((folder for folder in OWN_FOLDERS if root.is_relative_to(folder)), "")
    if kind in OWN_FILE_SYSTEMS or where:
        what = f"{root} is on {kind}{f' under {where}' if where else ''}, which is this machine's own"
        return True, f"{what}: {names} cannot see it; point --home or $ABLATE_HOME to the cluster's file system"
    if kind in DISKS:
        return False, f"{kind}, a disk of this machine: {names} see it only if it is exported to them under this path"
    return False, f"{kind}, which several machines may share"


def file_system(root: Path) -> str:
    """Kind of the file system that a folder is on."""
    command = ["stat", "--file-system", "--format=%T", str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _own_limits(found: Cluster) -> str:
    """Accounting's limits on the user's jobs in the queue."""
    accounting = of(found, getpass.getuser())
    named = [(f"account '{one.account}'", one.limits) for one in accounting.associations]
    named += [(f"QOS '{name}'", numbers) for name, numbers in (accounting.qos or {}).items()]
    lines = [f"{what} ({limit}) {number}" for what, numbers in named for limit, number in numbers.items()]
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "".join(f", {line}" for line in [*lines[:SHOWN], *more])


def _shell() -> list[str]:
    names = ", ".join(environment.ignored())
    return [f"{names} of your shell do not count: a study's cluster says it"] if names else []


def _partitions(found: Cluster) -> list[str]:
    parts = [_partition(one) for one in sorted(found.partitions.values(), key=lambda one: not one.default)]
    more = [f"and {len(parts) - SHOWN} more"] if len(parts) > SHOWN else []
    return [f"partitions: {', '.join([*parts[:SHOWN], *more])}"]


def _partition(one: Partition) -> str:
    gpus = {f"{count}×{kind or 'gpu'}" for node in one.nodes for kind, count in node.gpus.items()}
    cpus = max((node.cpus for node in one.nodes), default=0)
    limit = "no time limit" if one.minutes == float("inf") else f"{one.minutes / 60:g} h"
    facts = [f"{len(one.nodes)} nodes", *sorted(gpus), f"{cpus} cores", limit, *(() if one.up else ("down",))]
    return f"{one.name}{'*' if one.default else ''} ({', '.join(facts)})"


def _advice(found: Cluster) -> list[str]:
    """What the cluster does to a job that it stops, where that loses work."""
    lines = []
    if not found.requeues:
        lines.append("JobRequeue=0: at a time limit work is saved and waits for the next `ablate submit`")
    wait = int(re.sub(r"\D.*", "", found.settings.get("KillWait", "30")) or 30)
    if wait < KILL_WAIT_SECONDS:
        lines.append(f"KillWait={wait} s: a task that needs longer to save loses what it did since its last checkpoint")
    if not found.settings.get("PreemptType", "preempt/none").endswith("none"):
        if "preempt_send_user_signal" not in found.settings.get("SlurmctldParameters", ""):
            lines.append("preempted jobs are told with SIGTERM only, and go on when they are requeued")
        short = [one.name for one in found.partitions.values() if one.preempt != "OFF" and one.grace < wait]
        if short:
            lines.append(f"GraceTime of {', '.join(sorted(short))} is short: preempted tasks may lose a checkpoint")
    return lines
