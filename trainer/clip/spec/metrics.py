"""What each kind of protocol needs and yields: studies are checked against this before anything runs."""

from __future__ import annotations

import functools

from ablative.study.trainers import Metric, cost_metrics
from ablative.trainer.clip.spec.recipes import RECIPES

METRICS: dict[str, tuple[str, ...]] = {
    "zero_shot": ("top1", "top5", "per_class", "majority", "chance"),
    "linear_probe": ("top1", "per_class"),
    "retrieval": ("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10"),
    "segmentation": ("miou",),
    "vqa": ("accuracy", "majority"),
    "finetune": ("top1", "per_class"),
    "panels": (),
}
"""Metrics that a protocol of each kind yields, all in percent; metric names are `<protocol>/<dataset>/<metric>`."""

UNRANKED = ("majority", "chance")
"""Metrics of an evaluation set, not of a model: no table marks the best of them."""

TRAIN = "train"
"""Name of the stage that trains; the others are called as their protocols are."""

RUN_METRICS = (
    Metric("train/loss", TRAIN, better="lower", ranked=False),
    Metric("train/contrastive", TRAIN, better="lower", ranked=False),
    Metric("train/image", TRAIN, better="lower", ranked=False),
    Metric("train/text", TRAIN, better="lower", ranked=False),
    Metric("train/logit_scale", TRAIN),
    Metric("train/lr", TRAIN),
    Metric("train/grad_norm", TRAIN, better="lower", ranked=False),
    *cost_metrics(TRAIN),
    Metric("cost/samples_per_second", TRAIN, "1/s", better="higher", ranked=False),
    Metric("cost/peak_memory_gib", TRAIN, "GiB", better="lower", ranked=False),
    Metric("cost/flops_utilisation", TRAIN, better="higher", ranked=False),
)
"""Metrics of a pretraining. Losses of different objectives are not compared, so tables mark none of them."""

TRAINED = ("linear_probe", "vqa", "finetune")
"""Kinds of protocols that train something on the train split, for which a model needs no joint embedding."""


def applicable(kind: str, objective: str) -> bool:
    """Whether a model trained with `objective` can be evaluated so; of panels every model has some."""
    return kind in (*TRAINED, "panels") or RECIPES[objective].contrastive


@functools.lru_cache(maxsize=4096)
def protocol_metrics(protocol: str, kind: str, datasets: tuple[str, ...]) -> tuple[Metric, ...]:
    """Every metric that a protocol may yield on these data sets (top5 only where there are more than 5 classes)."""
    return tuple(
        Metric(f"{protocol}/{dataset}/{name}", protocol, "%", "" if name in UNRANKED else "higher", 0.0, 100.0)
        for dataset in datasets
        for name in METRICS[kind]
    )
