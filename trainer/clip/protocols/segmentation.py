"""Zero-shot segmentation: every pixel gets the class whose prompt is nearest to its patch embedding.

MAE-CLIP's supplement I and CLIPpy's evaluator: L2-normalised patch embeddings, bilinearly upsampled; the
highest of a class's prompts counts (ADE20K's synonyms); several names may mean the background (Pascal VOC's
40); mean IoU with the background as a class, label 255 ignored.

DenseCLIP (Zhou et al. 2022, "Extract free dense labels from CLIP"), which MaskCLIP's Table 2 follows: patches by the
value path of the last block, windows that slide over whole images, no background, masks as they are stored. Images are
resized by Pillow's bicubic filter; mmsegmentation's is bilinear.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ablative.study.core.errors import ConfigError
from ablative.trainer.clip.data.pairs.batch import to_pixels
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts import metrics
from ablative.trainer.clip.protocols.parts.masks import IGNORE, background_names, check_labels, segment
from ablative.trainer.clip.protocols.parts.prompts import class_embeddings
from ablative.trainer.clip.protocols.parts.similarity import distinct_rows
from ablative.trainer.clip.protocols.parts.windows import slide
from ablative.trainer.clip.spec.class_sets import split_synonyms
from ablative.trainer.clip.spec.config import DatasetConfig

BATCH = 32
MASKED = ("", "shape", "color")
"""Tasks of the procedural world whose classes its masks hold."""


def segmentation(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """miou in percent; masks are 0 for the background and i for the data set's i-th class, counted from 1."""
    protocol, dataset = evaluation.protocol, evaluation.dataset
    _check_classes(evaluation.config, dataset.classes)
    background = background_names(protocol, dataset.background)
    names, groups = prompt_groups(background, dataset.classes)
    prompts = (protocol.prompt,) if protocol.prompt else evaluation.prompts()
    embeddings = class_embeddings(evaluation.representation, names, prompts)
    ignore = (IGNORE,) if background else (0, IGNORE)
    classes = len(dataset.classes) + 1
    counts = np.zeros((classes, classes + 1), dtype=np.int64)
    for maps, mask in (_windows if protocol.stride else _squares)(evaluation, embeddings):
        check_labels(mask, classes, evaluation.config.name)
        predicted = segment(maps, groups, (mask.shape[0], mask.shape[1]))
        counts += metrics.confusion(mask, predicted, classes, ignore)
    yield "miou", metrics.mean_iou(counts)


def _squares(evaluation: Evaluation, prompts: np.ndarray) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """Score maps (P, √N, √N) and mask of the central square of each image."""
    split, image = evaluation.split("test"), 0
    for patches in evaluation.representation.patch_embeddings(split, BATCH, evaluation.protocol.patch_features):
        for maps in prompt_maps(patches, prompts):
            yield maps, evaluation.mask(image)
            image += 1


def _windows(evaluation: Evaluation, prompts: np.ndarray) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """Score maps (P, H, W) and mask of each whole image."""
    representation, protocol = evaluation.representation, evaluation.protocol
    window = representation.config.model.image_size
    stride = max(1, round(protocol.stride * window))

    def score(cut: torch.Tensor) -> torch.Tensor:
        return prompt_maps(representation.patches(cut, protocol.patch_features), prompts)

    for i in range(len(evaluation.split("test"))):
        image, mask = evaluation.whole(i, window)
        [pixels] = to_pixels(image[None], representation.device)
        yield slide(pixels, window, stride, score), mask


def prompt_groups(background: str, classes: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """Every name once, and for each mask label (0, the background, first) the indices of its names.

    Commas separate names of one class; a label without names (no background) is never predicted.
    """
    names: dict[str, int] = {}
    groups = []
    for listed in (background, *classes):
        groups.append([names.setdefault(name, len(names)) for name in split_synonyms(listed)])
    return list(names), groups


def prompt_maps(patches: torch.Tensor, prompts: np.ndarray) -> torch.Tensor:
    """Scores of each prompt on the patch grid: (B, N, E), float32 (P, E) -> (B, P, √N, √N).

    Upsampling and the inner product are both linear, so scoring first gives what CLIPpy's order gives, with
    P maps to upsample instead of E.
    """
    side = math.isqrt(patches.shape[1])
    assert side * side == patches.shape[1]
    # Prompts that tokenize alike are multiplied once: their scores must tie exactly.
    distinct, place = distinct_rows(prompts)
    scores = patches @ torch.from_numpy(distinct).to(patches).T
    return scores.transpose(1, 2)[:, torch.from_numpy(place).to(patches.device)].unflatten(2, (side, side))


def _check_classes(config: DatasetConfig, classes: Sequence[str]) -> None:
    if not classes:
        raise ConfigError(f"data set {config.name}: it has no class names, which prompts need")
    if config.kind == "shapes" and config.task not in MASKED:
        raise ConfigError(
            f"data set {config.name}: masks of shapes hold shapes or colours, and task '{config.task}' names other "
            "classes; leave `task` empty, or write `task: color`"
        )
