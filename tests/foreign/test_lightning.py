"""A Lightning CLI: its configuration is a file, its curves are CSV, its checkpoints are its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from grids import grid, kill_on_slurm, means, run_and_kill, slurm
from package_environments import TORCH, environment

pytestmark = pytest.mark.long


@pytest.mark.timeout(3600)
def test_a_grid(tmp_path: Path) -> None:
    python = environment("lightning", [TORCH, "lightning[extra]==2.6.1"])
    found = grid("lightning", tmp_path, python)
    ids = set(found.plan.by_id)
    base = found.folder / "base.yaml"
    before = base.read_text()
    base.write_text(before.replace("count: 512", "count: 256"))
    assert not ids & set(found.plan.by_id)
    base.write_text(before)
    run_and_kill(found, python)
    rows = found.table()
    assert [row[0] for row in rows] == ["narrow", "wide"]
    assert all(40 < mean <= 100 for row in rows for mean in means(row))


@pytest.mark.timeout(3600)
def test_a_grid_on_slurm_whose_variables_lightning_reads_itself(tmp_path: Path) -> None:
    python = environment("lightning", [TORCH, "lightning[extra]==2.6.1"])
    found = grid("lightning", tmp_path, python)
    with slurm(tmp_path / "slurm") as words:
        run_and_kill(found, python, words, kill_on_slurm)
    assert [len(means(row)) for row in found.table()] == [2, 2]
