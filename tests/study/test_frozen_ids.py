"""Ids of finished runs never move: stored configurations give the ids that version 0.1.0 gave them."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

from ablative.study.core.identity import config_id
from ablative.study.core.typed import build
from ablative.study.plan.plan import make_plan
from ablative.trainer.clip.spec.config import EvaluationConfig, RunConfig

FROZEN = json.loads(gzip.decompress((Path(__file__).parents[1] / "frozen" / "ids.json.gz").read_bytes()))


def test_every_stored_configuration_has_the_id_that_it_had() -> None:
    moved = []
    for item in FROZEN:
        kind = RunConfig if item["stage"] == "train" else EvaluationConfig
        if (found := config_id(build(kind, item["config"]))) != item["id"]:
            moved.append(f"{item['study']} {item['cell']} seed {item['seed']} {item['stage']}: {item['id']} → {found}")
    assert not moved, "\n".join(moved[:20])
    counts = Counter(item["study"] for item in FROZEN if item["stage"] == "train")
    runs = {"demo": 32, "mae_clip_cc": 19, "mae_clip_mini": 60, "mae_clip_web": 11, "openart": 12, "weights": 8}
    assert counts == runs | {"weights: search": 6}


def test_the_demo_still_plans_the_runs_that_were_stored() -> None:
    """All but its segmentation, which has another task since."""
    stored = {item["id"] for item in FROZEN if item["study"] == "demo" and item["stage"] != "segmentation"}
    tasks = make_plan("demo", ("seeds=[0,1]",)).tasks
    assert {task.task_id for task in tasks if task.stage != "segmentation_objects"} == stored
