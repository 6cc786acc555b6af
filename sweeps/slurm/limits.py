"""How many elements of a user the cluster lets into its queue: limits of an association and of qualities of service.

They are read from `sacctmgr`, which only clusters with accounting have. Limits of parent accounts are shared with other
users and not read: where one of them refuses an array, it is dealt out again to fewer elements.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.spec.cluster import ClusterConfig
from ablative.sweeps.slurm.cluster import Cluster, Partition, candidates
from ablative.sweeps.slurm.squeue import QueuedElement, SchedulerSilent, call

USER = ("Account", "Partition", "QOS", "DefaultQOS", "MaxSubmitJobs", "GrpSubmitJobs", "DefaultAccount", "Cluster")
QOS = ("Name", "MaxSubmitJobsPerUser", "MaxSubmitJobsPerAccount", "GrpSubmitJobs")


@dataclass(frozen=True)
class Association:
    """A user in an account, in one partition or in all."""

    account: str
    partition: str
    qos: tuple[str, ...]
    default_qos: str
    limits: dict[str, int]
    """Name of a limit on jobs in the queue → its number."""
    default: bool
    """Jobs that name no account are of this one."""


@dataclass(frozen=True)
class Accounting:
    """What accounting says of a user."""

    associations: tuple[Association, ...] = ()
    qos: dict[str, dict[str, int]] | None = None
    """Name of a quality of service → its limits on jobs in the queue; None: accounting limits nothing here."""


@dataclass(frozen=True)
class Room:
    """What the queue takes of one user."""

    limit: float
    """Elements in the queue at once; infinite where nothing limits them."""
    queued: int
    """Those that count against it and are there."""
    what: str = ""
    """Whose limit it is, and which."""

    @property
    def left(self) -> float:
        return max(0.0, self.limit - self.queued)

    def __str__(self) -> str:
        return f"{self.what} lets you have {self.limit:g} jobs in the queue, and {self.queued} are there"


@functools.cache
def read(cluster: str, user: str, enforced: str) -> Accounting:
    """Ask `sacctmgr`, once in a process.

    Args:
        cluster: name of the cluster.
        user: name of the user.
        enforced: the cluster's AccountingStorageEnforce.
    """
    if "limits" not in enforced and "safe" not in enforced:
        return Accounting()
    try:
        rows = _rows(("user", user, "withassoc"), USER)
        qos = {row["Name"]: _numbers(row, QOS[1:]) for row in _rows(("qos",), QOS)}
    except SchedulerSilent:
        # A site may hide its accounting; what it refuses is dealt out again.
        return Accounting()
    own = tuple(_association(row) for row in rows if row["Cluster"] in ("", cluster))
    return Accounting(own, qos)


def of(found: Cluster, user: str) -> Accounting:
    return read(found.name, user, found.settings.get("AccountingStorageEnforce", ""))


def check(config: ClusterConfig, cluster: Cluster, accounting: Accounting) -> None:
    """Raise ConfigError where the user's default quality of service keeps a job out of all of its partitions."""
    own = _own(config, accounting)
    name = own.default_qos if own is not None else ""
    if config.qos or not name:
        return
    closed = [one for one in candidates(config, cluster) if name not in one.allowed.get("qos", (name,))]
    if closed and len(closed) == len(list(candidates(config, cluster))):
        partition = closed[0]
        raise ConfigError(
            unknown("QOS", name, partition.allowed["qos"], f"cluster.qos: partition '{partition.name}'")
            + f" ('{name}' is your default; set cluster.qos)"
        )


def room(config: ClusterConfig, cluster: Cluster, accounting: Accounting, elements: Iterable[QueuedElement]) -> Room:
    """The tightest limit for a configuration's jobs.

    Args:
        config: where the jobs go.
        cluster: the cluster.
        accounting: what accounting says of the user.
        elements: all that the user has in the queue.
    """
    live = [element for element in elements if element.live]
    own = _own(config, accounting)
    account, qos = config.account or (own.account if own else ""), config.qos or (own.default_qos if own else "")
    found = [Room(math.inf, len(live))]
    if own is not None:
        there = sum(element.account == own.account for element in live)
        found += [Room(number, there, f"account '{account}' ({limit})") for limit, number in own.limits.items()]
    levels = accounting.qos or {}
    for limit, number in levels.get(qos, {}).items():
        there = sum(element.qos == qos for element in live)
        found.append(Room(number, there, f"QOS '{qos}' ({limit})"))
    for partition in _with_qos(config, cluster, levels):
        there = sum(element.partition == partition.name for element in live)
        what = f"partition '{partition.name}', QOS '{partition.qos}'"
        found += [Room(number, there, f"{what} ({limit})") for limit, number in levels[partition.qos].items()]
    return min(found, key=lambda one: one.left)


def _with_qos(config: ClusterConfig, cluster: Cluster, levels: dict[str, dict[str, int]]) -> list[Partition]:
    return [one for one in candidates(config, cluster) if one.qos in levels]


def _own(config: ClusterConfig, accounting: Accounting) -> Association | None:
    """The association that a configuration's jobs are counted in."""
    named = [one for one in accounting.associations if one.account == config.account]
    own = named if config.account else [one for one in accounting.associations if one.default]
    exact = [one for one in own if one.partition and one.partition in config.partition.split(",")]
    return next(iter([*exact, *(one for one in own if not one.partition)]), None)


def _rows(what: tuple[str, ...], columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of `sacctmgr show`; SchedulerSilent for an answer that is no such table."""
    command = ("sacctmgr", "--parsable2", "--readonly", "show", *what, f"format={','.join(columns)}")
    lines = call(*command).splitlines()
    # The heading spells some columns in its own way; their number and the first of them say that it is one.
    begin = next((i for i, line in enumerate(lines) if line.count("|") == len(columns) - 1), None)
    if begin is None:
        raise SchedulerSilent("sacctmgr printed no table")
    cells = [line.split("|") for line in lines[begin + 1 :]]
    return [dict(zip(columns, row, strict=True)) for row in cells if len(row) == len(columns)]


def _association(row: dict[str, str]) -> Association:
    return Association(
        account=row["Account"],
        partition=row["Partition"],
        qos=tuple(filter(None, row["QOS"].split(","))),
        default_qos=row["DefaultQOS"] or (row["QOS"] if "," not in row["QOS"] else ""),
        limits=_numbers(row, ("MaxSubmitJobs", "GrpSubmitJobs")),
        default=row["Account"] == row["DefaultAccount"],
    )


def _numbers(row: dict[str, str], columns: tuple[str, ...]) -> dict[str, int]:
    return {column: int(row[column]) for column in columns if row[column].isdigit()}
