"""What a run's journal, and so MLflow, says of the trials that the run belongs to; a report reads it there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ablative.study.home import tracking_tags
from ablative.study.home.journal import Journal, read
from ablative.study.home.paths import TaskPaths


def write(paths: TaskPaths, tags: Mapping[str, str]) -> None:
    """Append the tags unless they are there; nobody else writes to the journal of a task that is leased or over."""
    if tags.items() <= _tags(paths).items():
        return
    journal = Journal(paths.journal)
    journal.tags(tags)
    journal.close()


def write_trial(paths: TaskPaths, name: str, facts: Mapping[str, Any]) -> None:
    """Say how a trial ended, beside the other trials that have this run."""
    known = json.loads(_tags(paths).get(tracking_tags.TRIALS, "{}"))
    write(paths, {tracking_tags.TRIALS: json.dumps({**known, name: facts}, separators=(",", ":"))})


def _tags(paths: TaskPaths) -> dict[str, str]:
    """As the journal's lines leave them."""
    found: dict[str, str] = {}
    for entry in read(paths.journal)[0]:
        if entry["kind"] == "tags":
            found |= entry["values"]
    return found
