"""The micro-batch of an attempt, after earlier ones that ran out of memory."""

from __future__ import annotations

import math

from ablative.trainer.clip.spec.config import RunConfig


def micro_batch(config: RunConfig, halved: int) -> int:
    """Samples per forward pass after so many halvings, rounded up; at least 1. The batch stays as it is."""
    rows = math.ceil(config.schedule.batch_size / config.runtime.processes)
    return max(1, math.ceil((config.runtime.micro_batch or rows) / 2.0**halved))
