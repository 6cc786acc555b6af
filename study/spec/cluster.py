"""Typed, frozen configuration of where jobs run: no part of any identity."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ablative.study.core.errors import ConfigError
from ablative.study.core.plugins import Plugins
from ablative.study.core.registry import EXECUTORS as SHIPPED
from ablative.study.core.secrets import holds_secret
from ablative.study.core.typed import field
from ablative.study.spec.runtime import RuntimeConfig

EXECUTORS = Plugins("executor", "ablate.executors", SHIPPED)
"""Kinds of clusters; one of another distribution is imported only when a cluster's `kind` names it."""


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Where jobs run; nothing here changes a result. All but `name`, `kind`, `jobs` and `retries` are SLURM's."""

    name: str = field(identity=False)
    """Preset that this came from."""
    kind: str = field("local", choices=EXECUTORS, identity=False)
    """Which executor submits to it (`sweeps.queue.executors`)."""
    jobs: int = field(0, low=0, identity=False)
    """Concurrent worker jobs; 0 takes as many as the cores allow (SLURM: up to 256 elements of an array)."""
    partition: str = field("", identity=False)
    """Empty: the cluster's default."""
    account: str = field("", identity=False)
    """Account that is charged; empty: the user's default."""
    qos: str = field("", identity=False)
    """Quality of service; empty: the default of the account or partition."""
    constraint: str = field("", identity=False)
    """Features that a node must have, as `sbatch --constraint` reads them."""
    gpus: int = field(0, low=0, identity=False)
    """GPUs of an array element on each of its nodes; the tasks packed into it share them."""
    gpu_type: str = field("", identity=False)
    """Kind of GPU by its name in the cluster's GRES (`a100`, `1g.10gb`); empty: any."""
    gpus_by: str = field("gres", choices=("gres", "gpus-per-node"), identity=False)
    """Option of `sbatch` that asks for GPUs: sites take one or the other."""
    cpus: int = field(1, low=1, identity=False)
    """Cores of one task, or of each process of a run that has several."""
    memory_gib: float = field(0.0, low=0, identity=False)
    """Memory of one task or process; 0: the partition's default, which on many clusters is the whole node."""
    memory_by: str = field("mem", choices=("mem", "mem-per-cpu", "mem-per-gpu"), identity=False)
    """Option of `sbatch` that asks for memory: an element's on a node, or its share for each core or GPU."""
    hours: float = field(1.0, above=0, identity=False)
    """Time limit of an array element. What it has not finished by then is saved, requeued and gone on with."""
    nodes: int = field(1, low=1, identity=False)
    """Nodes of an element: the processes of a run (`runtime.processes`) are spread over them evenly."""
    tasks: int = field(0, low=0, identity=False)
    """Processes of a run on each node, which `srun` starts; 0: as many as `runtime.processes` makes it."""
    pack: int = field(1, low=1, identity=False)
    """Tasks that run side by side in an element: several small models share a GPU."""
    max_elements: int = field(0, low=0, identity=False)
    """Most elements that one submission puts in the queue (a limit on submitted jobs); longer queues are dealt
    out, so that each element does several tasks in turn. 0: what the controller can hold."""
    signal_seconds: int = field(120, low=10, identity=False)
    """Warning before the time limit: longer than a step and a checkpoint."""
    requeues: int = field(50, low=0, identity=False)
    """How often an element is put back into the queue at its time limit before it gives up."""
    retries: int = field(3, low=0, identity=False)
    """How often a task that failed of one cause outside the code (killed, disk, node failure) is taken again without
    `ablate retry`. Time limits and preemptions do not count, nor does out of memory as long as the trainer can do
    with less of it."""
    avoid_hours: float = field(12.0, low=0, identity=False)
    """How long a study's submissions stay away from a node that failed under one of its tasks."""
    canary: int = field(8, low=0, identity=False)
    """A submission of at least so many elements first tries its first task alone; the others begin when that has
    trained its first steps, or is done. 0: never."""
    setup: tuple[str, ...] = field((), identity=False)
    """Shell lines before the work begins (`module load …`)."""
    teardown: tuple[str, ...] = field((), identity=False)
    """Shell lines when an element ends, however it does, unless it is killed; its exit code stays."""
    prefix: tuple[str, ...] = field((), identity=False)
    """Words before the interpreter on the nodes: [apptainer, exec, --nv, image.sif]."""
    python: str = field("", identity=False)
    """Interpreter on the nodes, with ablate's requirements; empty: the one that submits."""
    scratch: str = field("", identity=False)
    """Folder on a node's own disk for temporary files, as the shell expands it ($SLURM_TMPDIR); it is made, and jobs
    find it in TMPDIR. Empty: the node's default."""
    export: str = field("", identity=False)
    """Variables that jobs inherit, as `sbatch --export` reads them (NONE: none); empty: as SBATCH_EXPORT says."""
    extra: dict[str, object] = dataclasses.field(default_factory=dict, metadata={"identity": False})
    """More options of `sbatch`, by their long names: {reservation: paper, nice: 100, exclusive: true}."""


def spread(config: ClusterConfig, runtime: RuntimeConfig) -> ClusterConfig:
    """The configuration as runs with this many processes need it: how many of them each node has.

    Raises:
        ConfigError: they cannot be spread like that, or the batch script would spell a secret out.
    """
    if config.kind != "slurm":
        return config
    for key, text in _shown(config):
        if holds_secret(text):
            raise ConfigError(
                f"cluster.{key}: holds a secret, which every job's script would show; set the variable where you "
                "submit (jobs inherit the environment), or read it from a file"
            )
    processes, nodes = runtime.processes, config.nodes
    if config.tasks and nodes * config.tasks != processes:
        raise ConfigError(
            f"runtime.processes: {processes}, but cluster.nodes × cluster.tasks is {nodes} × {config.tasks} = "
            f"{nodes * config.tasks}; make them agree, or leave cluster.tasks out"
        )
    if processes % nodes:
        raise ConfigError(f"runtime.processes: {processes} cannot be spread evenly over {nodes} nodes (cluster.nodes)")
    if processes > 1 and config.pack > 1:
        raise ConfigError(
            f"cluster.pack: {config.pack} tasks side by side in an element, each of {processes} processes "
            "(runtime.processes); choose one of the two"
        )
    tasks = processes // nodes
    if processes > 1 and 0 < config.gpus < tasks and runtime.device != "cpu":
        raise ConfigError(
            f"cluster.gpus: {config.gpus} on each node for {tasks} processes of a run, which need one each; ask for "
            f"{tasks}, or take runtime.device=cpu"
        )
    return config if config.tasks == tasks else dataclasses.replace(config, tasks=tasks)


def warned(config: ClusterConfig) -> ClusterConfig:
    """The configuration with a warning that leaves at least half of a short time limit to work in."""
    most = int(config.hours * 3600 / 2)
    if config.kind != "slurm" or config.signal_seconds <= most:
        return config
    return dataclasses.replace(config, signal_seconds=max(10, most))


def _shown(config: ClusterConfig) -> list[tuple[str, str]]:
    """(key, text) of what a batch script shows."""
    lists = {"setup": config.setup, "teardown": config.teardown, "prefix": config.prefix}
    lines = [(f"{key}[{i}]", line) for key, found in lists.items() for i, line in enumerate(found)]
    options = [(f"extra.{key}", f"{key}={value}") for key, value in config.extra.items()]
    return [*lines, ("export", config.export), *options]
