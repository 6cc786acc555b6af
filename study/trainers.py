"""The trainer interface: everything that the manager asks of training code.

A trainer is one object with the attributes and methods of `Trainer`. It is imported where studies are planned and
reported, so its module must import neither torch nor anything else that is heavy; what runs a task is named by
`entry` and is imported in the job alone. `study.installed_trainers` finds trainers by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ablative.study.core.errors import ConfigError
from ablative.study.core.identity import flatten, identity
from ablative.study.core.typed import Settings, with_values
from ablative.study.home.journal import Entry
from ablative.study.home.paths import Home, TaskPaths
from ablative.study.spec.cluster import ClusterConfig
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.spec.sections import Choices, Values
from ablative.study.starts import Resumption, Started
from ablative.study.syntax.words import Tree

RESERVED_STAGES = {"cost": "every task's cost", "validation": "what a search chooses by", "from": "the run before"}
"""Names that no stage has → what they are kept for."""

Config = Any
"""A stage's configuration: a frozen dataclass of fields made by `study.core.typed.field`, or a plain mapping."""


@dataclass(frozen=True)
class Metric:
    """One number that a stage yields."""

    name: str
    """`STAGE/NAME`, of letters, digits, `_`, `-`, `.`, spaces and slashes: what MLflow takes."""
    stage: str
    """The stage that yields it; its name need not begin the metric's (`cost/seconds` is the training's)."""
    unit: str = ""
    """What is printed after a value: `%`, `s`; empty: nothing."""
    better: str = ""
    """`higher`, `lower`, or empty: neither."""
    low: float | None = None
    high: float | None = None
    """Bounds, included: a report refuses values outside of them. None: there is none."""
    ranked: bool = True
    """Tables mark the best of a column of it unless the study says otherwise; not of what levels make incomparable."""
    label: str = ""
    """What is measured, as reports print it (`zero-shot top-1`); empty: the first and last part of the name."""
    data_set: str = ""
    """What it is measured on, printed after the label; empty: nothing."""
    exact: bool | None = None
    """True: it follows from the configuration, so that no seed changes it (FLOPs, parameters), and a difference needs
    no test. False: equal values are chance. None: it is exact where no arm's values differ between seeds and none lie
    on a grid, and never with an upper bound."""
    depends: tuple[str, ...] = ()
    """Keys of the stage's configuration that say which quantity it is: no axis of a figure shows two of them."""

    @property
    def difference_unit(self) -> str:
        """Unit of a difference of two values: of percentages it is points."""
        return "points" if self.unit == "%" else self.unit


def cost_metrics(stage: str) -> tuple[Metric, ...]:
    """What `trainer.runner.attempts` records of a task that opens a run; `stage`: the one that does."""
    return (
        Metric("cost/seconds", stage, "s", better="lower", low=0.0, ranked=False, label="time"),
        Metric("cost/cpu_hours", stage, "h", better="lower", low=0.0, ranked=False, label="CPU time"),
        Metric("cost/gpu_hours", stage, "h", better="lower", low=0.0, ranked=False, label="GPU time"),
    )


@dataclass(frozen=True)
class Stage:
    """One stage of one run, as the trainer configures it for a cell."""

    name: str
    config: Config
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    """Where it runs; `processes` is 1 for a stage that one process does."""
    needs: tuple[str, ...] = ()
    """Names of stages of the same run that have to be finished before."""
    seeded: bool = True
    """False: the same for all seeds, so it is run once, for all cells whose configuration of it is the same."""
    metrics: tuple[Metric, ...] = ()
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Factor → levels of the cells that have this stage; empty: all."""
    former: Config | None = None
    """The configuration as it would be if keys that it does not read had kept the values that the study gives them,
    where that differs: finished runs may be known by its id."""


@dataclass(frozen=True)
class Progress:
    """How far a running task is, as its journal says."""

    done: float
    total: float
    """Both in a unit that the trainer chooses (steps, epochs)."""
    seconds_left: float | None = None
    """How long the rest takes at the reported speed; None: it is not known."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """What a status line shows of it: `{"loss": "2.31"}`."""

    @property
    def share(self) -> float:
        """Done part, from 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 1.0


