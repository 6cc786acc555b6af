"""Arithmetic and size of a model in closed form: 2 FLOPs per multiply-add, products alone.

Norms, activations, softmax and the batch's logits are left out, as is usual; so is the recomputation
that micro-batches cost (model FLOPs, not hardware FLOPs). A backward pass counts twice its forward
pass. The tests check this page against torch's own counter and against published figures.
"""

from __future__ import annotations

import functools
import math
from itertools import pairwise

from ablative.trainer.clip.models.code_sizes import decoder_layers, encoder_layers
from ablative.trainer.clip.models.head_flops import mask_rcnn_flops, neck_flops, upernet_flops
from ablative.trainer.clip.models.sizes import ROUNDING, conv_widths, keep_count
from ablative.trainer.clip.spec.config import (
    DatasetConfig,
    EvaluationConfig,
    ModelConfig,
    ObjectiveConfig,
    ProtocolConfig,
    RunConfig,
)
from ablative.trainer.clip.spec.metrics import PROTOCOL_KINDS
from ablative.trainer.clip.spec.recipes import CODES, DISTILL, FSQ, SELF, SIMCLR, TEXT, recipe_of

QUESTION_TOKENS = 16
"""Tokens of a question, padding included: about the length to which CLEVR's, FSQAv2's and GQA's are trimmed."""

FORWARD_ALONE = ("similarity", "teacher", "codes")
"""Passes through which no gradient flows."""


@functools.lru_cache(1024)
def train_flops(
    model: ModelConfig,
    objective: ObjectiveConfig,
    tokens_per_caption: float,
    length: int | None = None,
    vocab_size: int | None = None,
) -> float:
    """FLOPs of one sample's training step: forward and backward, but forward alone where no gradient flows."""
    passes = forward_flops(model, objective, tokens_per_caption, length, vocab_size)
    return sum(flops if name in FORWARD_ALONE else 3 * flops for name, flops in passes.items())


def run_flops(config: RunConfig) -> float:
    """FLOPs of a whole pretraining, with captions half as long as the context on average."""
    samples = config.schedule.steps * config.schedule.batch_size
    return samples * train_flops(config.model, config.objective, config.model.context_length / 2)


def evaluation_flops(model: ModelConfig, evaluation: EvaluationConfig) -> float:
    """FLOPs of the passes of an evaluation whose sets' sizes are configured; 0 where one is not.

    Counts images through the tower (a forward pass for features, three for a step of fine-tuning) and questions through
    the decoder, and heads on feature maps. Leaves out prompts and linear layers, which are small against these.
    """
    return _passes_flops(model, evaluation.protocol, evaluation.datasets)


@functools.lru_cache(256)
def _passes_flops(model: ModelConfig, protocol: ProtocolConfig, datasets: tuple[DatasetConfig, ...]) -> float:
    total = 0.0
    for dataset in datasets:
        train, test = dataset.train or dataset.train_size, dataset.test or dataset.test_size
        if not test or (PROTOCOL_KINDS[protocol.kind].trains and not train):
            return 0.0
        total += _set_flops(model, protocol, dataset, train, test)
    return total


def _set_flops(model: ModelConfig, protocol: ProtocolConfig, dataset: DatasetConfig, train: int, test: int) -> float:
    image = image_flops(model, grid(model))
    if protocol.kind == "linear_probe":
        return (train + test) * image
    if protocol.kind == "finetune":
        return (3 * protocol.epochs * train + test) * image
    if protocol.kind == "upernet":
        return _upernet(model, protocol, dataset, test)
    if protocol.kind == "detection":
        return (3 * protocol.epochs * train + test) * _detection(model, protocol)
    if protocol.kind == "vqa":
        depth = protocol.decoder_depth or model.decoder_depth
        question = _trunk(grid(model) + QUESTION_TOKENS, model.decoder_width, depth, model.mlp_ratio)
        seen = (dataset.epochs or protocol.epochs) * train + dataset.first_epochs * dataset.first_size
        return (3 * seen + test) * question
    if protocol.kind == "segmentation" and protocol.stride:
        return test * image * _windows(model.image_size, protocol.stride, dataset)
    return test * image


