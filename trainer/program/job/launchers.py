"""Several processes of one program: what is put before its command."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

LAUNCH = "ablative.launch"
"""Module that starts processes with torch's variables of a process group."""
_STEP = re.compile(
    r"SLURM_(NTASKS\w*|NPROCS|PROCID|LOCALID|NODEID|GTIDS|TASKS_PER_NODE|TASK_PID|STEPID|STEP_\w+|SRUN_\w+|LAUNCH_\w+)"
    r"|PMIX?_\w+"
)
"""Variables of the step of a SLURM job, which is the worker's."""
_OPTIONS = re.compile(r"SLURM_(STEP_|CPU|MEM_BIND|DISTRIBUTION|NTASKS|NNODES|NPROCS)\w*")
"""Those of them that `srun` would take for options of the next step."""


def without_step(environment: Mapping[str, str], by: str) -> dict[str, str]:
    """The environment of a program that is no part of the step that its worker runs in.

    A library that found the worker's step there would take the program for one of its processes: Lightning ignores the
    signal to stop then, since SLURM is to requeue it. `srun` makes the next step, and needs the job's variables.

    Args:
        environment: of the worker.
        by: what starts the program's processes.
    """
    left_out = _OPTIONS if by == "srun" else _STEP
    return {name: value for name, value in environment.items() if not left_out.fullmatch(name)}


def launched(command: Sequence[str], by: str, processes: int, python: str, environment: Mapping[str, str]) -> list[str]:
    """The command that starts so many processes of a program.

    Args:
        command: of one process.
        by: one of `definition.LAUNCHERS`.
        processes: how many.
        python: the study's interpreter, whose `torch` has `torchrun`.
        environment: of this process, which may run in a job of SLURM's.
    """
    if by == "torchrun":
        own = command[1:] if command and command[0] == python else ["--no-python", *command]
        # A port of the system's choice: two runs on a node must not meet.
        return [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *own]
    if by == "srun":
        return ["srun", "--ntasks", str(processes), "--kill-on-bad-exit=1", *_inside(environment), *command]
    if by == "env":
        return [python, "-m", LAUNCH, str(processes), "--", *command]
    return list(command)


def _inside(environment: Mapping[str, str]) -> list[str]:
    """Options of `srun` in a job: on all of its nodes, with the cores that the worker's own step has, too."""
    if "SLURM_JOB_ID" not in environment:
        return []
    given = {"nodes": environment.get("SLURM_JOB_NUM_NODES"), "cpus-per-task": environment.get("SRUN_CPUS_PER_TASK")}
    return ["--overlap", *(f"--{name}={value}" for name, value in given.items() if value)]