@dataclass(frozen=True)
class JobTask:
    """A task in the job: `Trainer.entry` is called with it, and runs it to its end."""

    task_id: str
    stage: str
    seed: int
    paths: TaskPaths
    """Its directory, with the configuration; its lease is held by the caller."""
    home: Home
    needs: Mapping[str, TaskPaths]
    """Stage, or `from` for the run that this one starts from → directory of the finished task that this one needs."""
    trainer: str
    stop: Callable[[], bool]
    """True: save, and raise `study.core.errors.Interrupted`."""
    opens: bool = True
    """It opens a run: its directory is the run's."""
    name: str = ""
    """Cell, seed and stage, for people."""


@dataclass(frozen=True)
class Request:
    """A study to configure, as its trainer sees it."""

    name: str
    where: str
    """The file, for messages."""
    folder: Path
    """The folder that it lies in."""
    seeds: tuple[int, ...]
    own: Settings
    """The study's values of the trainer's own keys (`Trainer.study_keys`)."""
    choices: Mapping[str, str]
    """Config group → option, of the study's `base` and the command line."""
    tree: Callable[..., Tree]
    """(group choices, dotted values) → composed configuration tree (`study.spec.sections.Sections.tree`)."""
    extend: Callable[[tuple[str, ...]], None]
    """(overrides) → every tree is composed with them, in Hydra's grammar."""
    section: Callable[..., Any]
    """(name, class, group choices, dotted values, …) → that section of the tree as a typed object, the same object for
    equal arguments (`study.spec.sections.Sections.section`)."""
    options: Callable[[str], Sequence[str]]
    """Config group → its options."""
    check_choice: Callable[[str, str, str], None]
    """(config group, option, where) → ConfigError for an option that there is not."""
    words: Settings
    """Dotted values of the command line."""
    check_factors: Callable[[Mapping[str, Sequence[str]], str], None]
    """Raises ConfigError for a condition (factor → levels) on what the study does not have."""
    home: Home
    read_data: bool
    """Content fingerprints of data are wanted; without, they stay empty."""
    without_data: bool
    """Data that are absent are no error."""


SOURCE = ("*.py", "*.pyx", "*.c", "*.cc", "*.cpp", "*.cu", "*.h", "*.sh", "*.yaml", "*.yml", "*.json", "*.toml")
"""Names of files that count as code, unless a study says otherwise."""


@dataclass(frozen=True)
class Code:
    """A user's code: jobs run in a copy of it, and results are compared by it."""

    folder: Path
    """Where commands start. The git repository that it lies in is copied; outside one, the folder itself."""
    python: str = ""
    """The interpreter that runs it; empty: each command names its own."""
    source: tuple[str, ...] = SOURCE
    """Patterns of files that count as code when results are compared: of a name, or with `/` of a path in `folder`'s
    repository; those that begin with `!` take files out again. Files that define a study never count."""
    data: tuple[str, ...] = ()
    """Patterns of files and folders that are linked into the copy in place of being copied, as what git ignores is."""
    largest_mib: float = 50.0
    """So much is copied at most."""


