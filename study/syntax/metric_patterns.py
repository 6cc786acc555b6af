"""Metric names and the patterns that stand for several: `linear_probe/shapes_*/top1`."""

from __future__ import annotations

import fnmatch

GROUP_MARK = "@"
"""Begins the name of a group of metrics between the slashes of a pattern: `linear_probe/@structured/top1`."""


def expand(pattern: str, names: list[str]) -> list[str]:
    """Names that a metric pattern means; `*` stays within one part between slashes."""
    if not set(pattern) & set("*?["):
        return [pattern] if pattern in names else []
    parts = pattern.split("/")
    return [
        name
        for name in names
        if len(name.split("/")) == len(parts)
        and all(fnmatch.fnmatchcase(part, want) for part, want in zip(name.split("/"), parts, strict=True))
    ]
