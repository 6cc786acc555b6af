"""Where and how fast a task runs: the config group `runtime`, of which nothing changes a result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ablative.study.core.typed import field


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """What the manager reads of it; a trainer adds fields in a subclass."""

    device: str = field("auto", choices=("auto", "cpu", "cuda"), identity=False)
    """Where tasks compute; `auto` takes a GPU where there is one."""
    threads: int = field(1, low=0, identity=False)
    """CPU threads of the arithmetic of each process; 0 leaves the library's choice."""
    processes: int = field(1, low=1, identity=False)
    """Processes that share the work of a task, each on a separate GPU where there are GPUs: on one machine, or on the
    nodes that `cluster.nodes` asks SLURM for."""
    checkpoint_seconds: float = field(60.0, above=0, identity=False)
    """Time between two checkpoints."""
    log_every: int = field(10, low=1, identity=False)
    """Steps between two entries in journal and log."""
    heartbeat_seconds: float = field(5.0, above=0, identity=False)
    """Time between two signs of life of a worker."""
    stale_seconds: float = field(60.0, above=0, identity=False)
    """A lease from another host without a heartbeat for this long is dead."""


def widest(runtimes: Iterable[RuntimeConfig]) -> RuntimeConfig:
    """That of the most processes."""
    return max(runtimes, key=lambda runtime: runtime.processes)
