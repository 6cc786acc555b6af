"""Where a task runs: facts for its record, none of which changes its result."""

from __future__ import annotations

import json
import os
import platform
import resource
import socket
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from ablative.study.core.packages import is_ours, sources_digest
from ablative.study.home import tracking_tags

PACKAGES = {
    "ablate": "ablative",
    **{name: name for name in ("torch", "numpy", "pillow", "tokenizers", "scikit-learn")},
}
"""Key in `record.json` → distribution; the key of this program is the name that its distribution had in 0.1.0."""


def describe(device: str) -> dict[str, Any]:
    """Host, device, versions, code and command line, as `record.json` keeps them.

    The worker that unpacked the code snapshot names its commit in `ABLATE_COMMIT` and `ABLATE_DIRTY`.
    """
    dirty = os.environ.get("ABLATE_DIRTY")
    return {
        "host": socket.gethostname(),
        "device": device,
        "python": platform.python_version(),
        "packages": {key: version for key, name in PACKAGES.items() if (version := _version(name))},
        "commit": os.environ.get("ABLATE_COMMIT") or None,
        "dirty": None if dirty is None else dirty == "1",
        "command": " ".join(sys.argv),
        "scheduler": scheduler() or None,
    }


def program_version() -> str:
    """Version of this program."""
    return _version("ablative") or "unknown"


def processor() -> str:
    """What records call a CPU: the machine's architecture."""
    return platform.machine() or "cpu"


def scheduler() -> dict[str, Any]:
    """Job id, node, requeues and seconds in the queue, as the scheduler's job passed them on; empty without a job."""
    found: dict[str, Any] = json.loads(os.environ.get("ABLATE_SCHEDULER") or "{}")
    return found


def code(trained_by: Sequence[str]) -> dict[str, str]:
    """Which code this attempt runs, and as which job of a scheduler, as tags of its MLflow run.

    Args:
        trained_by: packages of the trainer.
    """
    others = [package for package in trained_by if not is_ours(package)]
    sources = filter(None, [os.environ.get("ABLATE_SOURCES"), sources_digest(others) if others else ""])
    tags = {
        tracking_tags.COMMIT: os.environ.get("ABLATE_COMMIT", ""),
        tracking_tags.DIRTY: os.environ.get("ABLATE_DIRTY", ""),
        tracking_tags.SOURCES: " ".join(sources),
        tracking_tags.VERSION: program_version(),
    }
    if not tags[tracking_tags.SOURCES]:
        del tags[tracking_tags.SOURCES]
    return tags | {tracking_tags.SCHEDULER + key: str(value) for key, value in scheduler().items() if value is not None}


def cpu_seconds() -> float:
    """CPU time of this process and of the child processes that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
