"""`check.sh` without a GPU, at a tiny size: every part, and a call that is cut short."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from ablative.trainer.clip.spec.recipes import RECIPES

SCRIPT = Path(__file__).with_name("check.sh")
SPEEDS = {"clip", "mae_clip, 8 layers", "mae_clip, 12 layers", "maskclip"}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_part_on_a_cpu(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--model", "tiny", "--batch", "8", "--steps", "1"]
    environment = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "LIMIT": "500", "HOME": str(tmp_path)}
    subprocess.run(["bash", SCRIPT, tmp_path / "found.json", *words], check=True, env=environment)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["machine"]["device"] == "cpu" and set(found["steps"]) == set(RECIPES)
    assert "failed" not in found["tests"] and found["tests"]["skipped"] > 10
    for name, values in found["steps"].items():
        assert math.isfinite(values["train/loss"]) and set(RECIPES[name].terms) < {key[6:] for key in values}, name
    assert set(found["speeds"]) == SPEEDS
    for values in found["speeds"].values():
        assert values["samples/s"] > 0 and values["TFLOP/s"] > 0 and values["GiB"] is values["utilisation"] is None
