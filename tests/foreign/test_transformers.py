"""A script around the Trainer of `transformers`, with its hundred options; resumed from its own checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from grids import grid, means, run_and_kill
from package_environments import TORCH, environment

from ablative.trainer.program.config import dotted

pytestmark = pytest.mark.long


@pytest.mark.timeout(3600)
def test_a_grid(tmp_path: Path) -> None:
    python = environment("transformers", [TORCH, "transformers==5.13.0", "accelerate==1.12.0"])
    found = grid("transformers", tmp_path, python)
    train, after = found.plan.tasks[0], next(task for task in found.plan.tasks if task.stage == "next")
    known = dotted(train.config.config)
    assert len(known) > 90 and known["weight_decay"] == 0.0 and known["seed"] == "{seed}"
    assert dotted(after.config.config).keys() == {"model", "count", "report"}
    run_and_kill(found, python)
    rows = found.table()
    assert [row[0] for row in rows] == ["narrow", "wide"] and all(len(means(row)) == 4 for row in rows)
    assert len(found.numbers("train/loss")) == 8
