"""A task of a user's program as a typed configuration: what is hashed, and what the job needs in addition."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from ablative.study.core.identity import HIDDEN, INLINE
from ablative.study.core.typed import Settings, field
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.spec.sections import Frozen
from ablative.study.syntax.words import STAGE_MARK, Tree
from ablative.trainer.program.definition import Described, StageDefinition
from ablative.trainer.program.words import Plain


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is run, apart from its configuration."""

    command: tuple[str, ...] = field(())
    """Words of the command as the study has them, placeholders included; empty for a function."""
    function: str = field("")
    """`module:function`; empty for a command."""
    each: Tree = field(Frozen(), identity_default={})
    """Key of the stage's `each` → the value that this task is for."""
    data: dict[str, str] = field(Frozen(), identity_default={})
    """File that the program reads → fingerprint of its content."""
    world_size: int = field(1, low=1, identity_default=1)
    """Processes that share the work, where their number changes the result."""


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """How the program is started, stopped, resumed and read."""

    stage: StageDefinition = field()
    python: str = field()
    """The study's interpreter."""
    code: str = field()
    """Folder of the user's code as it was planned; a job runs in a copy of it where there is one."""
    folders: dict[str, str] = field(Frozen())
    """Placeholder for an output folder → the stage that it is of: `train.out` → `train`."""
    source: Described = field(Described())
    """Where the configuration comes from; a search resolves it again with other values."""
    chosen: Tree = field(Frozen())
    """Dotted keys that the cell and the command line set, and their values."""
    unhashed: tuple[str, ...] = field(())
    """Patterns of keys that change no result."""


@dataclass(frozen=True, kw_only=True)
class ProgramConfig:
    """One stage of one cell."""

    config: Tree = field(flat=INLINE)
    """Whole resolved configuration of the program, nested as the program nests it, without unhashed keys."""
    program: Program = field(Program())
    unhashed: Tree = field(Frozen(), identity=False)
    """Dotted keys that change no result, and their values."""
    given: Tree = field(Frozen(), identity=False, flat=HIDDEN)
    """Dotted keys that the program is given, and their values: the study's, the cell's and the command line's."""
    options: Tree = field(Frozen(), identity=False, flat=HIDDEN)
    """Key → how the program's command line takes it, where the program was asked for its options."""
    job: JobSettings = field(identity=False, flat=HIDDEN)
    runtime: RuntimeConfig = field(RuntimeConfig(), identity=False)


def dotted(tree: Settings, prefix: str = "") -> Tree:
    """Leaves of a nested mapping by their dotted keys; an empty mapping is a leaf."""
    found: Tree = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found.update(dotted(value, f"{name}."))
        else:
            found[name] = value
    return found


def put(tree: Tree, key: str, value: Plain) -> None:
    """Set a dotted key; sections that are missing are made."""
    head, _, rest = key.partition(".")
    if key in tree or not rest:
        tree[key] = value
        return
    section = tree.get(head)
    tree[head] = dict(section) if isinstance(section, Mapping) else {}
    put(tree[head], rest, value)


def nested(values: Settings) -> Tree:
    """A nested mapping of dotted keys."""
    found: Tree = {}
    for key, value in values.items():
        put(found, key, value)
    return found


def hashable(config: Plain) -> Plain:
    """A configuration that was read from a file as a plan has it: its mappings can be part of what is looked up."""
    if isinstance(config, Mapping):
        return Frozen(config)
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    values = {spec.name: hashable(getattr(config, spec.name)) for spec in dataclasses.fields(config)}
    return dataclasses.replace(config, **values)


def precision(item: tuple[str, object]) -> int:
    """Order of keys with their values: those of single stages come last, and so take the place of others."""
    return len(item[0].rpartition(STAGE_MARK)[0])


def of_stage(values: Settings, name: str) -> Tree:
    """The keys that mean a stage, as it knows them, and their values.

    Args:
        values: dotted keys, also those of single stages (`probe:lr`).
        name: of the stage, also with the values of its `each` (`probe.digits`).
    """
    found: Tree = {}
    for key, value in sorted(values.items(), key=precision):
        stage, _, own = key.rpartition(STAGE_MARK)
        if not stage or name == stage or name.startswith(f"{stage}."):
            found[own] = value
    return found
