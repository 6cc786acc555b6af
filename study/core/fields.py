"""Fields of configurations: what their values may be, and whether they are part of an identity."""

from __future__ import annotations

import dataclasses
from typing import Any

MISSING: Any = dataclasses.MISSING


def field(
    default: Any = MISSING,
    *,
    choices: tuple[Any, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    above: float | None = None,
    identity: bool = True,
    identity_default: Any = MISSING,
) -> Any:
    """A configuration field: allowed values (`low`/`high` inclusive, `above`/`below` exclusive)."""
    metadata = {
        "choices": choices,
        "low": low,
        "high": high,
        "below": below,
        "above": above,
        "identity": identity,
        "identity_default": identity_default,
    }
    return dataclasses.field(default=default, metadata=metadata)
