"""What a SLURM cluster is and allows, read from `scontrol`, and whether a configuration fits it."""

from __future__ import annotations

import functools
import math
import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.spec.cluster import ClusterConfig
from ablative.sweeps.slurm.squeue import SHOWN, SchedulerSilent, call

PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "srun")
MAX_ARRAY_SIZE = 1001
MAX_JOBS = 10_000
"""SLURM's own defaults, where no controller can be asked."""


@dataclass(frozen=True)
class Node:
    """Resources of one node."""

    name: str
    cpus: int
    memory_gib: float
    gpus: dict[str, int]
    """Type → number of GPUs; untyped ones under the empty name."""
    features: frozenset[str]
    host: str = ""
    """The machine that it is; several virtual nodes may be on one."""


@dataclass(frozen=True)
class Partition:
    """A partition and its nodes."""

    name: str
    default: bool
    up: bool
    minutes: float
    """Longest time limit; infinite where there is none."""
    allowed: dict[str, tuple[str, ...]]
    """`accounts` and `qos` → the only ones that may submit; absent: all."""
    denied: dict[str, tuple[str, ...]]
    preempt: str
    grace: int
    """Seconds between a preempted job's signals and its death."""
    nodes: tuple[Node, ...]
    qos: str = ""
    """Quality of service whose limits hold for all of its jobs; empty: none."""


@dataclass(frozen=True)
class Cluster:
    """A cluster as its controller describes it."""

    settings: dict[str, str]
    partitions: dict[str, Partition]

    @property
    def name(self) -> str:
        return self.settings.get("ClusterName", "?")

    @property
    def max_array(self) -> int:
        """Elements that an array may have."""
        return int(self.settings.get("MaxArraySize", MAX_ARRAY_SIZE)) - 1

    @property
    def max_jobs(self) -> int:
        """Elements that the controller can hold."""
        return int(self.settings.get("MaxJobCount", MAX_JOBS))

    @property
    def requeues(self) -> bool:
        return self.settings.get("JobRequeue") == "1"

    def without(self, names: Collection[str]) -> Cluster:
        """The cluster as it were without these nodes."""
        left = {
            name: replace(partition, nodes=tuple(node for node in partition.nodes if node.name not in names))
            for name, partition in self.partitions.items()
        }
        return replace(self, partitions=left)


def installed() -> bool:
    return shutil.which("sbatch") is not None


@functools.cache
def inspect() -> Cluster:
    """Ask the controller, once in a process: configuration, partitions and nodes.

    Raises:
        ConfigError: SLURM's programs are not installed.
        SchedulerSilent: the controller does not answer.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise ConfigError(
            f"cluster=slurm: {', '.join(missing)} not found on the PATH; submit from a login node of the cluster, "
            f"or use cluster=local"
        )
    settings = dict(re.findall(r"^(\w+)\s*= ?(.*)$", _said("ClusterName", "show", "config"), re.MULTILINE))
    nodes = [_node(line) for line in _lines("NodeName", "show", "node")]
    partitions = [_partition(_fields(line), nodes) for line in _lines("PartitionName", "show", "partition")]
    return Cluster(settings, {partition.name: partition for partition in partitions})


def _said(word: str, *command: str) -> str:
    """What `scontrol` answers; SchedulerSilent for an answer without this word, whatever its exit status says."""
    text = call("scontrol", *command)
    if word not in text:
        said = next((line.strip() for line in text.splitlines() if line.strip()), "nothing")
        raise SchedulerSilent(f"scontrol {' '.join(command)} printed no {word}: {said[:SHOWN]}")
    return text


def _lines(key: str, *command: str) -> list[str]:
    """Lines of an answer that describe one thing each; a banner is none of them."""
    return [line for line in _said(key, "--oneliner", *command).splitlines() if line.startswith(f"{key}=")]


def check(config: ClusterConfig, cluster: Cluster) -> None:
    """Raise ConfigError when the cluster would never start such an element, whatever waits in its queue.

    Of several partitions, one that would is enough.
    """
    refused: list[ConfigError] = []
    chosen = list(candidates(config, cluster))
    for partition in chosen:
        try:
            _check_partition(config, partition)
        except ConfigError as error:
            refused.append(error)
    if len(refused) == len(chosen):
        raise refused[0]


def _check_partition(config: ClusterConfig, partition: Partition) -> None:
    if not partition.up:
        raise ConfigError(f"cluster.partition: '{partition.name}' is down or draining (sinfo says more)")
    if config.hours * 60 > partition.minutes:
        raise ConfigError(
            f"cluster.hours: {config.hours:g} is over the time limit of partition '{partition.name}' "
            f"({partition.minutes / 60:g} hours)"
        )
    for kind, name in (("accounts", config.account), ("qos", config.qos)):
        key = {"accounts": "account", "qos": "QOS"}[kind]
        if name and name not in partition.allowed.get(kind, (name,)):
            where = f"cluster.{key.lower()}: partition '{partition.name}'"
            raise ConfigError(unknown(key, name, partition.allowed[kind], where))
        if name and name in partition.denied.get(kind, ()):
            raise ConfigError(f"cluster.{key.lower()}: partition '{partition.name}' does not take '{name}'")
    _check_nodes(config, partition)


def candidates(config: ClusterConfig, cluster: Cluster) -> Iterable[Partition]:
    """Partitions that a configuration's jobs may go to; ConfigError for one that is not there."""
    if config.partition:
        for name in config.partition.split(","):
            if name not in cluster.partitions:
                raise ConfigError(unknown("partition", name, cluster.partitions, "cluster.partition"))
            yield cluster.partitions[name]
        return
    default = [partition for partition in cluster.partitions.values() if partition.default]
    if not default:
        names = ", ".join(sorted(cluster.partitions))
        raise ConfigError(f"cluster.partition: this cluster has no default partition; choose one of {names}")
    yield from default


