"""Where a task finds the user's code: in the copy that was made when it was submitted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ablative.study.home.paths import Home


def folder(live: Path) -> Path:
    """Where commands start: in the job's copy of `live`; without a job, `live` itself."""
    return Path(os.environ.get("ABLATE_CODE") or live)


def moved(path: str) -> str:
    """The job's copy of a path in the user's repository, where there is one; any other path as it is."""
    live, copy = os.environ.get("ABLATE_CODE_LIVE"), os.environ.get("ABLATE_CODE_COPY")
    if not live or not copy or not os.path.isabs(path):
        return path
    real = os.path.realpath(path)
    if real != live and not real.startswith(live + os.sep):
        return path
    place = copy + real.removeprefix(live)
    return place if os.path.lexists(place) else path


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment under which a user's program imports its own code from the copy.

    `PYTHONPATH` is the user's, after what redirects imports; this program's own entry and its `PYTHONSAFEPATH`, under
    which a script would not find the modules in its own folder, are gone.

    Args:
        environment: of this process.
    """
    ours = str(Home(Path(environment.get("ABLATE_HOME", ""))).snapshot(environment.get("ABLATE_SNAPSHOT", "")))
    given = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != ours]
    path = [*filter(None, [environment.get("ABLATE_CODE_IMPORTS")]), *given]
    kept = {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return kept | ({"PYTHONPATH": os.pathsep.join(path)} if path else {})
