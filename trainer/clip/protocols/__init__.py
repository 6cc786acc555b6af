"""Protocols: how a representation is evaluated. Each is a module with a function of its name, and yields percentages.

It may import `study` and every room and module of `trainer.clip`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from ablative.study.core.errors import ConfigError
from ablative.study.core.identity import canonical, digest, identity
from ablative.study.core.registry import load
from ablative.study.home.paths import Home, RunPaths
from ablative.trainer.clip.checkpoint import load_system
from ablative.trainer.clip.data.sources import fingerprint_dataset, open_dataset
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts.features import Representation
from ablative.trainer.clip.protocols.resumption import Resumption
from ablative.trainer.clip.spec.config import DatasetConfig, EvaluationConfig, ModelConfig, ProtocolConfig
from ablative.trainer.clip.spec.metrics import PROTOCOL_KINDS, applicable

__all__ = ["represent", "score", "score_set"]


PROTOCOLS: dict[str, Callable[[Evaluation], Iterator[tuple[str, float]]]] = {
    kind: load(f"{__name__}.{kind}:{kind}") for kind in PROTOCOL_KINDS
}
"""`protocol.kind` → (evaluation) → (metric, percent) of one data set, as each becomes known."""


def represent(run: RunPaths, config: EvaluationConfig, device: torch.device) -> Representation:
    """A run's final model as the evaluation's protocol sees it.

    Image features are cached under the run, so its other evaluations and repetitions read them back.

    Raises:
        ConfigError: the protocol needs a joint embedding that the model has not.
        DataError: there is no such model, or it is damaged.
    """
    system, tokenizer, run_config = load_system(run)
    protocol = config.protocol
    if not applicable(protocol.kind, system.recipe):
        free = [name for name, kind in PROTOCOL_KINDS.items() if not kind.compares]
        raise ConfigError(
            f"protocol {protocol.name}: {protocol.kind} compares images with texts, and objective "
            f"'{run_config.objective.name}' trains no joint embedding; {', '.join(free)} need none"
        )
    return Representation(system.to(device).eval(), tokenizer, run_config, run, device)


def score(representation: Representation, config: EvaluationConfig, home: Home) -> Iterator[tuple[str, float]]:
    """Evaluate on every data set: yields ("<protocol>/<dataset>/<metric>", percent) as each becomes known.

    Raises as `score_set` does.
    """
    for dataset in config.datasets:
        yield from score_set(representation, config, dataset, fingerprint_dataset(dataset, home), home)


def image_size(model: ModelConfig, protocol: ProtocolConfig, dataset: DatasetConfig) -> int:
    """Side at which the images of a set are wanted: the model's, or that of the whole images that windows slide over.

    A protocol with a trained head on maps has its own.

    Images in files are whole at any size.
    """
    if protocol.kind == "upernet":
        return dataset.short_side or protocol.upernet.side
    if protocol.kind == "detection":
        return protocol.detection.short_side
    return dataset.short_side if protocol.stride and dataset.short_side else model.image_size


def score_set(
    representation: Representation,
    config: EvaluationConfig,
    dataset: DatasetConfig,
    content: str,
    home: Home,
    resumption: Resumption | None = None,
) -> Iterator[tuple[str, float]]:
    """The same on one data set of the evaluation; the outcome does not depend on the others.

    Args:
        content: the data set's fingerprint.
        resumption: where a protocol that trains for long keeps its state.

    Raises:
        Interrupted: as `resumption` does.
        ConfigError: the protocol needs captions or masks that are not there, or the data set is too small for its
            classes.
        DataError: broken samples or labels.
    """
    protocol = config.protocol
    evaluation = Evaluation(
        protocol,
        dataset,
        open_dataset(dataset, image_size(representation.config.model, protocol, dataset), home),
        representation,
        content,
        representation.paths.evaluation(digest(canonical(identity(config)))),
        resumption or Resumption(),
    )
    for metric, value in PROTOCOLS[protocol.kind](evaluation):
        yield f"{protocol.name}/{dataset.name}/{metric}", value
