"""The paper's grids: every row of its tables is a cell, planned without data, with GPU-hours; groups of sets."""

from __future__ import annotations

import json

import pytest

from study.cli import main
from study.cost import ASSUMED_UTILISATION, estimate
from study.devices import find
from study.errors import AbsentDataError, ConfigError
from study.paths import Home
from study.places import place
from study.plan import Plan, make_plan
from study.schema import DataConfig, DatasetConfig, RunConfig

ROWS = {
    "mae_clip_cc": {
        "table1": 4,
        "table2": 4,
        "table3": 4,
        "table4": 6,
        "table9": 6,
        "table11": 4,
        "table12": 6,
        "table13": 2,
        "readings": 9,
    },
    "mae_clip_web": {"table14": 6, "table15a": 6, "table15b": 6, "table10": 4, "table11": 4, "readings": 6},
}
"""Rows that the paper prints; Table 9's bracketed values are rows of their own, with MAE-CLIP and GAP besides, and 15a
and 15b have CLIP with MAP besides. Table 11's eight rows are four in each."""
MINI = {
    "table1": 4,
    "table2": 4,
    "table3": 4,
    "table4": 6,
    "table5": 6,
    "table6": 6,
    "table7": 6,
    "table9": 6,
    "table10": 4,
    "table11": 4,
    "table12": 6,
    "table13": 2,
    "readings": 9,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One for all tests: it caches composed configurations."""
    return Home(tmp_path_factory.mktemp("home"))


def absent(config: DataConfig | DatasetConfig, home: Home) -> str:
    raise AbsentDataError(f"no {config.name} here")


def plan_of(name: str, home: Home, *overrides: str) -> Plan:
    return make_plan(name, overrides, home=home, fingerprint=absent, without_data=True)


@pytest.mark.parametrize(("name", "cells"), [("mae_clip_cc", 19), ("mae_clip_web", 11), ("mae_clip_mini", 30)])
def test_every_row_is_a_cell(home: Home, name: str, cells: int) -> None:
    plan = plan_of(name, home)
    assert len(plan.cells) == cells
    for table, rows in (ROWS.get(name) or MINI).items():
        assert len(place(table, plan.study.tables[table], plan.study.factors, plan.cells)) == rows, table
    depths = {task.config.model.decoder_depth for task in plan.runs if isinstance(task.config, RunConfig)}
    assert depths == ({2, 3, 1} if name == "mae_clip_mini" else {8, 12})


def test_absent_data_are_planned_and_named(home: Home) -> None:
    plan = plan_of("mae_clip_cc", home)
    assert plan.absent["cc"] == "no cc here"
    assert {"imagenet", "svhn", "voc", "ade20k", "coco_panoptic", "clevr", "vqa_v2", "gqa"} < set(plan.absent)
    assert "coco_amodal" in plan_of("mae_clip_web", home).absent
    assert plan.to_json()["absent"] == dict(plan.absent)
    with pytest.raises(AbsentDataError, match="no cc here"):
        make_plan("mae_clip_cc", home=home, fingerprint=absent)
    assert not plan_of("mae_clip_mini", home).absent


def test_what_is_no_part_of_the_papers_data(home: Home) -> None:
    """Section 4.1: images whose text contains a [PERSON] tag are excluded; the vocabulary is to be full."""
    data = {name: plan_of(name, home).runs[0].config.data for name in ("mae_clip_cc", "mae_clip_web", "mae_clip_mini")}  # type: ignore[union-attr]
    assert [data[name].exclude for name in data] == [("[PERSON]", "<PERSON>"), (), ()]
    assert [data[name].tokenizer_captions for name in data] == [1_000_000, 1_000_000, 20_000]


def test_gpu_hours_from_flops(home: Home) -> None:
    plan = plan_of("mae_clip_cc", home)
    costs = estimate(plan)
    (clip,) = [task for task in plan.of_cell({"method": "clip", "pooling": "gap"}) if task.kind == "pretrain"]
    # 123 GFLOP a sample (the trainer's own count of a CLIP step), 22,070 steps of 16,384.
    a100 = find("A100")
    assert a100 is not None
    expected = 123e9 * 22070 * 16384 / (a100.bf16 * ASSUMED_UTILISATION) / 3600
    assert costs.gpu_hours[clip.task_id]["A100"] == pytest.approx(expected, rel=0.01)
    assert costs.gpu_hours[clip.task_id]["H100"] == pytest.approx(expected * 312 / 989, rel=0.01)
    assert not estimate(plan_of("mae_clip_mini", home)).gpu_hours


def test_ablate_plan_prints_gpu_hours(
    capsys: pytest.CaptureFixture[str], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLATE_DATA", str(home.root))
    monkeypatch.setenv("ABLATE_HOME", str(home.root))
    assert main(["plan", "mae_clip_web"], standalone=False) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "A100-hours or" in text and "exact FLOPs at 40% of the device's peak" in text
    assert "Not on this machine" in text
    assert main(["plan", "mae_clip_web", "--json"], standalone=False) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tasks"][0]["cost"]["gpu_hours"]["A100"] > 1000 and "web" in found["absent"]
    assert main(["status", "mae_clip_web"], standalone=False) == 1
    assert "data 'web'" in capsys.readouterr().err


def test_groups_of_evaluation_sets(home: Home) -> None:
    tables = plan_of("mae_clip_cc", home).study.tables
    averages = {column.label: column.metric for column in tables["table2"].columns}
    assert averages["specialized"] == tuple(f"linear_probe/{name}/top1" for name in ("eurosat", "camelyon", "resisc45"))
    assert [len(averages[name]) for name in ("natural", "specialized", "structured", "all 17")] == [6, 3, 8, 17]
    table = (
        "tables={t: {rows: [method], columns: [{metric: linear_probe/@%s/top1}], where: {method: mae, decoder: d8}}}"
    )
    assert plan_of("mae_clip_cc", home, table % "natural", "claims={}").study.tables["t"].columns
    with pytest.raises(ConfigError, match="unknown group of evaluation sets 'naturl'; did you mean 'natural'"):
        plan_of("mae_clip_cc", home, table % "naturl", "claims={}")
    with pytest.raises(ConfigError, match=r"suite\.groups\.natural: unknown evaluation set 'cifar'"):
        plan_of("mae_clip_cc", home, "suite.groups.natural=[cifar]")
