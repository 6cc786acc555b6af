"""Panels: nothing is scored; arrays are kept from which a report draws what a model sees (`study.pictures`).

A model without a joint embedding has no Grad-CAM, segmentation and retrieval, one without a decoder no restored images,
and a data set without masks or captions lacks theirs.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from study.files import write_atomic
from study.paths import TaskPaths
from study.pictures import pictures_path
from study.prompts import fill
from trainer.data.batch import to_pixels
from trainer.protocols.evaluation import Evaluation
from trainer.protocols.insight import grad_cam, restore_images
from trainer.protocols.prompts import class_embeddings
from trainer.protocols.segmentation import IGNORE, background_names, prompt_groups, prompt_maps, segment
from trainer.protocols.similarity import score_chunks

EXAMPLES = 6
QUERIES = 3
NEAREST = 5
POINTS = 250
"""Images of the t-SNE: it grows with n log n, and more would hide one another."""
PERPLEXITY = 30.0
"""scikit-learn's default; less for fewer images."""


def panels(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """Write the archive of this data set; yields no metric."""
    assert evaluation.task is not None
    keep(evaluation, evaluation.task)
    yield from ()


def keep(evaluation: Evaluation, task: TaskPaths) -> None:
    """Compute all pictures that model and data set allow, and write them in one step."""
    system = evaluation.representation.system
    images = np.stack([evaluation.split("test").images(i) for i in examples(len(evaluation.split("test")))])
    arrays: dict[str, Any] = {"images": images, **_points(evaluation)}
    if system.contrastive:
        arrays |= _evidence(evaluation, images) | _segments(evaluation) | _nearest(evaluation)
    if system.generative:
        arrays |= _restored(evaluation, images)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(pictures_path(task, evaluation.config.name), buffer.getvalue())


def examples(size: int) -> list[int]:
    """The same samples for every model, spread over the split.

    >>> examples(12), examples(4)
    ([0, 2, 4, 6, 8, 10], [0, 1, 2, 3])
    """
    count = min(EXAMPLES, size)
    return [i * size // count for i in range(count)]


def _prompt(evaluation: Evaluation, i: int) -> str:
    """What is to be found in a sample: a class of its mask, else its label's, else its caption."""
    split, classes = evaluation.split("test"), evaluation.dataset.classes
    template = evaluation.protocol.prompt or "a photo of {a} {}"
    mask = split.masks(i)
    if mask is not None and classes:
        labels, counts = np.unique(mask[(mask > 0) & (mask <= len(classes))], return_counts=True)
        if len(labels):
            return fill(template, classes[labels[counts.argmax()] - 1].split(",")[0])
    if len(split.labels) and classes:
        return fill(template, classes[split.labels[i]])
    captions = split.captions
    return captions[i][0] if captions is not None and captions[i] else ""


def _evidence(evaluation: Evaluation, images: np.ndarray) -> dict[str, Any]:
    representation = evaluation.representation
    prompts = [_prompt(evaluation, i) for i in examples(len(evaluation.split("test")))]
    texts = torch.from_numpy(representation.text_embeddings(prompts)).to(representation.device)
    maps = grad_cam(representation.system, to_pixels(images, representation.device), texts)
    return {"prompts": np.array(prompts), "grad_cam": (255 * maps).round().to(torch.uint8).cpu().numpy()}


def _segments(evaluation: Evaluation) -> dict[str, Any]:
    """Labels of the examples' pixels, given and as zero-shot segmentation has them."""
    split, dataset = evaluation.split("test"), evaluation.dataset
    chosen = examples(len(split))
    truth = [split.masks(i) for i in chosen]
    if not dataset.classes or any(mask is None for mask in truth):
        return {}
    background = background_names(evaluation.protocol, dataset.background)
    names, groups = prompt_groups(background, dataset.classes)
    prompts = (evaluation.protocol.prompt,) if evaluation.protocol.prompt else evaluation.prompts()
    embeddings = class_embeddings(evaluation.representation, names, prompts)
    images = to_pixels(np.stack([split.images(i) for i in chosen]), evaluation.representation.device)
    with torch.inference_mode():
        maps = prompt_maps(evaluation.representation.system.patch_embeddings(images).float(), embeddings)
    found = [segment(own, groups, mask.shape) for own, mask in zip(maps, truth, strict=True)]  # type: ignore[union-attr]
    labels = np.stack(found)
    return {
        "truth": np.stack([mask for mask in truth if mask is not None]).astype(np.uint8),
        "segments": np.where(labels < 0, IGNORE, labels).astype(np.uint8),
        "names": np.array(["background", *(name.split(",")[0] for name in dataset.classes)]),
    }


def _nearest(evaluation: Evaluation) -> dict[str, Any]:
    """The images of the split that some captions find."""
    split = evaluation.split("test")
    captions = split.captions
    if captions is None or len(split) < NEAREST:
        return {}
    asked = [i for i in examples(len(split)) if captions[i]][:QUERIES]
    queries = [captions[i][0] for i in asked]
    texts = evaluation.representation.text_embeddings(queries)
    scores = np.concatenate([block for _, block in score_chunks(texts, evaluation.embeddings("test"))])
    best = np.argsort(-scores, axis=1, kind="stable")[:, :NEAREST]
    # Another image may carry the very same caption.
    hits = [[query in captions[int(i)] for i in row] for query, row in zip(queries, best, strict=True)]
    found = np.stack([np.stack([split.images(int(i)) for i in row]) for row in best])
    return {"queries": np.array(queries), "found": found, "hits": np.array(hits)}


def _restored(evaluation: Evaluation, images: np.ndarray) -> dict[str, Any]:
    """Images with what the decoder puts into the hidden patches; captions stand beside them where there are some."""
    representation, split = evaluation.representation, evaluation.split("test")
    captions = split.captions
    texts = [captions[i][0] if captions and captions[i] else "" for i in examples(len(split))]
    tokens = torch.from_numpy(np.asarray(representation.tokenizer(texts))).to(representation.device)
    generator = torch.Generator().manual_seed(evaluation.protocol.seed)
    pixels = to_pixels(images, representation.device)
    hidden, restored = restore_images(representation.system, pixels, tokens, generator)
    colors = ((restored.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    return {"visible": (~hidden).to(torch.uint8).cpu().numpy(), "restored": colors.cpu().numpy()}


def _points(evaluation: Evaluation) -> dict[str, Any]:
    """t-SNE of pooled features of labelled images, the first `POINTS` of the split."""
    from sklearn.manifold import TSNE

    labels = evaluation.split("test").labels[:POINTS]
    if len(labels) < NEAREST or not evaluation.dataset.classes:
        return {}
    features = evaluation.features("test", evaluation.protocol.features)[:POINTS]
    reducer = TSNE(
        perplexity=min(PERPLEXITY, (len(features) - 1) / 3), init="pca", random_state=evaluation.protocol.seed
    )
    points = reducer.fit_transform(features).astype(np.float32)
    return {"points": points, "labels": labels, "classes": np.array(evaluation.dataset.classes)}
