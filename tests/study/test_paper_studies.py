"""The paper's grids: every row of its tables is a cell, planned without data, with GPU-hours; groups of sets."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
import yaml

from ablative.study.cli import main
from ablative.study.core.errors import AbsentDataError, ConfigError
from ablative.study.costs.devices import find
from ablative.study.costs.estimate import ASSUMED_UTILISATION, estimate
from ablative.study.home.paths import Home
from ablative.study.installed_trainers import conf_folders
from ablative.study.plan.outputs.claim_cells import undecidable
from ablative.study.plan.outputs.layout import table_layout
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.spec.design import allows, cell_name
from ablative.trainer.clip.spec.config import EvaluationConfig, RunConfig

(CONF,) = conf_folders()

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
        "readings": 13,
    },
    "mae_clip_web": {"table14": 6, "table15a": 6, "table15b": 6, "table10": 4, "table11": 4, "readings": 8},
    "mae_clip": {"table1": 4, "table14": 6, "table11": 8, "scales": 8, "readings": 13, "settings": 15},
    # Both readings of SmoothL1 where the paper's systems are compared.
    "maskclip_mini": {
        "table1": 6,
        "differences": 8,
        "table3": 4,
        "table4": 8,
        "table4_trained": 9,
        "table5": 5,
        "table7": 4,
        "table8": 7,
        "losses": 7,
    },
    "maskclip": {
        "table1": 5,
        "table2": 4,
        "table3": 3,
        "table4": 8,
        "table5": 5,
        "table6": 5,
        "table7": 2,
        "table8": 3,
    },
    "maskclip_published": {"table4": 3},
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
    "readings": 13,
}


CELLS = {
    "mae_clip": 41,
    "mae_clip_cc": 19,
    "mae_clip_web": 11,
    "mae_clip_mini": 30,
    "maskclip": 20,
    "maskclip_mini": 22,
}

SENTENCES = {
    scale: yaml.safe_load((CONF / "claims" / f"mae_clip_{scale}.yaml").read_text()) for scale in ("small", "large")
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One for all tests: it caches composed configurations."""
    return Home(tmp_path_factory.mktemp("home"))


def plan_of(name: str, home: Home, *overrides: str) -> Plan:
    return make_plan(name, overrides, home=home, read_data=True, without_data=True)


@pytest.mark.parametrize(("name", "cells"), CELLS.items())
def test_every_row_is_a_cell(home: Home, name: str, cells: int) -> None:
    plan = plan_of(name, home)
    assert len(plan.cells) == cells
    for table, rows in (ROWS.get(name) or MINI).items():
        assert len(table_layout(table, plan.study.tables[table], plan.study.factors, plan.cells)) == rows, table
    depths = {task.config.model.decoder_depth for task in plan.runs if isinstance(task.config, RunConfig)}
    assert depths == {"mae_clip_mini": {2, 3, 1}, "maskclip": {1, 8}, "maskclip_mini": {1}}.get(name, {8, 12})


@pytest.mark.parametrize("name", ["mae_clip_cc", "mae_clip_web"])
def test_what_is_paid_for_is_printed(home: Home, name: str) -> None:
    plan = plan_of(name, home)
    printed = set()
    for table in plan.study.tables.values():
        named = {pattern.partition("/")[0] for column in table.columns for pattern in column.metric}
        for row in table_layout("t", table, plan.study.factors, plan.cells).values():
            printed |= {(cell_name(cell), protocol) for cell in row.values() for protocol in named}
    pictures = [figure.where for figure in plan.study.figures.values() if figure.kind == "panels"]
    for cell in plan.cells:
        assert cell_name(cell) in {own for own, _ in printed}
        if any(allows(cell, where) for where in pictures):
            printed.add((cell_name(cell), "panels"))
    paid = {(cell_name(task.cells[0]), task.protocol) for task in plan.tasks if task.kind == "evaluate"}
    # Zero-shot of a linear probe's model costs next to nothing.
    assert {each for each in paid - printed if each[1] not in ("zero_shot", "linear_probe")} == set()
    count = Counter(protocol for _, protocol in paid)
    assert count["finetune"] == 4 and count.get("retrieval", 4) == 4


