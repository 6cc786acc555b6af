"""Panels: nothing is scored; arrays are kept from which a report draws what a model sees (`study.home.panel_pictures`).

A model without a joint embedding has no Grad-CAM, similarities, segmentation and retrieval, one without a decoder no
restored images, and a data set without masks or captions lacks theirs. A prompt without `{}`, as in MAE-CLIP's Figure 2
("a photo of a dog"), is looked for in every image without change, and segmented against the background alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from ablative.study.home.paths import TaskPaths
from ablative.trainer.clip.data.pairs.batch import to_pixels
from ablative.trainer.clip.protocols.evaluation import Evaluation
from ablative.trainer.clip.protocols.parts import kept_pictures
from ablative.trainer.clip.protocols.parts.kept_pictures import BACKGROUND, examples, spread
from ablative.trainer.clip.protocols.parts.masks import IGNORE, background_names, segment
from ablative.trainer.clip.protocols.parts.prompts import class_embeddings
from ablative.trainer.clip.protocols.parts.similarity import score_chunks
from ablative.trainer.clip.protocols.parts.visualise import grad_cam, restore_images
from ablative.trainer.clip.protocols.segmentation import prompt_groups, prompt_maps
from ablative.trainer.clip.spec.prompts import fill, names_class

QUERIES = 3
NEAREST = 5
POINTS = 250
"""Images of the t-SNE: it grows with n log n, and more would hide one another."""
PERPLEXITY = 30.0
"""scikit-learn's default; less for fewer images."""
TEXTS = 3
"""Texts that each example is compared with, at most."""
TEMPLATE = "a photo of {a} {}"


def panels(evaluation: Evaluation) -> Iterator[tuple[str, float]]:
    """Write the archive of this data set; yields no metric."""
    assert evaluation.task is not None
    keep(evaluation, evaluation.task)
    yield from ()


def keep(evaluation: Evaluation, task: TaskPaths) -> None:
    """Compute all pictures that model and data set allow, and write them in one step."""
    system = evaluation.representation.system
    images = np.stack([evaluation.split("test").images(i) for i in examples(len(evaluation.split("test")))])
    arrays: dict[str, np.ndarray] = {"images": images, **_points(evaluation)}
    if system.contrastive:
        arrays |= _evidence(evaluation, images) | _similarities(evaluation, images)
        arrays |= _segments(evaluation, images) | _nearest(evaluation)
    if system.recipe.generative:
        arrays |= _restored(evaluation, images)
    kept_pictures.keep(task, evaluation.config.name, arrays)


def _prompt(evaluation: Evaluation, i: int) -> str:
    """What is to be found in a sample: the protocol's prompt, with a class of it if it names one; else its caption; ""
    where there is nothing to name."""
    template = evaluation.protocol.prompt or TEMPLATE
    if not names_class(template):
        return template
    names = _classes(evaluation, i)
    return fill(template, names[0]) if names else _caption(evaluation, i)


def _classes(evaluation: Evaluation, i: int) -> list[str]:
    """Classes of a sample's mask, those of the most pixels first; else its label's."""
    split, classes = evaluation.split("test"), evaluation.dataset.classes
    mask = split.masks(i)
    if mask is not None and classes:
        labels, counts = np.unique(mask[(mask > 0) & (mask <= len(classes))], return_counts=True)
        if len(labels):
            return [classes[label - 1].split(",")[0] for label in labels[np.argsort(-counts, kind="stable")]]
    return [classes[split.labels[i]]] if len(split.labels) and classes else []


def _caption(evaluation: Evaluation, i: int) -> str:
    captions = evaluation.split("test").captions
    return captions[i][0] if captions is not None and captions[i] else ""


def _texts(evaluation: Evaluation, i: int) -> list[str]:
    """A sample's caption, and prompts for single things in it: its classes, else the longest words of the caption."""
    template, caption = evaluation.protocol.prompt or TEMPLATE, _caption(evaluation, i)
    if not names_class(template):
        return [template]
    words = sorted((word.strip(".,;:!?\"'()") for word in caption.split()), key=len, reverse=True)
    things = [fill(template, name) for name in _classes(evaluation, i) or words if name]
    return [text for text in dict.fromkeys((caption, *things)) if text][:TEXTS]


def _similarities(evaluation: Evaluation, images: np.ndarray) -> dict[str, np.ndarray]:
    """Cosines of every patch of the examples with texts (MaskCLIP's Figures 2 and 4 to 6)."""
    representation = evaluation.representation
    patches = representation.patches(to_pixels(images, representation.device), evaluation.protocol.patch_features)
    side = math.isqrt(patches.shape[1])
    texts = np.full((len(images), TEXTS), "", dtype=object)
    found = np.zeros((len(images), TEXTS, side, side), dtype=np.float32)
    for row, i in enumerate(examples(len(evaluation.split("test")))):
        own = _texts(evaluation, i)
        texts[row, : len(own)] = own
        if own:
            maps = prompt_maps(patches[row : row + 1], representation.text_embeddings(own))
            found[row, : len(own)] = maps[0].cpu().numpy()
    return {"texts": texts.astype(str), "similarity": found}


