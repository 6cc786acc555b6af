"""What `ablate doctor` says of the SLURM cluster that it is run on."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from study.paths import Home
from sweeps.slurm import cluster
from sweeps.slurm.cluster import Cluster, Partition
from sweeps.slurm.queue import SchedulerSilent

CONFIGURATION = Path("/etc/slurm/slurm.conf")
KILL_WAIT_SECONDS = 30
"""Enough for a step and a checkpoint of most models."""
LOCAL_FILE_SYSTEMS = ("ext2/ext3", "xfs", "btrfs", "tmpfs", "overlayfs", "zfs")
SHOWN = 8


def examine(home: Home) -> tuple[bool, str]:
    """(whether something is broken, what was found and what to do)."""
    configured = bool(os.environ.get("SLURM_CONF")) or CONFIGURATION.exists()
    if not cluster.installed() or not configured:
        return False, "no SLURM is configured here; studies run with cluster=local"
    try:
        found = cluster.inspect()
    except SchedulerSilent as silent:
        return True, f"{silent}; ask the administrators, or try again: what is queued is not lost"
    lines = [f"{found.name} answers; arrays of up to {found.max_array} elements", *_partitions(found), *_advice(found)]
    shared = _file_system(home)
    if shared in LOCAL_FILE_SYSTEMS and len({node.name for one in found.partitions.values() for node in one.nodes}) > 1:
        lines.append(f"the home is on {shared}, which other nodes may not see: put it on a shared file system")
    return False, "; ".join(lines)


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


def _file_system(home: Home) -> str:
    done = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(home.root)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
