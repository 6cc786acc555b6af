"""What each kind of protocol needs and yields: studies are checked against this before anything runs."""

from __future__ import annotations

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

CONTRASTIVE = ("clip", "masked_clip", "mae_clip")
"""Objectives that train a joint embedding of images and texts."""

RUN_METRICS = (
    "train/loss",
    "train/contrastive",
    "train/image",
    "train/text",
    "train/logit_scale",
    "train/lr",
    "train/grad_norm",
    "cost/seconds",
    "cost/cpu_hours",
    "cost/gpu_hours",
    "cost/samples_per_second",
    "cost/peak_memory_gib",
    "cost/flops_utilisation",
)
"""Metrics of a pretraining."""


TRAINED = ("linear_probe", "vqa", "finetune")
"""Kinds of protocols that train something on the train split, for which a model needs no joint embedding."""


def applicable(kind: str, objective: str) -> bool:
    """Whether a model trained with `objective` can be evaluated so; of panels every model has some."""
    return kind in (*TRAINED, "panels") or objective in CONTRASTIVE


def metric_names(protocol: str, kind: str, datasets: tuple[str, ...]) -> list[str]:
    """Every metric that a protocol may yield on these data sets (top5 only where there are more than 5 classes)."""
    return [f"{protocol}/{dataset}/{metric}" for dataset in datasets for metric in METRICS[kind]]