def _check_nodes(config: ClusterConfig, partition: Partition) -> None:
    """Raise ConfigError unless as many nodes as an element asks for have everything that it asks of each."""
    tasks = max(1, config.tasks)
    nodes = list(partition.nodes)
    if re.fullmatch(r"\w+", config.constraint):
        nodes = [node for node in nodes if config.constraint in node.features]
        if not nodes:
            features = {feature for node in partition.nodes for feature in node.features}
            raise ConfigError(unknown("feature", config.constraint, features, "cluster.constraint"))
    if config.gpu_type:
        types = {kind for node in nodes for kind in node.gpus}
        if config.gpu_type not in types:
            raise ConfigError(unknown("GPU type", config.gpu_type, types, f"cluster.gpu_type: '{partition.name}'"))
    wanted = (
        ("gpus", config.gpus, lambda node: node.gpus.get(config.gpu_type, 0) if config.gpu_type else _gpus(node)),
        ("cpus", config.cpus * config.pack * tasks, lambda node: node.cpus),
        ("memory_gib", config.memory_gib * config.pack * tasks, lambda node: node.memory_gib),
    )
    for key, amount, has in wanted:
        most = max((has(node) for node in nodes), default=0)
        if amount > most:
            packed = f" ({config.pack} tasks packed into an element)" if config.pack > 1 and key != "gpus" else ""
            packed = f" ({tasks} processes of a run)" if tasks > 1 and key != "gpus" else packed
            raise ConfigError(
                f"cluster.{key}: {amount:g}{packed} is more than any node of partition '{partition.name}' has "
                f"(at most {most:g})"
            )
        # The next resource must be on one of the nodes that have this one.
        nodes = [node for node in nodes if has(node) >= amount]
    if len(nodes) < config.nodes:
        raise ConfigError(
            f"cluster.nodes: {config.nodes} is more than partition '{partition.name}' has of nodes like that "
            f"({len(nodes)})"
        )


def _gpus(node: Node) -> int:
    return sum(node.gpus.values())


def _fields(line: str) -> dict[str, str]:
    """`Key=Value` words of a line; what has blanks in its value is cut, and nothing that is used here has."""
    return dict(re.findall(r"(?:^|\s)([A-Za-z][\w:/]*)=(\S*)", line))


def _node(line: str) -> Node:
    fields = _fields(line)
    gpus: dict[str, int] = {}
    # A type has a letter; a MIG one begins with a digit (`1g.10gb`).
    for kind, count in re.findall(r"\bgpu:(?:([^:,(]*[A-Za-z][^:,(]*):)?(\d+)", fields.get("Gres", "")):
        gpus[kind] = gpus.get(kind, 0) + int(count)
    features = frozenset(fields.get("AvailableFeatures", "").split(",")) - {"", "(null)"}
    memory = _number(fields, "RealMemory") / 1024
    cpus = _number(fields, "CPUEfctv") or _number(fields, "CPUTot")
    return Node(fields["NodeName"], cpus, memory, gpus, features, fields.get("NodeHostName", ""))


def _number(fields: dict[str, str], key: str) -> int:
    text = fields.get(key, "")
    return int(text) if text.isdigit() else 0


def _partition(fields: dict[str, str], nodes: list[Node]) -> Partition:
    lists = {"accounts": "Accounts", "qos": "Qos"}
    allowed = {key: fields[f"Allow{name}"] for key, name in lists.items() if f"Allow{name}" in fields}
    denied = {key: fields[f"Deny{name}"] for key, name in lists.items() if f"Deny{name}" in fields}
    members = _expand(fields.get("Nodes", ""))
    return Partition(
        name=fields["PartitionName"],
        default=fields.get("Default") == "YES",
        up=fields.get("State", "UP") == "UP",
        minutes=_minutes(fields.get("MaxTime", "UNLIMITED")),
        allowed={key: tuple(names.split(",")) for key, names in allowed.items() if names != "ALL"},
        denied={key: tuple(names.split(",")) for key, names in denied.items()},
        preempt=fields.get("PreemptMode", "OFF"),
        grace=_number(fields, "GraceTime"),
        qos=fields.get("QoS", "N/A").replace("N/A", ""),
        nodes=tuple(node for node in nodes if node.name in members),
    )


def _minutes(text: str) -> float:
    """`2-03:00:00`, `30:00` or UNLIMITED as minutes."""
    if not text[0].isdigit():
        return math.inf
    days, _, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    hours, minutes, seconds = [0] * (3 - len(parts)) + parts if not days else parts + [0] * (3 - len(parts))
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def _expand(text: str) -> frozenset[str]:
    """Names of a node list such as `n[1-3,07],login`."""
    names: list[str] = []
    for prefix, ranges, suffix in re.findall(r"([^,\[\]]+)(?:\[([^\]]*)\])?([^,\[\]]*)", text):
        if not ranges:
            names.append(prefix + suffix)
        for part in ranges.split(",") if ranges else ():
            first, _, last = part.partition("-")
            numbers = range(int(first), int(last or first) + 1)
            names += [f"{prefix}{number:0{len(first)}d}{suffix}" for number in numbers]
    return frozenset(names)
