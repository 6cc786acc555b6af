"""The topics of `ablate help`: short texts in the folder `topics`, and lists that are read from the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from ablative.study.discovery.environment import EXIT_CODES, IN_JOBS, VARIABLES
from ablative.study.discovery.home_files import HOME, home_files

FOLDER = Path(__file__).parent / "topics"


def _environment() -> str:
    lines = ["Environment variables.", "", "What you may set:", *_rows(VARIABLES)]
    return "\n".join([*lines, "", "What a program finds in a job:", *_rows(IN_JOBS)])


def _exit_codes() -> str:
    return "\n".join(["Exit codes.", "", *_rows(EXIT_CODES)])


def _files() -> str:
    where = f"Below {HOME}; <task> is runs/<run id>, or runs/<run id>/evaluations/<task id>:"
    return "\n".join(["Files of a home.", "", where, *_rows(dict(home_files()))])


def _rows(meanings: Mapping[str, str]) -> list[str]:
    return [f"    {name}\n        {meaning}" for name, meaning in meanings.items()]


MADE: Mapping[str, Callable[[], str]] = MappingProxyType(
    {"environment": _environment, "exit-codes": _exit_codes, "files": _files}
)
"""Topic → what makes its text."""


def topics() -> tuple[str, ...]:
    """Names of all topics."""
    return tuple(sorted({*MADE, *(path.stem for path in FOLDER.glob("*.txt"))}))


def text_of(topic: str) -> str:
    """The text of a topic; its first line says what it is about."""
    return MADE[topic]() if topic in MADE else (FOLDER / f"{topic}.txt").read_text(encoding="utf-8").rstrip("\n")
