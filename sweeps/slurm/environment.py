"""Variables of a shell or of a job that SLURM's programs read as if they were options: which of them count.

`sbatch` takes its own from `SBATCH_*`, and they win over the lines of a script; `squeue`, `scancel` and `scontrol`
filter and format by theirs, so that a queue looks empty that is not. A site's profile may set some for every user.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ablative.study.core.processes import without_peers
from ablative.study.spec.cluster import ClusterConfig

KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SBATCH_EXPORT")
"""Where the cluster is, who asks, and what jobs inherit: the user's to say, and nothing here contradicts them."""
READ = ("SLURM", "SRUN_", "SUBMITIT_", "PMI_", "PMIX_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SCONTROL_", "SACCTMGR_")
"""Beginnings of the names that one of the programs reads, or that a job submitted from inside a job would inherit."""
ADOPTED = {
    "partition": "SBATCH_PARTITION",
    "account": "SBATCH_ACCOUNT",
    "qos": "SBATCH_QOS",
    "constraint": "SBATCH_CONSTRAINT",
}
"""Key of a cluster → the variable that is taken for it where a study says nothing."""
ADOPTED_EXTRA = {"reservation": "SBATCH_RESERVATION", "wckey": "SBATCH_WCKEY"}


def adopt(config: ClusterConfig, environment: Mapping[str, str] | None = None) -> ClusterConfig:
    """The configuration, with what the environment says of where jobs go and the configuration does not."""
    given = os.environ if environment is None else environment
    if config.kind != "slurm":
        return config
    keys: dict[str, Any] = {
        key: given[name] for key, name in ADOPTED.items() if given.get(name) and not getattr(config, key)
    }
    extra = {key: given[name] for key, name in ADOPTED_EXTRA.items() if given.get(name) and key not in config.extra}
    if not keys and not extra:
        return config
    return dataclasses.replace(config, **keys, extra={**config.extra, **extra})


def ignored(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Variables that are set for `sbatch` and do not count: a study's cluster says all of that."""
    given = os.environ if environment is None else environment
    used = {*ADOPTED.values(), *ADOPTED_EXTRA.values(), *KEPT}
    return tuple(sorted(name for name in given if name.startswith("SBATCH_") and name not in used))


def cleaned(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that SLURM's programs are called in."""
    given = os.environ if environment is None else environment
    kept = {name: value for name, value in given.items() if name in KEPT or not name.startswith(READ)}
    return without_peers(kept)


@contextmanager
def clean() -> Iterator[None]:
    """Give this process that environment for a while."""
    before = dict(os.environ)
    _become(cleaned(before))
    try:
        yield
    finally:
        _become(before)


def _become(environment: Mapping[str, str]) -> None:
    for key in set(os.environ) - set(environment):
        del os.environ[key]
    os.environ.update(environment)
