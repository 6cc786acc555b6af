"""The papers' claims, held against the numbers that they print.

A printed number has one seed, so that nothing is known of the spread over seeds: a claim on one number, or on the mean
of these tasks, stays undecided, and what can be said is whether the printed numbers agree. Over several tasks, the
claim that it holds on tasks like these can be tested from the differences of the tasks alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ablative.reports.reference.values import FOLDER, PAPERS, PrintedValue, printed_values
from ablative.reports.store.warehouse import cell_key
from ablative.reports.verdicts.claim_runs import Judged, Remedy
from ablative.reports.verdicts.claims import CellValues, evaluate
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import build
from ablative.study.installed_trainers import conf_folders
from ablative.study.spec.design import Cell
from ablative.study.spec.outputs import ClaimConfig
from ablative.study.syntax.metric_patterns import expand

PROTOCOLS = {
    "zero-shot": "zero_shot",
    "linear-probe": "linear_probe",
    "full-finetune": "finetune",
    "vqa-finetune": "vqa",
    "zero-shot retrieval": "retrieval",
    "zero-shot segmentation": "segmentation",
    "finetune detection": "detection",
    "training cost": "cost",
}
METRICS = {
    "top-1 accuracy": "top1",
    "top-5 accuracy": "top5",
    "mIoU": "miou",
    "GPU memory (GiB)": "memory_gib",
    "time relative to CLIP": "relative_time",
    **{f"image-to-text R@{k}": f"i2t_r{k}" for k in (1, 5, 10)},
    **{f"text-to-image R@{k}": f"t2i_r{k}" for k in (1, 5, 10)},
}
"""Printed metric -> its part of a study's metric names; what is not listed is written in small letters."""


def evaluate_reference_claims(paper: str) -> tuple[Judged, ...]:
    """Every claim of a paper (`mae_clip`, `maskclip`) with its verdict from the printed numbers.

    Raises ConfigError for an unknown paper, and for claims that its tables cannot answer.
    """
    return tuple(_judge(paper, name, dict(entry)) for name, entry in _entries(paper).items())


def metric_name(value: PrintedValue) -> str:
    """`zero_shot/imagenet/top1`; an average over tasks is `average/…`, which no pattern over tasks takes for one."""
    protocol = PROTOCOLS.get(value.protocol, slug(value.protocol))
    name = f"{protocol}/{slug(value.task) or 'pretraining'}/{METRICS.get(value.metric, slug(value.metric))}"
    return f"average/{name}" if "average" in value.task.lower() else name


def cell_of(value: PrintedValue) -> Cell:
    """Factor -> level; a paper's dash, and a masking that its table does not name, is no level.

    MAE-CLIP's epochs follow from its data (32 on CC, 6 on the web's) and are no factor of their own.
    """
    named = {
        "method": slug(value.method),
        "pooling": slug(value.pooling),
        "data": slug(value.pretrain_data),
        "epochs": str(value.epochs) if value.paper == "maskclip" else "",
        "masking": value.note.removeprefix("masking=") if value.note.startswith("masking=") else "",
    }
    return {factor: level for factor, level in named.items() if level}


def slug(text: str) -> str:
    """A printed name as a level's.

    >>> slug("MaskCLIP w/o EMA"), slug("two-stage, stage 1")
    ('maskclip_w_o_ema', 'two_stage_stage_1')
    """
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


@functools.cache
def _entries(paper: str) -> Mapping[str, Mapping[str, Any]]:
    """The claims of a paper; one whose sentence the studies share says here only what it is held against."""
    if paper not in PAPERS:
        raise ConfigError(unknown("paper", paper, PAPERS))
    found = _read(FOLDER / f"claims_{paper}.yaml")
    shared: dict[str, Any] = {}
    for name in found.get("sentences", ()):
        shared |= _read(_shared_claims(name))
    return {name: {**shared.get(name, {}), **own} for name, own in found["claims"].items()}


def _shared_claims(name: str) -> Path:
    """File of sentences that the shipped studies take their claims from."""
    paths = [folder / "claims" / f"{name}.yaml" for folder in conf_folders()]
    return next(path for path in paths if path.exists())


def _read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _judge(paper: str, name: str, entry: dict[str, Any]) -> Judged:
    where = f"claims_{paper}.yaml: {name}"
    tables = [str(table) for table in entry.pop("tables", ())]
    config = build(ClaimConfig, entry, where)
    values = [value for value in printed_values(paper) if value.table in tables and value.value is not None]
    for table in tables:
        if all(value.table != table for value in values):
            raise ConfigError(unknown("table", table, {value.table for value in printed_values(paper)}, where))
    cells = {cell_key(cell_of(value)): cell_of(value) for value in values}
    factors = _factors(list(cells.values()))
    results = _results(where, values)
    names = sorted({metric for arm in results.values() for metric in arm})
    metrics = tuple(sorted({metric for pattern in config.metric for metric in _expand(pattern, names, where)}))
    return Judged(evaluate(name, config, factors, list(cells.values()), metrics, results), Remedy(""))


def _expand(pattern: str, names: list[str], where: str) -> list[str]:
    found = expand(pattern, names)
    if not found:
        raise ConfigError(unknown("metric", pattern, names, where))
    return found


def _factors(cells: Sequence[Cell]) -> dict[str, tuple[str, ...]]:
    pairs = dict.fromkeys(pair for cell in cells for pair in cell.items())
    return {factor: tuple(level for own, level in pairs if own == factor) for factor, _ in pairs}


def _results(where: str, values: Sequence[PrintedValue]) -> CellValues:
    """Printed values as results of one seed; raises ConfigError where two tables print different ones."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for value in values:
        assert value.value is not None
        arm = found.setdefault(cell_key(cell_of(value)), {}).setdefault(metric_name(value), {})
        if arm.setdefault(0, value.value) != value.value:
            raise ConfigError(
                f"{where}: {metric_name(value)} of {cell_of(value)} is printed as {arm[0]} and {value.value}"
            )
    return found
