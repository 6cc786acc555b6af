"""The batch script of an array. Submitit writes and submits it; what the job calls is ours (`sweeps.slurm.element`).

Submitit would pickle a function for each element and move the pickles to where the jobs look for them after `sbatch`:
a submitter that dies in between leaves jobs that fail, and a thousand files are written for what the
manifest says. The element reads the manifest instead, and its number from the scheduler.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError
from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from ablative.study.core.errors import AblateError, ConfigError
from ablative.study.core.typed import build
from ablative.study.home.paths import Home, SubmissionPaths
from ablative.study.spec.cluster import ClusterConfig
from ablative.sweeps.queue.executors import NoRoom
from ablative.sweeps.queue.manifest import Array
from ablative.sweeps.slurm import environment, squeue
from ablative.sweeps.slurm.team import PORT

ELEMENT = "ablative.sweeps.slurm.element"
"""Module that works through an element's tasks."""
OWN_OPTIONS = ("array", "dependency", "error", "job-name", "kill-on-invalid-dep", "open-mode", "output", "signal")
"""Options of `sbatch` that a configuration's `extra` must leave alone."""
MOST_AT_ONCE = 256
"""Elements of an array that run at once where a study says nothing: a thousand would take a cluster for themselves."""
PLAIN = re.compile(r"[\w@%+=:,./$-]+")
"""Words that a shell may read as they are."""
BUSY = re.compile(
    r"timed out|Unable to contact|[Cc]onnection (?:refused|failure|reset)|Zero Bytes|standby|expired", re.I
)
"""Answers that a controller too busy, or away, has others give."""
FULL = re.compile(
    r"\w*(?:MaxSubmit|GrpSubmit)\w*|job submit limit|temporarily unable to accept|temporarily unavailable"
)
"""Refusals that end when some of the user's jobs do."""
HINTS = {
    "Invalid account": "; cluster.account and cluster.partition must be ones that you may use (sacctmgr show assoc)",
    "Invalid qos": "; cluster.qos must be one that you may use (sacctmgr show assoc)",
}
"""Part of a refusal → what to do about it."""


class SubmissionRefused(AblateError):
    """`sbatch` did not take an array."""


class NoAnswer(SubmissionRefused):
    """The controller did not answer `sbatch`: it may have taken the array."""


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
    several, python = config.nodes * tasks > 1, config.python or sys.executable
    team = several and not array.once
    places = (str(home.root), str(submission.root), array.name)
    command = _words([*config.prefix, python, "-u", "-m", array.program or ELEMENT, *places])
    unset: Any = None
    return _make_sbatch_string(
        command=command,
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
            *_teardown(config),
            *config.setup,
            *([f'export TMPDIR="{config.scratch}"', 'mkdir -p "$TMPDIR"'] if config.scratch else []),
            *(f"export {name}={shlex.quote(value)}" for name, value in where.items()),
            # A job that did not inherit the submitter's environment would hand its step nothing of what is set here.
            "export SLURM_EXPORT_ENV=ALL",
            # Since version 22.05, srun gives a step one core unless the variable is set again.
            'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
            *([f"export {PORT}=$({_words([*config.prefix, python])} -m ablative.sweeps.slurm.team)"] if team else []),
        ],
        srun_args=["--open-mode=append", *_step(config, several, array.once)],
        additional_parameters=_options(config, array, dependency),
    )


def _words(words: Iterable[str]) -> str:
    """Words of a command line; variables in them are the node's to expand."""
    return " ".join(word if PLAIN.fullmatch(word) else shlex.quote(word) for word in words)


def _teardown(config: ClusterConfig) -> list[str]:
    """Lines that have the shell do the rest as it ends, which leaves its exit code as it is."""
    return ["teardown() {", *(f"    {line}" for line in config.teardown), "}", "trap teardown EXIT"] * bool(
        config.teardown
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
        NoRoom: it names a limit on jobs in the queue.
        NoAnswer: the controller was away.
    """
    executor = _ArrayExecutor(submission.jobs)
    executor.text = script
    with environment.clean(), _quiet():
        try:
            return str(executor._submit_command("").job_id)
        except FailedJobError as error:
            said = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Try ")]
            lines = said or ["no reason given"]
            reason = lines[-1].removeprefix("sbatch: error: ").removeprefix("Batch job submission failed: ")
            hint = next((text for words, text in HINTS.items() if words in reason), "")
            limit = FULL.search(str(error))
            if limit is not None:
                raise NoRoom(f"sbatch refused: {limit[0]}; `ablate run` waits until there is room") from None
            kind = NoAnswer if BUSY.search(reason) else SubmissionRefused
            raise kind(f"sbatch refused: {reason}{hint}") from None


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
    numbers = squeue.ranges(array.numbers)
    gpus = f"{config.gpu_type}:{config.gpus}" if config.gpu_type else str(config.gpus)
    most = config.jobs or (MOST_AT_ONCE if len(array.numbers) > MOST_AT_ONCE else 0)
    exclude = [*array.exclude, *filter(None, [config.extra.get("exclude")])]
    options = {
        "array": f"{numbers}%{most}" if most else numbers,
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "constraint": config.constraint,
        config.memory_by: _memory(config),
        config.gpus_by: (f"gpu:{gpus}" if config.gpus_by == "gres" else gpus) if config.gpus else "",
        "export": config.export,
        "dependency": dependency,
        # What needs a task that failed will not wait in the queue for ever.
        "kill-on-invalid-dep": "yes",
        "requeue": True,
        "signal": f"USR2@{config.signal_seconds}",
    }
    given = {key: value for key, value in options.items() if value}
    return {**given, **config.extra, **({"exclude": ",".join(map(str, exclude))} if exclude else {})}


def _memory(config: ClusterConfig) -> str:
    """Memory as the option asks for it: of an element on a node, of each of its cores, or of each of its GPUs."""
    tasks = config.pack * max(1, config.tasks)
    parts = {"mem": 1, "mem-per-cpu": config.cpus * tasks, "mem-per-gpu": max(1, config.gpus)}[config.memory_by]
    memory = math.ceil(config.memory_gib * tasks * 1024 / parts)
    return f"{memory}M" if memory else ""


def _check_extra(config: ClusterConfig) -> None:
    for name in config.extra:
        if name in OWN_OPTIONS:
            raise ConfigError(f"cluster.extra.{name}: ablate sets this option itself")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what Submitit prints of the complaints of `sbatch`, which our error says in one line."""
    kept = sys.stderr
    with Path(os.devnull).open("w") as sys.stderr:
        try:
            yield
        finally:
            sys.stderr = kept
