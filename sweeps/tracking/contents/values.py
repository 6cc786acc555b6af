"""Names, texts and numbers as MLflow accepts them, and how a task's end reads there. Pure functions."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ablative.study.home import tracking_tags
from ablative.study.home.task_state import FINISHED, DirectoryState

KEY_LENGTH = 250
PARAM_LENGTH = 6000
TAG_LENGTH = 8000
BATCH = 800
"""MLflow's limits (mlflow.utils.validation 3.17): characters of names and values; metrics of one request, of its
1000 entries less room for the 100 params and 100 tags that it may carry."""

STATE_EVENTS = ("started", "resumed", *FINISHED, "failed", "interrupted")
KILLING_CAUSES = ("preempted", "time limit", "node failure", "killed", "interrupted", "cancelled", "pruned")
"""Ends that came from outside: MLflow's KILLED, where FAILED is the task's own doing."""


def key_name(name: str) -> str:
    """A param, metric or tag name that MLflow accepts; most are already.

    >>> key_name("zero_shot/digits/top1"), key_name("../a//b?")
    ('zero_shot/digits/top1', 'a/b_')
    """
    clean = re.sub(r"[^\w.\-/ :]", "_", name)
    path = posixpath.normpath(clean) if clean else "_"
    path = re.sub(r"^(?:\.?\.?/)+", "", path)
    return cut(path if path not in ("", ".", "..") else "_", KEY_LENGTH, "-{digest}")


def cut(value: str, limit: int, ending: str = " … [{length} characters, sha256 {digest}]") -> str:
    """`value` in at most `limit` characters; a cut one ends in its length and hash, so that two stay distinct.

    Characters that a database refuses (NUL, half surrogates) become `?` and U+FFFD.
    """
    text = value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    tail = ending.format(length=len(text), digest=digest)
    return text[: limit - len(tail)] + tail


@dataclass(frozen=True)
class JournalLine:
    """One journal entry, and the byte behind it."""

    entry: dict[str, Any]
    end: int


def batches(lines: list[JournalLine], size: int = BATCH) -> Iterator[list[JournalLine]]:
    """Runs of consecutive lines with at most `size` metric values each (more only where one line has more)."""
    batch: list[JournalLine] = []
    count = 0
    for line in lines:
        values = len(line.entry["values"]) if line.entry["kind"] == "metrics" else 0
        if batch and values and count + values > size:
            yield batch
            batch, count = [], 0
        batch.append(line)
        count += values
    if batch:
        yield batch


def last_event(lines: list[JournalLine], before: dict[str, Any] | None) -> dict[str, Any] | None:
    """The newest event that says something about the task's state, reduced to what `outcome` reads."""
    for line in reversed(lines):
        if line.entry["kind"] == "event" and line.entry["name"] in STATE_EVENTS:
            event = line.entry
            return {"name": event["name"], "t": event["t"], "cause": str(event.get("cause", ""))}
    return before


@dataclass(frozen=True)
class Outcome:
    """State of a task, in MLflow's words and in ours."""

    status: str
    """RUNNING | FINISHED | FAILED | KILLED"""
    state: str
    """running | completed | diverged | failed"""
    cause: str = ""
    end: int | None = None
    """Milliseconds since 1970, of a task that ended."""
    code: tuple[tuple[str, str], ...] = ()
    """Tags that name the code that ran, where the record knows it."""

    def tags(self) -> dict[str, str]:
        return {tracking_tags.STATE: self.state, tracking_tags.CAUSE: self.cause, **dict(self.code)}


def outcome(directory: DirectoryState, event: Mapping[str, Any] | None) -> Outcome:
    """State of a task by its directory, and where that has none by its journal's last event.

    A journal that says "completed" without a record is still running: the record is completion.
    """
    detail = directory.detail or {}
    told = event["t"] if event else None
    if directory.state in FINISHED:
        code = _code(detail.get("environment") or {})
        return Outcome("FINISHED", directory.state, "", _milliseconds(detail.get("finished"), told), code)
    if directory.state in ("failed", "cancelled"):
        status = "KILLED" if directory.cause in KILLING_CAUSES else "FAILED"
        return Outcome(status, "failed", directory.cause, _milliseconds(detail.get("time"), told))
    if event and event["name"] in ("failed", "interrupted"):
        cause = event["cause"] or ("interrupted" if event["name"] == "interrupted" else "code")
        return Outcome("KILLED" if cause in KILLING_CAUSES else "FAILED", "failed", cause, told)
    return Outcome("RUNNING", "running")


def _code(environment: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    commit, dirty = environment.get("commit"), environment.get("dirty")
    tags = [(tracking_tags.COMMIT, str(commit))] if commit else []
    return (*tags, (tracking_tags.DIRTY, str(int(dirty)))) if dirty is not None else tuple(tags)


def _milliseconds(moment: Any, default: int | None) -> int | None:
    """ISO text or seconds since 1970, in milliseconds."""
    if isinstance(moment, int | float):
        return int(moment * 1000)
    try:
        found = int(datetime.fromisoformat(moment).timestamp() * 1000)
    except (TypeError, ValueError):
        return default
    # Records have whole seconds: without the event's fraction, a short task would end before it began.
    return default if default is not None and 0 <= default - found < 1000 else found