def _upernet(model: ModelConfig, protocol: ProtocolConfig, dataset: DatasetConfig, test: int) -> float:
    options = protocol.upernet
    patches = (options.side // model.patch_size) ** 2
    image = image_flops(model, patches) + neck_flops(model.width, patches)
    image += upernet_flops(model.width, patches, options)
    windows = _windows(options.side, protocol.stride or 1.0, dataset)
    return (3.0 * options.steps * protocol.batch_size + test * windows) * image


def _detection(model: ModelConfig, protocol: ProtocolConfig) -> float:
    """An image of usual proportions, 4 : 3."""
    options = protocol.detection
    short = options.short_side / model.patch_size
    patches = round(short * min(4 * short / 3, options.long_side / model.patch_size))
    heads = neck_flops(model.width, patches) + mask_rcnn_flops(model.width, patches, options)
    return image_flops(model, patches) + heads


def _windows(window: int, share: float, dataset: DatasetConfig) -> int:
    """Windows over an image of usual proportions, 4 : 3, by `share` of their side."""
    short = dataset.short_side or window
    sides = (short, min(4 * short / 3, dataset.long_side or math.inf))
    return math.prod(1 + math.ceil((side - window) / (share * window) - ROUNDING) for side in sides)


def forward_flops(
    model: ModelConfig,
    objective: ObjectiveConfig,
    tokens_per_caption: float,
    length: int | None = None,
    vocab_size: int | None = None,
) -> dict[str, float]:
    """FLOPs of one sample's forward passes, by pass.

    Args:
        tokens_per_caption: real tokens; the vocabulary head sees those of them that are masked.
        length: tokens that the text tower computes, padding included; by default the whole context.
        vocab_size: of the fitted tokenizer; by default the configured bound.
    """
    recipe, length = recipe_of(objective), length or model.context_length
    passes: dict[str, float] = {}
    if recipe.contrastive:
        patches, words = grid(model), length
        if recipe.masks_input:
            patches = _encoded(model, objective, objective.input_mask_ratio)
            words = keep_count(length, objective.input_text_mask_ratio)
        passes["image"] = image_flops(model, patches)
        passes["text"] = text_flops(model, words)
        text_pooling = model.pooling if model.text_pooling == "same" else model.text_pooling
        passes["heads"] = _head(model, model.pooling, patches + model.pool_class_token, model.width)
        passes["heads"] += _head(model, text_pooling, words, model.text_width)
    if recipe.generative:
        passes |= _reconstruction(model, objective, tokens_per_caption, length, vocab_size or model.vocab_size)
    if DISTILL in recipe.terms:
        passes |= _distillation(model, objective, recipe.teacher)
    if SIMCLR in recipe.terms:
        passes |= _simclr(model, objective, recipe.views)
    if CODES in recipe.terms:
        passes |= _prediction_of_codes(model, objective)
    if FSQ in recipe.terms:
        passes |= _tokenizer(model, objective)
    if recipe.mask_by_similarity and objective.masking == "similarity":
        passes["similarity"] = _similarity(model, objective, length)
    return passes


def _encoded(model: ModelConfig, objective: ObjectiveConfig, ratio: float) -> int:
    """Patches that the image tower computes where so many are hidden: the visible ones, or all with mask tokens."""
    return keep_count(grid(model), ratio) if objective.hidden_patches == "dropped" else grid(model)


def grid(model: ModelConfig) -> int:
    """Patches of an image."""
    return (model.image_size // model.patch_size) ** 2


@functools.lru_cache(1024)
def image_flops(model: ModelConfig, patches: int) -> float:
    """Image tower over so many patches, and the class token. A convolutional stem always sees the whole image."""
    pixels = 3 * model.patch_size**2
    stem = 2.0 * patches * pixels * model.width
    if model.stem == "conv":
        widths = conv_widths(model.patch_size, model.width)
        stem = 2.0 * patches * widths[-1] * model.width
        for i, (a, b) in enumerate(pairwise([3, *widths])):
            stem += 2.0 * 9 * a * b * (model.image_size >> (i + 1)) ** 2
    return stem + _trunk(patches + model.class_token, model.width, model.depth, model.mlp_ratio)


def text_flops(model: ModelConfig, tokens: int) -> float:
    """Text tower over so many tokens."""
    return _trunk(tokens, model.text_width, model.text_depth, model.mlp_ratio)


def _trunk(n: float, width: int, depth: int, ratio: float) -> float:
    """Transformer over n elements: four projections, the MLP, and the two products of attention."""
    hidden = int(width * ratio)
    return depth * (2.0 * n * (4 * width**2 + 2 * width * hidden) + 4.0 * n**2 * width)


def _head(model: ModelConfig, pooling: str, n: int, width: int) -> float:
    return _pool(model, pooling, n, width) + 2.0 * width * model.embed_dim


def _pool(model: ModelConfig, pooling: str, n: int, width: int) -> float:
    if pooling != "map":
        return 0.0
    key_value, attend, out = 4.0 * n * width**2, 4.0 * n * width, 2.0 * width**2
    return key_value + attend + out + 4.0 * width * int(width * model.mlp_ratio)


def _reconstruction(
    model: ModelConfig, objective: ObjectiveConfig, tokens: float, length: int, vocab_size: int
) -> dict[str, float]:
    """The masked pass: visible elements through the towers, all through the decoder, masked ones to the heads."""
    width, patches = model.decoder_width, grid(model)
    seen, encoded = keep_count(patches, objective.mask_ratio), _encoded(model, objective, objective.mask_ratio)
    passes = {"masked image": image_flops(model, encoded)}
    decoder = 2.0 * (encoded + model.class_token) * model.width * width
    hidden_tokens = 0.0
    if TEXT not in recipe_of(objective).terms:
        length = 0
    else:
        length = model.context_length if objective.include_pads else length
        words = keep_count(length, objective.text_mask_ratio)
        passes["masked text"] = text_flops(model, words)
        decoder += 2.0 * words * model.text_width * width
        hidden_tokens = tokens - keep_count(tokens, objective.text_mask_ratio)
        if objective.include_pads:
            hidden_tokens = tokens * (1 - words / length)
    passes["decoder"] = decoder + _trunk(
        patches + model.class_token + length, width, model.decoder_depth, model.mlp_ratio
    )
    passes["pixels"] = 2.0 * (patches - seen) * width * 3 * model.patch_size**2
    passes["vocabulary"] = 2.0 * hidden_tokens * width * vocab_size
    return passes


def _distillation(model: ModelConfig, objective: ObjectiveConfig, teacher: str) -> dict[str, float]:
    """Visible patches through the tower, all through the decoder, masked ones to their features; the teacher's pass."""
    width, patches = model.decoder_width, grid(model)
    seen, encoded = keep_count(patches, objective.mask_ratio), _encoded(model, objective, objective.mask_ratio)
    decoder = 2.0 * (encoded + model.class_token) * model.width * width + 2.0 * (patches - seen) * width * model.width
    decoder += _trunk(patches + model.class_token, width, model.decoder_depth, model.mlp_ratio)
    passes = {"visible image": image_flops(model, encoded), "feature decoder": decoder}
    return passes if teacher == SELF else {**passes, "teacher": image_flops(model, patches)}


def _simclr(model: ModelConfig, objective: ObjectiveConfig, views: int) -> dict[str, float]:
    """Whole views through the tower and the pooling, and what is pooled through the projector."""
    patches, options = grid(model), objective.simclr
    projector = 2.0 * (model.width * options.hidden + options.hidden**2 + options.hidden * options.dim)
    each = image_flops(model, patches) + _pool(model, model.pooling, patches + model.pool_class_token, model.width)
    return {"views": views * each, "projector": views * projector}


def _prediction_of_codes(model: ModelConfig, objective: ObjectiveConfig) -> dict[str, float]:
    """The image with mask tokens through the tower, masked patches to their codes; the tokenizer's pass."""
    patches, codes = grid(model), objective.codes
    hidden = patches - keep_count(patches, objective.mask_ratio)
    return {
        "masked view": image_flops(model, patches),
        "code head": 2.0 * hidden * model.width * codes.number,
        "codes": sum(layer.flops for layer in encoder_layers(codes, math.isqrt(patches))),
    }


def _tokenizer(model: ModelConfig, objective: ObjectiveConfig) -> dict[str, float]:
    """Encoder and decoder of a tokenizer of images."""
    side, codes = math.isqrt(grid(model)), objective.codes
    layers = [*encoder_layers(codes, side), *decoder_layers(codes, side)]
    return {"tokenizer": sum(layer.flops for layer in layers)}


def _similarity(model: ModelConfig, objective: ObjectiveConfig, length: int) -> float:
    """Every element into the joint space, and its products with the other modality (forward alone)."""
    patches, embed = grid(model), model.embed_dim
    project = 2.0 * embed * (patches * model.width + length * model.text_width)
    if objective.similarity_reduce == "pooled":
        return project + 2.0 * embed * (patches + length)
    return project + 4.0 * embed * patches * length


def parameters(model: ModelConfig, objective: ObjectiveConfig, vocab_size: int | None = None) -> dict[str, int]:
    """Trained parameters by part: image, text, heads, decoder (what an objective lacks is absent)."""
    recipe, vocab_size = recipe_of(objective), vocab_size or model.vocab_size
    norm_here = model.ln_after_pool and recipe.contrastive
    counts: dict[str, int] = {}
    mask_token = recipe.replaces(objective.hidden_patches)
    if recipe.trains_tower:
        counts["image"] = _stem_parameters(model) + _trunk_parameters(model.width, model.depth, model.mlp_ratio)
        counts["image"] += (0 if norm_here else 2 * model.width) + (model.width if mask_token else 0)
        counts["image"] += _position_parameters(model)
    if recipe.uses_text:
        counts["text"] = (vocab_size + model.context_length) * model.text_width
        counts["text"] += _trunk_parameters(model.text_width, model.text_depth, model.mlp_ratio)
        counts["text"] += 0 if norm_here else 2 * model.text_width
    if recipe.contrastive:
        text_pooling = model.pooling if model.text_pooling == "same" else model.text_pooling
        counts["heads"] = _head_parameters(model, model.pooling, model.width)
        counts["heads"] += _head_parameters(model, text_pooling, model.text_width) + 1  # the temperature
    if recipe.generative:
        counts["decoder"] = _decoder_parameters(model, vocab_size if TEXT in recipe.terms else None)
        counts["decoder"] -= model.decoder_width if mask_token else 0
    if DISTILL in recipe.terms:
        counts["feature decoder"] = _decoder_parameters(model, None, model.width)
        counts["feature decoder"] -= model.decoder_width if mask_token else 0
    if SIMCLR in recipe.terms:
        hidden, dim = objective.simclr.hidden, objective.simclr.dim
        counts["projector"] = model.width * hidden + hidden**2 + 4 * hidden + (hidden + 1) * dim
        if not recipe.contrastive:
            counts["pooling"] = _pool_parameters(model, model.pooling, model.width)
    if CODES in recipe.terms:
        counts["code head"] = (model.width + 1) * objective.codes.number
    if FSQ in recipe.terms:
        side, codes = math.isqrt(grid(model)), objective.codes
        layers = [*encoder_layers(codes, side), *decoder_layers(codes, side)]
        counts["tokenizer"] = sum(layer.parameters for layer in layers)
    return counts


def _position_parameters(model: ModelConfig) -> int:
    """The class token, and learned positions of patches."""
    side = model.position_grid or model.image_size // model.patch_size
    return model.width * (model.class_token + (side * side if model.positions == "learned" else 0))


def _trunk_parameters(width: int, depth: int, ratio: float) -> int:
    hidden = int(width * ratio)
    attention, mlp, norms = 4 * (width**2 + width), 2 * width * hidden + hidden + width, 4 * width
    return depth * (attention + mlp + norms)


def _stem_parameters(model: ModelConfig) -> int:
    if model.stem == "linear":
        return (3 * model.patch_size**2 + 1) * model.width
    widths = conv_widths(model.patch_size, model.width)
    convolutions = sum(9 * a * b + 2 * b for a, b in pairwise([3, *widths]))
    return convolutions + (widths[-1] + 1) * model.width


def _head_parameters(model: ModelConfig, pooling: str, width: int) -> int:
    norm = 2 * width if model.ln_after_pool else 0
    return _pool_parameters(model, pooling, width) + norm + width * model.embed_dim


def _pool_parameters(model: ModelConfig, pooling: str, width: int) -> int:
    if pooling != "map":
        return 0
    hidden = int(width * model.mlp_ratio)
    probe, norms = width, 2 * width * (2 if model.map_residual else 1)
    return probe + norms + 4 * (width**2 + width) + 2 * width * hidden + hidden + width


def _decoder_parameters(model: ModelConfig, vocab_size: int | None, target: int = 0) -> int:
    """Input projections, mask tokens, text positions, modalities, trunk, final norm, heads (`target`: features)."""
    width = model.decoder_width
    count = (model.width + 1) * width + width + 2 * width + (width + 1) * (target or 3 * model.patch_size**2)
    count += _trunk_parameters(width, model.decoder_depth, model.mlp_ratio)
    if vocab_size is not None:
        count += (model.text_width + 1) * width + width + (model.context_length + 2) * width
        count += (width + 1) * vocab_size
    return count