def _evidence(evaluation: Evaluation, images: np.ndarray) -> dict[str, np.ndarray]:
    representation = evaluation.representation
    prompts = [_prompt(evaluation, i) for i in examples(len(evaluation.split("test")))]
    # Without anything to look for there is no evidence: an empty text would have some.
    asked = [row for row, prompt in enumerate(prompts) if prompt]
    maps = np.zeros(images.shape[:3], dtype=np.uint8)
    if asked:
        embeddings = representation.text_embeddings([prompts[row] for row in asked])
        texts = torch.from_numpy(embeddings).to(representation.device)
        found = grad_cam(representation.system, to_pixels(images[asked], representation.device), texts)
        maps[asked] = (255 * found).round().to(torch.uint8).cpu().numpy()
    return {"prompts": np.array(prompts), "grad_cam": maps}


def _segments(evaluation: Evaluation, images: np.ndarray) -> dict[str, np.ndarray]:
    """Labels of the examples' pixels as zero-shot segmentation has them: of the classes, with the true labels, or of
    one prompt."""
    split, dataset, protocol = evaluation.split("test"), evaluation.dataset, evaluation.protocol
    background = background_names(protocol, dataset.background)
    if protocol.prompt and not names_class(protocol.prompt):
        names, groups = prompt_groups(background or BACKGROUND, ())
        others = class_embeddings(evaluation.representation, names, (TEMPLATE,))
        own = evaluation.representation.text_embeddings([protocol.prompt])
        found = _labels(evaluation, images, np.concatenate([others, own]), [*groups, [len(names)]])
        return {"segments": found, "names": np.array([BACKGROUND, protocol.prompt])}
    truth = [mask for i in examples(len(split)) if (mask := split.masks(i)) is not None]
    if not dataset.classes or len(truth) < len(images):
        return {}
    names, groups = prompt_groups(background, dataset.classes)
    prompts = (protocol.prompt,) if protocol.prompt else evaluation.prompts()
    found = _labels(evaluation, images, class_embeddings(evaluation.representation, names, prompts), groups)
    shown = kept_pictures.names(dataset.classes)
    return {"truth": np.stack(truth).astype(np.uint8), "segments": found, "names": shown}


def _labels(evaluation: Evaluation, images: np.ndarray, prompts: np.ndarray, groups: list[list[int]]) -> np.ndarray:
    """uint8 (k, S, S): the label of each pixel, by embeddings of `prompts` (P, E) and the prompts of each label."""
    pixels = to_pixels(images, evaluation.representation.device)
    with torch.inference_mode():
        kind = evaluation.protocol.patch_features
        maps = prompt_maps(evaluation.representation.system.patch_embeddings(pixels, kind).float(), prompts)
    labels = np.stack([segment(own, groups, images.shape[1:3]) for own in maps])
    return np.where(labels < 0, IGNORE, labels).astype(np.uint8)


def _nearest(evaluation: Evaluation) -> dict[str, np.ndarray]:
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


def _restored(evaluation: Evaluation, images: np.ndarray) -> dict[str, np.ndarray]:
    """Images with what the decoder puts into the hidden patches; the decoder sees captions where there are some."""
    representation, split = evaluation.representation, evaluation.split("test")
    texts = [_caption(evaluation, i) for i in examples(len(split))]
    tokens = torch.from_numpy(np.asarray(representation.tokenizer(texts))).to(representation.device)
    generator = torch.Generator().manual_seed(evaluation.protocol.seed)
    pixels = to_pixels(images, representation.device)
    hidden, restored = restore_images(representation.system, pixels, tokens, generator)
    colors = ((restored.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    return {"visible": (~hidden).to(torch.uint8).cpu().numpy(), "restored": colors.cpu().numpy()}


def _points(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """t-SNE of pooled features of labelled images, `POINTS` spread over the split."""
    from sklearn.manifold import TSNE

    labels = evaluation.split("test").labels
    if len(labels) < NEAREST or not evaluation.dataset.classes:
        return {}
    chosen = spread(len(labels), POINTS)
    labels, features = labels[chosen], evaluation.features("test", evaluation.protocol.features)[chosen]
    reducer = TSNE(
        perplexity=min(PERPLEXITY, (len(features) - 1) / 3), init="pca", random_state=evaluation.protocol.seed
    )
    points = reducer.fit_transform(features).astype(np.float32)
    return {"points": points, "labels": labels, "classes": np.array(evaluation.dataset.classes)}
