"""A script for several processes, started by torchrun; without these tests `launch: env` stays in the short ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from grids import grid, means, run_and_kill
from package_environments import TORCH, environment

pytestmark = pytest.mark.long


@pytest.mark.timeout(3600)
def test_a_grid_of_two_processes_each(tmp_path: Path) -> None:
    python = environment("torchrun", [TORCH, "numpy==2.3.5"])
    found = grid("torchrun", tmp_path, python)
    assert len(found.plan.tasks) == 2 * 2 * 2 * 2
    run_and_kill(found, python)
    assert found.numbers("train/world") == [2.0] * 8
    rows = found.table()
    assert [row[0] for row in rows] == ["sgd", "adam"] and all(50 < mean <= 100 for row in rows for mean in means(row))
    # The number of processes is part of what a run is.
    script = (found.folder / "study.yaml").read_text()
    ids = set(found.plan.by_id)
    (found.folder / "study.yaml").write_text(script.replace("processes: 2", "processes: 1"))
    assert not ids & set(found.plan.by_id)
