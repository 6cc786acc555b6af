"""How a task is started, and how one that was stopped goes on, as a trainer says it to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Started:
    """The start of a program of the user's."""

    command: tuple[str, ...]
    """Program and arguments, filled in."""
    cwd: Path
    """Folder that it runs in."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """What its environment has in addition to this process's."""


@dataclass(frozen=True)
class Resumption:
    """How a stopped task goes on."""

    possible: bool = True
    """False: a further attempt begins anew."""
    why_not: str = ""
    """What the study lacks for it."""
    file: str = ""
    """Pattern of a file in the output folder without which a further attempt begins anew; empty: it is not known."""
    exact: bool | None = None
    """Whether a resumed task ends as one that was not stopped, where the study or the trainer says so."""
