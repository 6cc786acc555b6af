"""Several processes of one program: what is put before its command."""

from __future__ import annotations

from collections.abc import Sequence

LAUNCH = "ablative.launch"
"""Module that starts processes with torch's variables of a process group."""


def launched(command: Sequence[str], by: str, processes: int, python: str) -> list[str]:
    """The command that starts so many processes of a program.

    Args:
        command: of one process.
        by: one of `definition.LAUNCHERS`.
        processes: how many.
        python: the study's interpreter, whose `torch` has `torchrun`.
    """
    if by == "torchrun":
        own = command[1:] if command and command[0] == python else ["--no-python", *command]
        # A port of the system's choice: two runs on a node must not meet.
        return [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *own]
    if by == "srun":
        return ["srun", "--ntasks", str(processes), "--kill-on-bad-exit=1", *command]
    if by == "env":
        return [python, "-m", LAUNCH, str(processes), "--", *command]
    return list(command)