def test_the_papers_pictures_have_their_cells(home: Home) -> None:
    cells = {}
    for name in ("mae_clip_cc", "mae_clip_web"):
        plan = plan_of(name, home)
        found = {k: v for k, v in plan.study.figures.items() if v.kind == "panels"}
        cells[name] = {k: sum(allows(cell, v.where) for cell in plan.cells) for k, v in found.items()}
        assert any(task.protocol == "panels" for task in plan.tasks)
    assert cells["mae_clip_cc"] == {"figure2_segments": 4, "figure2_evidence": 4, "figure3": 3}
    assert cells["mae_clip_web"] == {"figure2_segments_web": 3, "figure3": 2}


def test_absent_data_are_planned_and_named(home: Home) -> None:
    plan = plan_of("mae_clip_cc", home)
    assert plan.absent["cc"].startswith("data 'cc': no shards match")
    assert {"imagenet", "svhn", "voc", "ade20k", "coco_panoptic", "clevr", "vqa_v2", "gqa"} < set(plan.absent)
    assert "coco_amodal" in plan_of("mae_clip_web", home).absent
    assert plan.to_json()["absent"] == dict(plan.absent)
    with pytest.raises(AbsentDataError, match="data 'cc': no shards match"):
        make_plan("mae_clip_cc", home=home, read_data=True)
    assert not plan_of("mae_clip_mini", home).absent


@pytest.mark.parametrize("name", ["mae_clip_cc", "mae_clip_web"])
def test_pictures_have_masks_and_labels(home: Home, name: str) -> None:
    plan = plan_of(name, home)
    panels = [task.config for task in plan.tasks if task.protocol == "panels"]
    assert panels
    for config in panels:
        assert isinstance(config, EvaluationConfig) and [item.name for item in config.datasets] == ["voc", "imagenet"]
    assert plan.study.figures["figure3"].show == "tsne"


def test_papers_count_as_others_do(home: Home) -> None:
    configs = [task.config for task in plan_of("mae_clip_web", home).tasks if task.kind == "evaluate"]
    found = {config.protocol.name: config for config in configs if isinstance(config, EvaluationConfig)}
    assert found["retrieval"].protocol.repeated_captions == "own"
    bins = {item.name: item.bins for item in found["linear_probe"].datasets if item.bins}
    assert bins == {"dsprites_orientation": 16, "dsprites_location": 16}


def test_what_is_no_part_of_the_papers_data(home: Home) -> None:
    """Section 4.1: images whose text contains a [PERSON] tag are excluded; the vocabulary is to be full."""
    data = {name: plan_of(name, home).runs[0].config.data for name in ("mae_clip_cc", "mae_clip_web", "mae_clip_mini")}  # type: ignore[union-attr]
    assert [data[name].exclude for name in data] == [("[PERSON]", "<PERSON>"), (), ()]
    assert [data[name].tokenizer_captions for name in data] == [1_000_000, 1_000_000, 20_000]


def test_gpu_hours_from_flops(home: Home) -> None:
    plan = plan_of("mae_clip_cc", home)
    costs = estimate(plan)
    cell = {"scale": "cc", "method": "clip", "pooling": "gap"}
    (clip,) = [task for task in plan.of_cell(cell) if task.kind == "pretrain"]
    # 123 GFLOP a sample (the trainer's own count of a CLIP step), 22,070 steps of 16,384.
    a100 = find("A100")
    assert a100 is not None
    expected = 123e9 * 22070 * 16384 / (a100.bf16 * ASSUMED_UTILISATION) / 3600
    assert costs.gpu_hours[clip.task_id]["A100"] == pytest.approx(expected, rel=0.01)
    assert costs.gpu_hours[clip.task_id]["H100"] == pytest.approx(expected * 312 / 989, rel=0.01)
    assert not estimate(plan_of("mae_clip_mini", home)).gpu_hours


