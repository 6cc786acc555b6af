"""Nodes that failed under a study's tasks: its next submissions stay away from them for some time."""

from __future__ import annotations

import time

from ablative.study.core.files import read_json, write_json
from ablative.study.home.paths import StudyPaths


def note(study: StudyPaths, node: str, reason: str) -> None:
    """Remember that a node failed just now."""
    write_json(study.failed_node(node), {"node": node, "time": time.time(), "reason": reason})


def avoided(study: StudyPaths, hours: float) -> dict[str, float]:
    """{node that failed less than so many hours ago: until when to stay away, in seconds since 1970}."""
    found = {}
    pattern = study.failed_node("*")
    for path in sorted(pattern.parent.glob(pattern.name)):
        failure = read_json(path)
        if failure is not None and failure["time"] + hours * 3600 > time.time():
            found[str(failure["node"])] = failure["time"] + hours * 3600
    return found