class Configurations(Protocol):
    """The configurations of one study's cells; the manager makes one for each plan."""

    @property
    def code(self) -> Code | None:
        """The user's code that its tasks run; None: nothing but the trainer's packages."""
        return None

    @property
    def metrics(self) -> Sequence[Metric]:
        """Every metric that a stage of the cells configured so far may yield, applicable or not, in order."""
        ...

    @property
    def absent(self) -> Mapping[str, str]:
        """Data that are not on this machine, and where they were looked for; only if `Request.without_data`."""
        return {}

    def check_key(self, key: str, where: str) -> None:
        """Raise ConfigError for the key of an override (of a level or a word) that no stage has."""
        ...

    def members(self, pattern: str, where: str) -> Sequence[str]:
        """The patterns that a pattern of metrics means, where the trainer has names for groups of metrics."""
        return (pattern,)

    def stages(self, choices: Choices, values: Values) -> Sequence[Stage]:
        """The stages of a cell's runs, before `Trainer.bind`; the first seeded one that needs nothing else opens a run.

        Keys that a configuration does not read are set back to what the group choices give them.

        Args:
            choices: config group → option, of the cell's levels.
            values: key → value, of the cell's levels.

        Raises:
            ConfigError: the configuration is impossible.
        """
        ...

    def close(self) -> None:
        """The plan is made: end what was started for it. A later question may start it again."""
        return None