def test_gpu_hours_of_maskclip(home: Home) -> None:
    """By FLOPs of ViT-B/16 (CLIP 122.7 GF a sample, +SimCLR 2.71 times, MaskCLIP 1.57 times), 25 epochs of 20 M.

    CLIP+BEiT: 1.88 times without its tokenizer, whose encoder takes 46 GF a sample.
    """
    plan = plan_of("maskclip", home)
    hours = estimate(plan).gpu_hours
    clip = 122.7e9 * 20e6 * 25 / (0.4 * 989e12) / 3600
    ratios = {
        "clip": 1,
        "clip_simclr": 2.71,
        "clip_mae": 1.28,
        "clip_beit": 1.88 + 45.5 / 122.7,
        "maskclip": 1.57,
        "maskclip_no_ema": 1.28,
    }
    for method, ratio in ratios.items():
        for data, epochs, times in (("laion_20m", "25", 1), ("laion_20m", "100", 4), ("laion_50m", "", 2.5)):
            cell = {"method": method, "data": data, **({"epochs": epochs} if epochs else {})}
            for task in plan.of_cell(cell)[:1]:
                assert hours[task.task_id]["H100"] == pytest.approx(clip * ratio * times, rel=0.02), cell
    assert sum(hours[run.task_id]["H100"] for run in plan.runs) == pytest.approx(1985, rel=0.01)


def test_gpu_hours_of_what_maskclip_fine_tunes(home: Home) -> None:
    """By passes of ViT-B/16: 160,000 steps of 16 crops on ADE20K, 12 epochs of COCO, 100 of ImageNet."""
    plan = make_plan("maskclip", ("cluster=h100",), home=home, without_data=True)
    hours = estimate(plan).gpu_hours
    cell = {"method": "maskclip", "data": "laion_20m", "epochs": "25"}
    found = {task.protocol: hours[task.task_id]["H100"] for task in plan.of_cell(cell) if task.protocol}
    assert found["finetune_maskclip"] == pytest.approx(9.4, rel=0.05)
    assert found["upernet"] == pytest.approx(6.6, rel=0.05) and 3 < found["detection"] < 5.5
    count = Counter(task.protocol for task in plan.tasks)
    assert (count["finetune_maskclip"], count["detection"]) == (19, 8)


def test_each_system_of_maskclip_tries_its_own_usual_weight_first(home: Home) -> None:
    plan = plan_of("maskclip_weights", home)
    assert plan.study.search is not None
    found = {arm.cell["method"]: arm.first(plan.study.search) for arm in plan.arms}
    assert found == {
        "clip_simclr": [{"objective.simclr.weight": 1.0}],
        "clip_mae": [{"objective.w_image": 1.0}],
        "maskclip": [{"objective.distill.weight": 0.5}, {"objective.distill.weight": 32.0}],
        "maskclip_no_ema": [{"objective.distill.weight": 0.5}, {"objective.distill.weight": 32.0}],
    }
    keys = ("objective.w_image", "objective.w_text", "objective.simclr.weight", "objective.distill.weight")
    ranges = ", ".join(f"{key}: {{low: 0.01, high: 1.0}}" for key in keys)
    own = "search.enqueue=[{objective.w_image: 0.2, objective.w_text: 0.3}]"
    plan = plan_of("maskclip_weights", home, f"search.parameters={{{ranges}}}", own)
    assert plan.study.search is not None
    tried = {arm.cell["method"]: arm.first(plan.study.search) for arm in plan.arms}
    # MAE-CLIP's weights and its supplement's come before the study's own.
    assert tried["clip_mae"] == [{"objective.w_image": value} for value in (0.1, 0.05, 0.2)] and not tried["maskclip"]


