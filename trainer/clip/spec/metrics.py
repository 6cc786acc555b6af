"""What each kind of protocol needs and yields: studies are checked against this before anything runs."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ablative.study.trainers import Metric, cost_metrics
from ablative.trainer.clip.spec.recipes import TERMS, Recipe


@dataclass(frozen=True)
class ProtocolKind:
    """One kind of protocol; `trainer.clip.protocols.<name>:<name>` evaluates with it."""

    metrics: tuple[str, ...]
    """What it yields for each data set, in percent, by the names `<protocol>/<dataset>/<metric>`."""
    trains: bool = False
    """It trains something on the train split."""
    compares: bool = True
    """It compares images with texts, for which a model needs a joint embedding."""


PROTOCOL_KINDS = {
    "zero_shot": ProtocolKind(("top1", "top5", "top1_top5", "per_class", "majority", "chance")),
    "linear_probe": ProtocolKind(("top1", "per_class"), trains=True, compares=False),
    "retrieval": ProtocolKind(("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10")),
    "segmentation": ProtocolKind(("miou",)),
    "vqa": ProtocolKind(("accuracy", "majority"), trains=True, compares=False),
    "finetune": ProtocolKind(("top1", "per_class"), trains=True, compares=False),
    "upernet": ProtocolKind(("miou",), trains=True, compares=False),
    "detection": ProtocolKind(
        ("box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75"), trains=True, compares=False
    ),
    "panels": ProtocolKind((), compares=False),
}
"""`protocol.kind` → what the manager knows of it."""

METRIC_LABELS = {
    "top1": "top-1",
    "top5": "top-5",
    "top1_top5": "mean of top-1 and top-5",
    "per_class": "mean per class",
    "majority": "largest class",
    "miou": "mIoU",
    **{f"{thing}_ap{at}": f"{thing} AP{' at ' if at else ''}{at}" for thing in ("box", "mask") for at in ("", 50, 75)},
    **{
        f"{way}_r{k}": f"{sign} R@{k}"
        for way, sign in (("i2t", "image→text"), ("t2i", "text→image"))
        for k in (1, 5, 10)
    },
}
"""How reports print what a protocol yields; the others are printed by their names."""
PROTOCOL_LABELS = {
    "zero_shot": "zero-shot",
    "linear_probe": "linear probe",
    "linear_probe_bn": "linear probe (BN)",
    "vqa": "VQA",
    "finetune": "fine-tuning",
    "upernet": "UPerNet",
    "detection": "Mask R-CNN",
}
"""How reports print protocols; the others by their names, without what they have behind their kinds (`vqa_paper`)."""

UNRANKED = ("majority", "chance")
"""Metrics of an evaluation set, not of a model: no table marks the best of them."""

TRAIN = "train"
"""Name of the stage that trains; the others are called as their protocols are."""

WEIGHTS = ("objective.name", *(term.weight for term in TERMS.values() if term.weight))
"""Keys that say which losses add up to the whole, with which weights."""

RUN_METRICS = (
    Metric("train/loss", TRAIN, better="lower", ranked=False, depends=WEIGHTS, label="training loss"),
    *(
        Metric(f"train/{name}", TRAIN, better="lower", ranked=False, depends=term.depends, label=term.label)
        for name, term in TERMS.items()
    ),
    *(
        Metric(f"train/share/{name}", TRAIN, "%", low=0.0, high=100.0, label=f"{term.label}, share of the gradient")
        for name, term in TERMS.items()
    ),
    Metric("train/logit_scale", TRAIN, label="logit scale"),
    Metric("train/code_perplexity", TRAIN, label="perplexity of the codes"),
    Metric("train/lr", TRAIN, label="learning rate"),
    Metric("train/grad_norm", TRAIN, better="lower", ranked=False, label="gradient norm"),
    *cost_metrics(TRAIN),
    Metric("cost/samples_per_second", TRAIN, "1/s", better="higher", ranked=False, label="throughput"),
    Metric("cost/peak_memory_gib", TRAIN, "GiB", better="lower", ranked=False, label="peak memory"),
    Metric("cost/flops_utilisation", TRAIN, better="higher", ranked=False, label="FLOPs utilisation"),
)
"""Metrics of a pretraining. Losses of different objectives are not compared, so tables mark none of them."""


def applicable(kind: str, recipe: Recipe) -> bool:
    """Whether a model trained by a recipe can be evaluated so."""
    return recipe.contrastive or (recipe.trains_tower and not PROTOCOL_KINDS[kind].compares)


@functools.lru_cache(maxsize=4096)
def protocol_metrics(protocol: str, kind: str, datasets: tuple[str, ...]) -> tuple[Metric, ...]:
    """Every metric that a protocol may yield on these data sets: top5, top1_top5 of more than 5 classes alone."""
    label = PROTOCOL_LABELS.get(protocol) or PROTOCOL_LABELS.get(kind, kind.replace("_", " "))
    return tuple(
        Metric(
            f"{protocol}/{dataset}/{name}",
            protocol,
            "%",
            "" if name in UNRANKED else "higher",
            0.0,
            100.0,
            label=f"{label} {METRIC_LABELS.get(name, name)}",
            data_set=dataset.replace("shapes_", "shapes: ").replace("_", " "),
        )
        for dataset in datasets
        for name in PROTOCOL_KINDS[kind].metrics
    )
