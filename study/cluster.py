"""Typed, frozen configuration of where jobs run: no part of any identity."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from study.schema import field


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Where jobs run; nothing here changes a result. All but `name`, `kind`, `jobs` and `retries` are SLURM's."""

    name: str = field(identity=False)
    kind: str = field("local", choices=("local", "slurm"), identity=False)
    jobs: int = field(0, low=0, identity=False)
    """Concurrent worker jobs; 0 takes as many as the cores allow (SLURM: as the scheduler starts)."""
    partition: str = field("", identity=False)
    """Empty: the cluster's default."""
    account: str = field("", identity=False)
    qos: str = field("", identity=False)
    constraint: str = field("", identity=False)
    """Features that a node must have, as `sbatch --constraint` reads them."""
    gpus: int = field(0, low=0, identity=False)
    """GPUs of an array element; the tasks packed into it share them."""
    gpu_type: str = field("", identity=False)
    """As the cluster's GRES names it (`a100`); empty: any."""
    cpus: int = field(1, low=1, identity=False)
    """Cores of one task."""
    memory_gib: float = field(0.0, low=0, identity=False)
    """Memory of one task; 0: the partition's default, which on many clusters is the whole node."""
    hours: float = field(1.0, above=0, identity=False)
    """Time limit of an array element. What it has not finished by then is saved, requeued and gone on with."""
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
    `ablate retry`. Time limits and preemptions do not count; out of memory is tried down to a micro-batch of 1."""
    avoid_hours: float = field(12.0, low=0, identity=False)
    """How long a study's submissions stay away from a node that failed under one of its tasks."""
    canary: int = field(8, low=0, identity=False)
    """A submission of at least so many elements first tries its first task alone; the others begin when that has
    trained its first steps, or is done. 0: never."""
    setup: tuple[str, ...] = field((), identity=False)
    """Shell lines before the work begins (`module load …`)."""
    extra: dict[str, object] = dataclasses.field(default_factory=dict, metadata={"identity": False})
    """More options of `sbatch`, by their long names: {reservation: paper, nice: 100, exclusive: true}."""
