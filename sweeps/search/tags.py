"""What a run's journal, and so MLflow, says of the trials that the run belongs to; a report reads it there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ablative.study.home import tracking_tags
from ablative.study.home.journal import Journal, read
from ablative.study.home.paths import TaskPaths


def write(paths: TaskPaths, tags: Mapping[str, str]) -> None:
    """Append the tags unless they are there; no other process writes to the journal of a leased or ended task."""
    if tags.items() <= _tags(paths).items():
        return
    journal = Journal(paths.journal)
    journal.tags(tags)
    journal.close()


def write_trial(paths: TaskPaths, name: str, facts: Mapping[str, Any]) -> None:
    """Add how a trial ended to the tag that lists the trials of this run."""
    known = json.loads(_tags(paths).get(tracking_tags.TRIALS, "{}"))
    write(paths, {tracking_tags.TRIALS: json.dumps({**known, name: facts}, separators=(",", ":"))})


def _tags(paths: TaskPaths) -> dict[str, str]:
    """Tags of a task as its journal leaves them: the last value of each."""
    found: dict[str, str] = {}
    for entry in read(paths.journal)[0]:
        if entry["kind"] == "tags":
            found |= entry["values"]
    return found
