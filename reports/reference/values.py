"""Every value that the papers' tables print, typed, from `paper_results.csv` in this folder.

MAE-CLIP: Weers et al., "Masked Autoencoding Does Not Help Natural Language Supervision at Scale", Tables 1 to 7 and
9 to 15 (8 lists hyperparameters). MaskCLIP: Dong et al., "MaskCLIP: Masked Self-Distillation Advances Contrastive
Language-Image Pretraining", Tables 1 to 8.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

from ablative.study.core.errors import ConfigError, unknown

PAPERS = {"mae_clip": "MAE-CLIP", "maskclip": "MaskCLIP"}
"""Name of a paper on the command line -> as it is printed."""

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class PrintedValue:
    """One number of a paper's table, or one of its dashes."""

    paper: str
    """A key of `PAPERS`."""
    table: str
    """`4`, `15a`."""
    method: str
    """`CLIP`, `MAE-CLIP`, `two-stage, stage 1`."""
    pooling: str
    """`MAP`, `GAP`, `MAX`; empty where the method pools nothing."""
    pretrain_data: str
    """`CC` (11.3M pairs), `web-crawled` (1.4B), `LAION-20M`, `LAION-50M`, `LAION-100M`, `IN1K-1.3M`."""
    epochs: int
    """Epochs of pretraining."""
    protocol: str
    """`zero-shot`, `linear-probe`, `full-finetune`, `vqa-finetune`, `zero-shot segmentation`, …"""
    task: str
    """A data set, or an average: `Average`, `VTAB-17 average`; `-` for a training cost."""
    metric: str
    """`top-1 accuracy`, `mIoU`, `image-to-text R@1`, …: percent, except for training costs (GiB and a ratio)."""
    value: float | None
    """The printed value, None for a dash; a misprint is read as it must have been meant (see `note`)."""
    note: str
    """What the paper says of this value alone: `M3AE 50% trained`, `masking=random`, `printed as 956`."""


def printed_values(paper: str) -> tuple[PrintedValue, ...]:
    """All values of a paper (`mae_clip`, `maskclip`), in the order of its tables; raises ConfigError for another."""
    if paper not in PAPERS:
        raise ConfigError(unknown("paper", paper, PAPERS))
    return tuple(value for value in _all_values() if value.paper == paper)


@functools.cache
def _all_values() -> tuple[PrintedValue, ...]:
    with open(FOLDER / "paper_results.csv", encoding="utf-8", newline="") as file:
        return tuple(_typed(row) for row in csv.DictReader(file))


def _typed(row: dict[str, str]) -> PrintedValue:
    words = {name: row[name] for name in ("table", "method", "pooling", "pretrain_data", "protocol", "task", "metric")}
    number = float(row["value"]) if row["value"] else None
    paper = row["paper"].replace("-", "_")
    return PrintedValue(paper=paper, epochs=int(row["epochs"]), value=number, note=row["note"], **words)