def test_a_gpu_is_kept_busy(home: Home) -> None:
    """Loader processes on all cores of the job, compiled, in pieces that memory allows; ids are those of any other way
    to run."""
    for cluster, cores in (("h100", 14), ("a100", 8)):
        config = plan_of("mae_clip_cc", home, f"cluster={cluster}").runs[0].config
        assert isinstance(config, RunConfig)
        runtime = config.runtime
        assert (runtime.workers, runtime.compile, runtime.micro_batch) == (cores, True, 0)
    usual, busy = plan_of("demo", home), plan_of("demo", home, "runtime=gpu")
    assert [task.task_id for task in usual.tasks] == [task.task_id for task in busy.tasks]


def test_gpu_hours_of_evaluations(home: Home) -> None:
    """17 sets' training images in 100 epochs of three forward passes of 35 GFLOP, at 40 % of an H100's 989 TFLOP/s."""
    plan = make_plan("mae_clip_cc", ("cluster=h100",), home=home, without_data=True)
    costs = estimate(plan)
    task = next(task for task in plan.tasks if task.protocol == "finetune")
    assert isinstance(task.config, EvaluationConfig)
    images = sum(dataset.train_size for dataset in task.config.datasets)
    expected = 100 * images * 3 * 34.9e9 / (0.4 * 989e12) / 3600
    assert costs.source[task.task_id] == "passes" and expected > 10
    assert costs.gpu_hours[task.task_id]["H100"] == pytest.approx(expected, rel=0.02)
    sources = {name: costs.source[task.task_id] for task in plan.tasks if (name := task.protocol)}
    assert sources["vqa"] == "passes" and sources["segmentation"] == "assumed", (
        "passes of less than the assumed seconds"
    )


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


@pytest.mark.parametrize("name", ["mae_clip_cc", "mae_clip_web", "mae_clip_mini"])
def test_claims_are_the_papers_sentences(home: Home, name: str) -> None:
    study = plan_of(name, home).study
    assert all(claim.text and claim.source for claim in study.claims.values())
    scales = {"mae_clip_cc": ["small"], "mae_clip_web": ["large"], "mae_clip_mini": ["small", "large"]}[name]
    shared = {claim for scale in scales for claim in SENTENCES[scale]}
    if name == "mae_clip_mini":
        shared -= {"small_gain_imagenet_6", "small_gain_vtab_4", "pooled_gain_1_imagenet", "pooled_gain_1_vtab"}
        shared |= {"scale_shrinks_gain", "vqa_gap_over_max_shrinks"}
    assert set(study.claims) == shared


def test_one_seed_decides_claims_on_several_tasks_only(
    capsys: pytest.CaptureFixture[str], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of("mae_clip_web", home)
    claims = plan.study.claims
    assert set(undecidable(plan.study)) == {name for name in claims if claims[name].estimand == "these tasks"}
    assert "large_same_imagenet" in undecidable(plan.study) and "large_same_vtab" not in undecidable(plan.study)
    assert not undecidable(plan_of("mae_clip_web", home, "seeds=[0,1]").study)
    monkeypatch.setenv("ABLATE_DATA", str(home.root))
    monkeypatch.setenv("ABLATE_HOME", str(home.root))
    assert main(["plan", "mae_clip_web"], standalone=False) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "With one seed, 7 of 17 claims will stay undecided: large_same_imagenet, " in text


def test_of_a_hundred_metrics_the_nearest_are_named(home: Home) -> None:
    with pytest.raises(ConfigError) as error:
        plan_of("mae_clip_cc", home, "claims.small_imagenet.metric=zero_shot/imagnet/top1")
    text = str(error.value)
    assert "did you mean 'zero_shot/imagenet/top1'" in text and len(text) < 500
    assert re.search(r"\d{2} names, among them", text) and "zero_shot/imagenet/top5" in text


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
    mixed = plan_of("mae_clip_cc", home, table % "natural", "claims={}", "suite.groups.natural=[pets/per_class,dtd]")
    assert mixed.study.tables["t"].columns[0].metric == ("linear_probe/pets/per_class", "linear_probe/dtd/top1")
    with pytest.raises(ConfigError, match=r"suite\.groups\.natural: unknown evaluation set 'cifar'"):
        plan_of("mae_clip_cc", home, "suite.groups.natural=[cifar]")
