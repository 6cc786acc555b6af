"""The batch script of an array. Submitit writes and submits it; what the job calls is ours (`sweeps.slurm.element`).

Submitit would pickle a function for each element and move the pickles to where the jobs look for them after `sbatch`:
a submitter that dies in between leaves jobs that fail, and a thousand files are written for what the
manifest says. The element reads the manifest instead, and its number from the scheduler.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError
from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from ablative.study.core.errors import AblateError, ConfigError
from ablative.study.core.processes import without_peers
from ablative.study.core.typed import build
from ablative.study.home.paths import Home, SubmissionPaths
from ablative.study.spec.cluster import ClusterConfig
from ablative.sweeps.queue.manifest import Array
from ablative.sweeps.slurm.team import PORT

OWN_OPTIONS = ("array", "dependency", "error", "job-name", "kill-on-invalid-dep", "open-mode", "output", "signal")
"""Options of `sbatch` that a configuration's `extra` must leave alone."""
HINTS = {
    "job submit limit": "; with cluster.max_elements below the limit, elements do several tasks each",
    "Invalid account": "; cluster.account and cluster.partition must be ones that you may use (sacctmgr show assoc)",
    "Invalid qos": "; cluster.qos must be one that you may use (sacctmgr show assoc)",
}
"""Part of a refusal → what to do about it."""
LEAKING = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "PMI_", "PMIX_")
"""Variables of a job that a job submitted from inside it must not inherit."""


class SubmissionRefused(AblateError):
    """`sbatch` did not take an array."""


class _ArrayExecutor(SlurmExecutor):
    """Submitit's executor, with a script that is given to it whole."""

    text = ""

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return self.text


def text(home: Home, submission: SubmissionPaths, array: Array, where: Mapping[str, str], dependency: str) -> str:
    """The script of an array.

    Args:
        home: the home.
        submission: the submission that the array belongs to.
        array: the array.
        where: variables that the job needs whatever else it inherits: code snapshot and home.
        dependency: as `sbatch` reads it; empty: none.
    """
    config = build(ClusterConfig, array.cluster, "cluster")
    _check_extra(config)
    tasks = max(1, config.tasks)
    several, python = config.nodes * tasks > 1, shlex.quote(sys.executable)
    team = several and not array.once
    command = [
        sys.executable,
        "-u",
        "-m",
        "ablative.sweeps.slurm.element",
        str(home.root),
        str(submission.root),
        array.name,
    ]
    unset: Any = None
    return _make_sbatch_string(
        command=shlex.join(command),
        folder=submission.jobs,
        job_name=array.name,
        time=max(1, math.ceil(config.hours * 60)),
        cpus_per_task=config.cpus * config.pack,
        nodes=config.nodes,
        ntasks_per_node=tasks,
        # Submitit's own would be refused by clusters that track these keys.
        wckey=unset,
        map_count=len(array.elements),
        setup=[
            *config.setup,
            *(f"export {name}={shlex.quote(value)}" for name, value in where.items()),
            # Since version 22.05, srun gives a step one core unless the variable is set again.
            'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
            *([f"export {PORT}=$({python} -m ablative.sweeps.slurm.team)"] if team else []),
        ],
        srun_args=["--open-mode=append", *_step(config, several, array.once)],
        additional_parameters=_options(config, array, dependency),
    )


def _step(config: ClusterConfig, several: bool, once: bool) -> list[str]:
    """Options of the step that runs the element: one process on all cores of its node, or one for each of a run's."""
    if not several:
        return []
    if once:
        cores = config.cpus * max(1, config.tasks)
        # What the process starts by `srun` shares its cores.
        return ["--nodes=1", "--ntasks=1", f"--cpus-per-task={cores}", "--overlap"]
    # An element that has lost one of its processes would wait for it.
    return ["--kill-on-bad-exit=1"]


def submit(submission: SubmissionPaths, script: str) -> str:
    """Hand a script to `sbatch`; returns the job id.

    Raises:
        SubmissionRefused: with the last line of what `sbatch` said.
    """
    executor = _ArrayExecutor(submission.jobs)
    executor.text = script
    with _clean_environment(), _quiet():
        try:
            return str(executor._submit_command("").job_id)
        except FailedJobError as error:
            said = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Try ")]
            lines = said or ["no reason given"]
            reason = lines[-1].removeprefix("sbatch: error: ").removeprefix("Batch job submission failed: ")
            hint = next((text for words, text in HINTS.items() if words in reason), "")
            raise SubmissionRefused(f"sbatch refused: {reason}{hint}") from None


def dependency(array: Array, job_ids: Mapping[str, str]) -> str:
    """What an array depends on, given the job ids of the arrays before it by their names."""
    wanted = {
        "aftercorr": [job_ids[array.follows]] if array.follows else [],
        "afterok": [job_ids[name] for name in array.after],
        "afterany": [*(job_ids[name] for name in array.after_end), *array.waits_for],
    }
    return ",".join(f"{kind}:{':'.join(ids)}" for kind, ids in wanted.items() if ids)


def _options(config: ClusterConfig, array: Array, dependency: str) -> dict[str, Any]:
    """Options that Submitit has no name for, or another default."""
    numbers = _ranges(array.numbers)
    memory = math.ceil(config.memory_gib * config.pack * max(1, config.tasks) * 1024)
    gpus = f"gpu:{config.gpu_type}:{config.gpus}" if config.gpu_type else f"gpu:{config.gpus}"
    exclude = [*array.exclude, *filter(None, [config.extra.get("exclude")])]
    options = {
        "array": f"{numbers}%{config.jobs}" if config.jobs else numbers,
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "constraint": config.constraint,
        "mem": f"{memory}M" if memory else "",
        "gres": gpus if config.gpus else "",
        "dependency": dependency,
        # What needs a task that failed will not wait in the queue for ever.
        "kill-on-invalid-dep": "yes",
        "requeue": True,
        "signal": f"USR2@{config.signal_seconds}",
    }
    given = {key: value for key, value in options.items() if value}
    return {**given, **config.extra, **({"exclude": ",".join(map(str, exclude))} if exclude else {})}


def _ranges(numbers: list[int]) -> str:
    """`0-3,7` of [0, 1, 2, 3, 7]."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def _check_extra(config: ClusterConfig) -> None:
    for name in config.extra:
        if name in OWN_OPTIONS:
            raise ConfigError(f"cluster.extra.{name}: ablate sets this option itself")


@contextmanager
def _clean_environment() -> Iterator[None]:
    """Hide the variables that this process inherits from a job that it may run in."""
    before = dict(os.environ)
    kept = {key: value for key, value in before.items() if not key.startswith(LEAKING) or key == "SLURM_CONF"}
    _become(without_peers(kept))
    try:
        yield
    finally:
        _become(before)


def _become(environment: Mapping[str, str]) -> None:
    for key in set(os.environ) - set(environment):
        del os.environ[key]
    os.environ.update(environment)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what Submitit prints of the complaints of `sbatch`, which our error says in one line."""
    kept = sys.stderr
    with Path(os.devnull).open("w") as sys.stderr:
        try:
            yield
        finally:
            sys.stderr = kept
