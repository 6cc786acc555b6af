"""Keys of a study of one's own code, with their types and meanings; `definition` and its neighbours read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ablative.study.core.typed import field
from ablative.study.syntax.forms import Condition, Names, Text, Words
from ablative.trainer.program.metrics.sources import DeclaredMetric

LAUNCHERS = ("none", "torchrun", "srun", "env")
"""How several processes are started: by the command, by `torchrun` or `srun` before it, or by this program, each with
torch's variables of a process group."""
SIGNALS = ("TERM", "INT", "USR1", "USR2", "HUP")
Number = Annotated[int | float, "number"]
Value = Annotated[str | int | float | bool, "value"]
Metrics = Annotated[
    str | list[str] | dict[str, str | DeclaredMetric | None], "names, or {name: higher | lower | {source: …}}"
]


@dataclass(frozen=True, kw_only=True)
class ResumeKeys:
    """How a stopped program goes on."""

    file: str = field("")
    """File of the output folder that makes an attempt resume, where it exists; a pattern (`*.pt`)."""
    args: Words = field("")
    """Words that are added to the command then; `{resume.file}` is the newest such file."""
    exact: bool | None = field(None)
    """Whether a resumed run ends as an uninterrupted one; null: `ablate try` finds out."""


@dataclass(frozen=True, kw_only=True)
class StopKeys:
    """How a running program is stopped."""

    signal: str = field("TERM", choices=SIGNALS)
    """What the program is sent first."""
    grace: float = field(120.0, low=0)
    """Seconds until it is killed."""


@dataclass(frozen=True, kw_only=True)
class LaunchKeys:
    """How many processes share the work of a stage, and what starts them."""

    processes: int = field(0, low=0)
    """Number of processes; 0: `runtime.processes`."""
    with_: str = field("none", choices=LAUNCHERS)
    """What starts them: the command itself, torchrun, srun, or ablate with torch's variables (`env`)."""
    same_result: bool = field(False)
    """The number of processes does not change the result, so that it is no part of ids."""


@dataclass(frozen=True, kw_only=True)
class ProgressKeys:
    """How far a stage is."""

    steps: Text = field("")
    """Number of steps, or a placeholder for the key that has it: `"{max_iters}"`."""


@dataclass(frozen=True, kw_only=True)
class StageKeys:
    """One stage."""

    command: Words = field("")
    """The program and its arguments, with placeholders such as `{args}`, `{seed}` and `{out}`; no shell runs it."""
    function: Text = field("")
    """`module:function`, in place of a command."""
    config: dict[str, object] = field(None)
    """Configuration of this stage, in addition to the study's."""
    reads: Names = field(())
    """Patterns of the keys that the stage reads; empty: all."""
    after: Names = field(())
    """Stages that have to be finished before."""
    when: Condition = field(None)
    """Factor → levels of the cells that have the stage."""
    each: dict[str, list[Value]] = field(None)
    """Key → values, with one task for each."""
    seeded: bool = field(True)
    """False: the same for all seeds, so it is run once."""
    resume: ResumeKeys = field(None)
    """How a stopped program goes on."""
    stop: StopKeys = field(None)
    """How a running program is stopped."""
    launch: str | LaunchKeys = field("none")
    """Processes that share the work; a text is the value of `with`."""
    progress: ProgressKeys = field(None)
    """What says how far it is."""
    metrics: Metrics = field(())
    """What the stage yields, and where the values are; a name with `*` takes several from one source."""
    outputs: Names = field(())
    """Patterns of files that a finished stage has left in `{out}`."""
    data: Names = field(())
    """Files, folders or patterns whose content is part of ids."""
    cwd: Text = field("")
    """Folder in which the program starts, within the code's."""
    env: dict[str, object] = field(None)
    """Environment variables."""
    prefix: Words = field("")
    """Words before the command: `conda run -n lab`, `apptainer exec image.sif`."""
    rename: dict[str, object] = field(None)
    """Key of the configuration → what the command line calls it."""
    on_oom: dict[str, Text] = field(None)
    """Key → what its value is multiplied by after an attempt that ran out of memory."""


@dataclass(frozen=True, kw_only=True)
class CodeKeys:
    """The code that jobs run in a copy of."""

    folder: Text = field("")
    """Where commands start; its git repository is copied. Empty: the root of the study file's repository."""
    source: str | list[str] = field(None)
    """Patterns of files that count as code when results are compared; `!` takes files out again."""
    link: str | list[str] = field(())
    """Patterns of files and folders that are linked into the copy in place of being copied."""
    largest: Number = field(50.0, above=0)
    """MiB that are copied at most."""


@dataclass(frozen=True, kw_only=True)
class ProgramKeys:
    """A study of one's own code."""

    code: str | CodeKeys = field("")
    """Folder of the code, or keys of it."""
    config: dict[str, object] = field(None)
    """The whole configuration: `{key: value}`, or where it comes from: `{argparse: true}`, `{hydra: true}`, `{file:
    base.yaml}`, `{type: "pkg.config:Config"}`, each with `values:` in addition."""
    stages: dict[str, Text | StageKeys] = field()
    """Stage → what it does; a text is a command."""
    unhashed: Names = field(())
    """Patterns of keys that change no result."""
    partial: Annotated[object, "true or false"] = field(False)
    """Only the keys of the cells are known, so that an edited default moves no id; reports mark it."""
    python: Text = field("")
    """Interpreter of the program, or folder of a virtual environment; empty: the active environment's."""
    env: dict[str, object] = field(None)
    """Environment variables of all stages."""
    prefix: Words = field("")
    """Words before every command."""
