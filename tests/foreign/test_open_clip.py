"""open_clip's training program as pip installs it, which ends with status 0 where its experiment is there already."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from grids import grid, means, run_and_kill
from package_environments import TORCH, environment

from ablative.trainer.program.config import dotted

pytestmark = pytest.mark.long
PACKAGES = (TORCH, "numpy==2.3.5", "pandas", "webdataset", "ftfy==6.3.1", "regex", "tqdm", "huggingface_hub")
ALONE = ("open_clip_torch==3.3.0", "torchvision==0.28.0", "timm==1.0.31")


@pytest.mark.timeout(3600)
def test_a_grid(tmp_path: Path) -> None:
    python = environment("open_clip", [*PACKAGES, "safetensors", "fsspec", "pillow"], ALONE)
    found = grid("open_clip", tmp_path, python)
    subprocess.run([str(python), "make_data.py"], cwd=found.folder, check=True)
    known = dotted(found.plan.tasks[0].config.config)
    assert len(known) > 80 and known["logs"] == "{out}" and known["seed"] == "{seed}" and known["wd"] == 0.2
    run_and_kill(found, python)
    rows = found.table()
    assert [row[0] for row in rows] == ["small", "large"] and all(len(means(row)) == 2 for row in rows)
    # Its status is 0 where it refuses to begin.
    folder = found.plan.tasks[0].paths(found.home).output
    again = [str(python), "-m", "open_clip_train.main", "--logs", str(folder), "--name", "run", "--device", "cpu"]
    refused = subprocess.run(again, capture_output=True, text=True, check=True)
    assert "Experiment already exists" in refused.stdout