class Trainer(Protocol):
    """Training code, as the manager knows it. A trainer inherits from this class and leaves out what has a default."""

    name: str
    """The word after `trainer:` in a study."""
    entry: str
    """`module:function`, called in the job with one `JobTask`; returns when the task's `record.json` is written."""
    packages: tuple[str, ...]
    """Packages whose code can change a result: they are copied for the job, and compared between results."""
    study_keys: tuple[str, ...] = ()
    """Keys of a study file that it owns."""
    keys: Mapping[str, object] | None = None
    """Section (`model`; empty: the study keys) → dataclass that declares its keys, for `ablate keys` and the schema."""
    condition_keys: tuple[str, ...] = ()
    """Those of them that map names to conditions on cells (factor: levels)."""
    groups: tuple[str, ...] = ()
    """Config groups that it has in addition to the common ones (`cluster`, `runtime`)."""
    conf: Path | None = None
    """Folder of those groups, with a `config.yaml` whose defaults list names them."""
    extra: str = ""
    """Extra of this distribution without which its jobs cannot run."""
    self_identified: bool = False
    """A bound configuration holds the seed and the ids of what it needs, and is hashed alone. False: the names of
    trainer and stage, the needs' ids and the seed are hashed with it."""
    starts_processes: bool = False
    """`entry` starts the processes that share a task: SLURM starts one for all of them. False: `entry` is called in
    each, with torch's variables of a process group."""
    executes: bool = True
    """False: its tasks are results that exist already; there is nothing to run, and what lacks is `absent`."""
    enqueue: tuple[Settings, ...] = ()
    """Values of parameters that every search over all of them tries first: what its papers print."""

    def configurations(self, request: Request) -> Configurations:
        """Read the study's own keys; raises ConfigError for what is wrong with them."""
        ...

    def load(self, stage: str, data: Settings) -> Config:
        """A stage's configuration from the content of a task's `config.yaml`; raises ConfigError."""
        return data

    def bind(self, stage: str, config: Config, needs: Mapping[str, str], seed: int) -> Config:
        """The configuration with the seed, and the ids of what it needs, filled in.

        Args:
            stage: its name.
            config: of the stage.
            needs: stage → id of the task; `from` → id of the run that this one starts from.
            seed: of the run.
        """
        return config

    def unread(self, stage: str, config: Config) -> Mapping[str, str]:
        """Dotted keys that a task of this configuration does not read → the key that it reads instead, or empty."""
        return {}

    def parameters(self, stage: str, config: Config) -> Mapping[str, type]:
        """Dotted keys that a search may set, with the types of their values."""
        return {key: type(value) for key, value in flatten(identity(config)).items()}

    def changed(self, stage: str, config: Config, values: Settings) -> Config:
        """The configuration with other values of some dotted keys; raises ConfigError for one that cannot be run."""
        return with_values(config, values)

    def check_value(self, stage: str, config: Config, key: str, value: object) -> None:
        """Raise ConfigError for a value that a key cannot have, whatever others are: a search asks for both ends."""
        with_values(config, {key: value})

    def held_out(self, stage: Stage, metrics: Collection[str], where: str) -> Stage | None:
        """The stage restricted to what yields these of its metrics, on data that no report touches.

        A search chooses by it, and finds the metrics as `validation/NAME`. None: the trainer has no such split, and
        the search goes by the stage as it is. Raises ConfigError where these metrics have none.
        """
        return None

    def check_start(self, stage: str, config: Config, parent: Config | None) -> None:
        """Raise ConfigError where a run cannot start from another (`from:` in a level).

        Args:
            stage: the first of the run.
            config: of this stage.
            parent: the same stage's in the run from which it starts; None: there is none.
        """
        return None

    def check_stage(self, stage: str, config: Config, needs: Mapping[str, Config]) -> None:
        """Raise ConfigError for a stage that cannot be run on what those leave that it needs (their configurations)."""
        return None

    def check_watched(self, config: Config, every: int, where: str) -> None:
        """Raise ConfigError unless a held-out stage can be evaluated every so many steps while this run trains."""
        raise ConfigError(f"{where}: trainer '{self.name}' evaluates nothing while it trains; prune by what it logs")

    def work(self, stage: str, config: Config) -> float:
        """Amount of work, in any unit: tasks that are alike take a time in proportion to it."""
        return 1.0

    def operations(self, stage: str, config: Config, needs: Mapping[str, Config]) -> float:
        """Floating-point operations, by which a task is priced before any like it is finished; 0: not known.

        Args:
            needs: stage → configuration of a task that it needs.
        """
        return 0.0

    def precision(self, stage: str, config: Config) -> str:
        """Arithmetic in which they are done, `fp32` or `bf16`: GPUs differ by it."""
        return "fp32"

    def alike(self, stage: str, config: Config, needs: Mapping[str, Config]) -> tuple[object, object]:
        """What tasks have in common that take the same time for the same work: exactly, and approximately.

        Args:
            needs: stage, or `from` → configuration of a task that it needs.

        Returns:
            Two JSON values, to be hashed, or hashes.
        """
        return [self.name, stage, identity(config)], [self.name, stage]

    def meant_for_gpus(self, stage: str, config: Config) -> bool:
        """Whether prices in GPU hours are of interest before it is known where the task would run."""
        return False

    def progress(self, stage: str, config: Config, entries: Sequence[Entry]) -> Progress | None:
        """How far a running task is, from the last entries of its journal; None: that is not known."""
        return None

    def after_out_of_memory(self, stage: str, config: Config, times: int) -> bool:
        """Whether an attempt after so many that ran out of memory would need less of it."""
        return False

    def check_cluster(self, stage: str, config: Config, cluster: ClusterConfig) -> None:
        """Raise ConfigError for a stage that cannot run as this cluster would have it."""
        return None

    def grace(self, stage: str, config: Config) -> float:
        """Seconds that a running task may take to end once it is to (cancelled, or a pruned trial); 0: it is killed."""
        return 0.0

    def started(self, task: JobTask, config: Config) -> Started | None:
        """The program that a task would start; None: it starts none. Nothing is run or written."""
        return None

    def resumption(self, stage: str, config: Config) -> Resumption:
        """How a stopped task goes on."""
        return Resumption()

    def partial(self, stage: str, config: Config) -> bool:
        """Whether the configuration is not whole, so that an edited default does not move the id: reports mark it."""
        return False

    def inputs(self, stage: str, config: Config) -> Mapping[str, str]:
        """Data that a task reads: name → what identifies their content, as a report prints it."""
        return {}

    def extras(self, stage: str, config: Config) -> Sequence[str]:
        """Extras of this distribution that a task needs besides `extra`."""
        return ()

    def archives(self, stage: str, config: Config, paths: TaskPaths) -> Sequence[Path]:
        """Files with arrays that a finished task may have kept for figures of kind `panels`."""
        return ()
