"""What `ablate try` has measured of a study's stages: their speed, and whether resumed tasks end as others do.

It is all that `ablate try` leaves in a home; reports read it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from ablative.study.core.damage import fields_of, shape_of
from ablative.study.core.files import read_json, write_json
from ablative.study.home.paths import StudyPaths


@dataclass(frozen=True)
class Tried:
    """One stage, as it was measured."""

    cell: str
    """The cell, with the seed."""
    time: str
    """When it was measured, ISO 8601."""
    seconds: float
    """Seconds that were measured: of the whole task, or of the part that was run."""
    seconds_per_step: float | None = None
    exact: bool | None = None
    """A resumed task reports the same numbers, bit for bit; None: that could not be measured."""
    resumes: bool | None = None
    """A further attempt goes on where the last one was stopped; False: it begins anew."""
    metric: str = ""
    """Where the largest difference was; empty: there is none."""
    difference: float | None = None
    again: int = 0
    """Reported steps that were computed twice."""
    process_seconds: float | None = None
    """Seconds that the whole task takes, times the processes that share it; of one that was cut, by its progress. None:
    that is not known."""
    gpu: str = ""
    """Label of the GPU that it ran on; empty: on CPUs."""
    like: str = ""
    loose: str = ""
    work: float = 0.0
    """Which tasks take about as long, exactly and approximately, and its work, as records have them
    (`study.costs.history`)."""


def read_tried(paths: StudyPaths) -> dict[str, Tried]:
    """Stage → what was measured of it last."""
    found = read_json(paths.tried, {"stages": {str: shape_of(Tried)}}) or {"stages": {}}
    return {stage: Tried(**fields_of(Tried, values)) for stage, values in found["stages"].items()}


def ends_the_same(said: bool | None, own: Tried | None) -> bool:
    """Whether a task that was stopped and resumed is known to end as one that was not: as is said, else as measured."""
    if said is not None:
        return said
    return own is not None and bool(own.exact)


def keep_tried(paths: StudyPaths, measured: Mapping[str, Tried]) -> None:
    """Keep measurements; those of other stages stay, and so does what is known of resumption unless it was measured."""
    known = read_tried(paths)
    for stage, new in measured.items():
        old = known.get(stage)
        if old is not None and new.exact is None and new.resumes is None:
            kept = ("exact", "resumes", "metric", "difference", "again")
            new = dataclasses.replace(new, **{name: getattr(old, name) for name in kept})
        known[stage] = new
    write_json(paths.tried, {"stages": {stage: dataclasses.asdict(own) for stage, own in known.items()}})
