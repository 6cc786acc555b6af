"""Every file of a home with its meaning, read from `study.home.paths`, which alone names them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

from ablative.study.discovery.keys import UndocumentedError
from ablative.study.home.paths import Home, RunPaths, StudyPaths, SubmissionPaths, TaskPaths
from ablative.study.home.search_paths import SearchPaths, TrialPaths

HOME = "$ABLATE_HOME"
RUN, STUDY = "runs/<run id>", "studies/<study>"
ROOTS: dict[type, str] = {
    Home: "",
    RunPaths: RUN,
    TaskPaths: "<task>",
    StudyPaths: STUDY,
    SubmissionPaths: f"{STUDY}/submissions/<stamp>",
    SearchPaths: f"{STUDY}/search",
    TrialPaths: f"{STUDY}/search/<arm>/trials/<number>",
}
"""Class of paths → the folder whose files it names; a run's folder is also that of its first task."""


def home_files() -> Iterator[tuple[str, str]]:
    """(path within the home, meaning) of every file and folder.

    `<task>` is `runs/<run id>`, or `runs/<run id>/evaluations/<task id>`.
    """
    for kind, root in ROOTS.items():
        for name, member in vars(kind).items():
            function = member.fget if isinstance(member, property) else member
            if name.startswith("_") or not inspect.isfunction(function):
                continue
            if inspect.signature(function).return_annotation != "Path":
                continue
            if not function.__doc__:
                raise UndocumentedError(f"{kind.__module__}.{kind.__qualname__}.{name} has no docstring")
            chosen = [f"<{each.replace('_', ' ')}>" for each in list(inspect.signature(function).parameters)[1:]]
            path = function(kind(Path(root)), *chosen)
            yield path.as_posix(), " ".join(function.__doc__.split())
