"""Values that are fine one by one and impossible together; each check gives one clear error."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from ablative.study.core.errors import ConfigError
from ablative.study.spec.runtime import RuntimeConfig
from ablative.trainer.clip.spec.config import (
    POOLINGS,
    TEXT_POOLINGS,
    DataConfig,
    DatasetConfig,
    ModelConfig,
    ObjectiveConfig,
    ProtocolConfig,
    RunConfig,
)
from ablative.trainer.clip.spec.prompts import fill, names_class
from ablative.trainer.clip.spec.recipes import CODE_KEYS, CODES, FSQ, RUN, TOKENIZER, named, recipe_of
from ablative.trainer.clip.spec.schedule_config import ScheduleConfig

TEACHER_KEYS = ("width", "depth", "heads", "mlp_ratio", "stem", "class_token", "positions", "ln_after_pool")
"""What an image tower has to share with one whose features it learns."""


def position_grid(model: ModelConfig) -> int:
    """Patches along a side for which the image tower's positions are made."""
    return model.position_grid or model.image_size // model.patch_size


def check_run(config: RunConfig) -> None:
    """Raise ConfigError for a combination that cannot be trained."""
    check_model(config.model)
    check_objective(config.objective, config.model)
    check_schedule(config.schedule, config.objective)
    check_data(config.data, config.schedule)
    check_runtime(config.runtime, config.schedule)


def check_start(config: RunConfig, parent: RunConfig | None) -> None:
    """Raise ConfigError where a run cannot start from, or learn from, a run with the configuration `parent`."""
    recipe = recipe_of(config.objective)
    if parent is None:
        if config.schedule.steps:
            _check_taught(config)
        return
    if recipe.teacher == TOKENIZER:
        _check_tokenizer(config, parent)
        return
    if not recipe_of(parent.objective).trains_tower:
        raise ConfigError(
            f"`from:` is of a run with the objective '{parent.objective.name}', which trains no image tower; choose "
            "another"
        )
    if config.model.start.path and recipe.teacher != RUN:
        raise ConfigError(
            f"model.start.path: {config.model.start.path}, and the level says `from:` of a run, too; a run starts from "
            "one of the two"
        )
    relation = "whose features this one learns" if recipe.teacher == RUN else "that this one starts from"
    for key in ("patch_size", *(TEACHER_KEYS if recipe.teacher == RUN else ())):
        own, its = getattr(config.model, key), getattr(parent.model, key)
        if own != its:
            raise ConfigError(f"model.{key}: {own}, and the run {relation} has {its}; choose the same")
    own, its = config.model.image_size, parent.model.image_size
    if recipe.teacher == RUN and own != its:
        raise ConfigError(f"model.image_size: {own}, and the run {relation} has {its}; choose the same")
    if position_grid(config.model) != (grid := position_grid(parent.model)):
        raise ConfigError(
            f"model.image_size: {own}, and the run {relation} has {its}, with positions for {grid} × {grid} patches; "
            f"choose the same, or model.position_grid={grid}, which resamples those positions"
        )


def _check_taught(config: RunConfig) -> None:
    """Raise ConfigError where a run without a parent needs one to learn from."""
    teacher = recipe_of(config.objective).teacher
    if teacher == RUN:
        raise ConfigError(
            f"objective '{config.objective.name}' learns the features of another run, and no level says of which; "
            "write `from:` in the level that chooses it, as in `from: {method: clip}`"
        )
    if teacher == TOKENIZER and not config.objective.codes.path:
        raise ConfigError(
            f"objective '{config.objective.name}' predicts the codes of a tokenizer, and no level says of which; write "
            "`from:` of a run with the objective fsq, as in `from: {method: fsq}`, or set objective.codes.path"
        )


def _check_tokenizer(config: RunConfig, parent: RunConfig) -> None:
    """Raise ConfigError where a run cannot predict the codes of the run `parent`."""
    if FSQ not in recipe_of(parent.objective).terms:
        raise ConfigError(
            f"objective '{config.objective.name}' predicts the codes of a tokenizer, and `from:` is of a run with the "
            f"objective '{parent.objective.name}', which trains none; choose one with the objective fsq"
        )
    if config.objective.codes.path:
        raise ConfigError(
            f"objective.codes.path: {config.objective.codes.path}, and the level says `from:` of a run, too; codes are "
            "of one of the two"
        )
    for key in (*CODE_KEYS, "model.image_size", "model.patch_size"):
        own, its = operator.attrgetter(key)(config), operator.attrgetter(key)(parent)
        if own != its:
            raise ConfigError(f"{key}: {own}, and the run whose codes this one predicts has {its}; choose the same")


def check_model(model: ModelConfig) -> None:
    _divides("model.patch_size", model.patch_size, "model.image_size", model.image_size)
    _divides("model.heads", model.heads, "model.width", model.width)
    _divides("model.text_heads", model.text_heads, "model.text_width", model.text_width)
    _divides("model.decoder_heads", model.decoder_heads, "model.decoder_width", model.decoder_width)
    if model.map_heads:
        _divides("model.map_heads", model.map_heads, "model.width", model.width)
        _divides("model.map_heads", model.map_heads, "model.text_width", model.text_width)
    if model.stem == "conv" and (model.patch_size < 2 or model.patch_size & (model.patch_size - 1)):
        raise ConfigError(
            f"model.patch_size: {model.patch_size} is not a power of two, which the convolutional stem needs; "
            "choose another one, or model.stem=linear"
        )
    _check_pooling(model)
    _check_published(model)
    for key in ("width", "decoder_width") if model.positions == "sincos" else ("decoder_width",):
        if getattr(model, key) % 4:
            raise ConfigError(
                f"model.{key}: {getattr(model, key)} is not a multiple of 4, which 2-D sin-cos positions need"
            )


def _check_published(model: ModelConfig) -> None:
    if model.start.path and (model.stem, model.positions) != ("linear", "learned"):
        raise ConfigError(
            f"model.start.path: {model.start.path} has weights of a tower with a linear stem and learned positions; "
            f"this one's stem is {model.stem}, its positions are {model.positions}; set model.stem=linear and "
            "model.positions=learned"
        )
    if model.start.fingerprint and not model.start.path:
        raise ConfigError("model.start.fingerprint: set without model.start.path, the file that it is of")


def _check_pooling(model: ModelConfig) -> None:
    if model.pool_class_token and (model.pooling == "cls" or not model.class_token):
        reason = "model.pooling=cls pools it alone" if model.class_token else "the model has none"
        raise ConfigError(
            f"model.pool_class_token: true, and {reason}; set it to false, or model.class_token=true and another "
            f"pooling ({', '.join(POOLINGS)})"
        )
    if model.pooling == "cls" and not model.class_token:
        raise ConfigError(
            "model.pooling: cls pools the class token, and the model has none; set model.class_token=true, or choose "
            f"another pooling ({', '.join(POOLINGS)})"
        )


def check_objective(objective: ObjectiveConfig, model: ModelConfig) -> None:
    recipe = recipe_of(objective)
    if recipe.views and objective.views.sigma_min > objective.views.sigma_max:
        raise ConfigError(
            f"objective.views.sigma_min: {objective.views.sigma_min} is more than objective.views.sigma_max "
            f"({objective.views.sigma_max})"
        )
    if recipe.contrastive and model.pooling == "cls" and model.text_pooling == "same":
        others = ", ".join(name for name in TEXT_POOLINGS if name != "same")
        raise ConfigError(
            "model.text_pooling: same as model.pooling, which is cls, and captions have no class token; "
            f"choose {others}"
        )
    if recipe.masks_input and objective.input_text_mask_ratio and model.text_pooling == "eos":
        raise ConfigError(
            f"objective.input_text_mask_ratio: {objective.input_text_mask_ratio} may drop the end marker, which "
            "model.text_pooling=eos needs; choose objective.input_text_mask_ratio=0, or another pooling of texts"
        )
    if recipe.generative and objective.masking == "similarity" and not recipe.mask_by_similarity:
        raise ConfigError(
            f"objective.masking: similarity needs a contrastive loss's embeddings of whole inputs, which "
            f"'{objective.name}' has not; choose objective.masking=random or objective={named('mask_by_similarity')}"
        )
    if not recipe.trains_tower and model.start.path:
        raise ConfigError(
            f"model.start.path: {model.start.path} has weights of an image tower, and objective '{objective.name}' "
            "trains none; leave it empty"
        )
    if {CODES, FSQ} & {*recipe.terms}:
        _check_codes(objective)
    if recipe.hides_patches:
        _check_hidden(objective, (model.image_size // model.patch_size) ** 2)


def _check_codes(objective: ObjectiveConfig) -> None:
    codes = objective.codes
    if codes.stride & (codes.stride - 1):
        raise ConfigError(f"objective.codes.stride: {codes.stride} is not a power of two; sides are halved so often")
    if codes.width % 4:
        raise ConfigError(f"objective.codes.width: {codes.width} is not a multiple of 4, which residual blocks need")
    if codes.levels and min(codes.levels) < 2:
        raise ConfigError(
            f"objective.codes.levels: {min(codes.levels)} is no number of values to round to; expected 2 or more each"
        )
    if not codes.levels and FSQ in recipe_of(objective).terms:
        raise ConfigError(
            "objective.codes.levels: empty, and a tokenizer that is trained here rounds to levels; expected so many "
            "for each output, as in [8, 8, 8, 4, 4]"
        )
    if codes.fingerprint and not codes.path:
        raise ConfigError("objective.codes.fingerprint: set without objective.codes.path, the file that it is of")


def _check_hidden(objective: ObjectiveConfig, patches: int) -> None:
    """Raise ConfigError where nothing of so many patches is hidden, or no rectangle."""
    recipe = recipe_of(objective)
    key, ratio = "mask_ratio", objective.mask_ratio
    if recipe.masks_input:
        key, ratio = "input_mask_ratio", objective.input_mask_ratio
    hidden = patches - max(1, int((1 - ratio) * patches + 1e-6))
    if not hidden and not recipe.masks_input:
        raise ConfigError(
            f"objective.mask_ratio: {objective.mask_ratio} hides none of an image's {patches} patches, "
            "so there is nothing to reconstruct"
        )
    if not recipe.hides_at_random(objective.masking) or objective.mask.shape != "blocks":
        return
    least, most = objective.mask.min_patches, objective.mask.max_patches
    if least > hidden:
        raise ConfigError(
            f"objective.mask.min_patches: {least} is more than the {hidden} patches that are hidden of an image's "
            f"{patches} (objective.{key}={ratio})"
        )
    if 0 < most < least:
        raise ConfigError(f"objective.mask.max_patches: {most} is less than objective.mask.min_patches ({least})")


def check_schedule(schedule: ScheduleConfig, objective: ObjectiveConfig) -> None:
    if schedule.steps and schedule.warmup_steps > schedule.steps:
        raise ConfigError(
            f"schedule.warmup_steps: {schedule.warmup_steps} is more than schedule.steps ({schedule.steps})"
        )
    if schedule.lr_floor > schedule.lr:
        raise ConfigError(f"schedule.lr_floor: {schedule.lr_floor} is more than schedule.lr ({schedule.lr})")
    if schedule.steps and objective.local_steps and recipe_of(objective).contrastive:
        _divides("objective.local_batch", objective.local_batch, "schedule.batch_size", schedule.batch_size)


def check_data(data: DataConfig, schedule: ScheduleConfig) -> None:
    if data.kind == "shards" and not data.path:
        raise ConfigError("data.path: missing; give the shards' folder, glob or brace pattern")
    if data.kind == "shapes":
        _check_drawn(data)
    if data.captions == "epoch" and (data.kind == "shapes" or data.caption == "txt"):
        source = "the procedural world" if data.kind == "shapes" else "data.caption=txt"
        raise ConfigError(
            f"data.captions: epoch, but {source} has one caption for each image; expected first, or a key of the JSON "
            "of shards that holds several (data.caption=json.captions)"
        )
    if "" in data.exclude:
        raise ConfigError("data.exclude: '' is in every caption; give the strings whose pairs are to be left out")
    if data.exclude_images_fingerprint and not data.exclude_images:
        raise ConfigError("data.exclude_images_fingerprint: set without data.exclude_images, the list that it is of")
    if data.tokenizer_fingerprint and not data.tokenizer_texts:
        raise ConfigError("data.tokenizer_fingerprint: set without data.tokenizer_texts, the file that it is of")
    if data.pairs and schedule.steps and schedule.batch_size > data.pairs:
        raise ConfigError(f"schedule.batch_size: {schedule.batch_size} is larger than data.pairs ({data.pairs})")


def _check_drawn(data: DataConfig) -> None:
    """Raise ConfigError for what the procedural world cannot do."""
    if not data.pairs:
        raise ConfigError("data.pairs: 0; the procedural world is endless, so say how many pairs to draw")
    if data.exclude:
        raise ConfigError(
            f"data.exclude: {', '.join(map(repr, data.exclude))} cannot be left out of the procedural world, whose "
            "captions are drawn; only shards (data.kind=shards) can"
        )
    if data.fingerprint_by != "content":
        raise ConfigError(
            f"data.fingerprint_by: {data.fingerprint_by}, but the procedural world has no files; it is known by its "
            "version, and only shards (data.kind=shards) by a fingerprint"
        )
    if data.decoding != "full":
        raise ConfigError(
            f"data.decoding: {data.decoding}, but the procedural world's images are drawn, not decoded; "
            "only shards (data.kind=shards) have JPEGs"
        )
    if data.exclude_images:
        raise ConfigError(
            f"data.exclude_images: {data.exclude_images} cannot be applied to the procedural world, whose images are "
            "drawn; only to shards (data.kind=shards)"
        )


def check_runtime(runtime: RuntimeConfig, schedule: ScheduleConfig) -> None:
    if runtime.processes > schedule.batch_size:
        raise ConfigError(
            f"runtime.processes: {runtime.processes} cannot share a batch of {schedule.batch_size} "
            "(schedule.batch_size): every process takes one row at least"
        )


def check_protocol(protocol: ProtocolConfig, where: str) -> None:
    fill(protocol.prompt, "class")
    if protocol.kind == "segmentation" and protocol.prompt and not names_class(protocol.prompt):
        raise ConfigError(
            f"{where}.prompt: '{protocol.prompt}' gives every class the same text; expected {{}} for the class name, "
            "as in 'a photo of {a} {}', or nothing for the data set's templates"
        )
    if protocol.tap and protocol.features != "mean":
        raise ConfigError(
            f"{where}.tap: {protocol.tap}, but {where}.features is {protocol.features}, which is of the whole tower; "
            f"set {where}.features=mean, or tap=0"
        )
    if protocol.warmup_epochs >= protocol.epochs:
        raise ConfigError(
            f"{where}.warmup_epochs: {protocol.warmup_epochs} of {protocol.epochs} epochs leave none in which "
            f"the learning rate falls; expected 0 to {protocol.epochs - 1}"
        )
    if protocol.lr_floor > protocol.lr:
        raise ConfigError(f"{where}.lr_floor: {protocol.lr_floor} is more than {where}.lr ({protocol.lr})")
    if protocol.kind == "upernet" and protocol.batch_size < 2:
        raise ConfigError(f"{where}.batch_size: 1 gives UPerNet's BatchNorm nothing to compare; expected 2 or more")
    upernet, detection = protocol.upernet, protocol.detection
    for key, low, other, high in (
        ("upernet.warmup_steps", upernet.warmup_steps, "upernet.steps", upernet.steps),
        ("upernet.scale_low", upernet.scale_low, "upernet.scale_high", upernet.scale_high),
        ("detection.short_side", detection.short_side, "detection.long_side", detection.long_side),
    ):
        if low > high:
            raise ConfigError(f"{where}.{key}: {low} is more than {where}.{other} ({high})")


def check_evaluation(protocol: ProtocolConfig, datasets: Sequence[DatasetConfig], model: ModelConfig) -> None:
    """Raise ConfigError for a protocol that cannot evaluate such a model on these sets."""
    where = f"protocol.{protocol.name}"
    if protocol.tap > model.depth:
        raise ConfigError(f"{where}.tap: {protocol.tap}, and the image tower has {model.depth} blocks (model.depth)")
    if protocol.patch_features == "values" and model.pooling == "map":
        raise ConfigError(
            f"{where}.patch_features: values are of the tower's last block, and model.pooling=map attends once more "
            "after it, so that none of its patches is in the joint space; choose patch_features=tokens, or "
            f"`protocols: {{{protocol.name}: {{…}}}}` for the cells with another pooling (gap, max, cls)"
        )
    if protocol.kind == "upernet" and protocol.upernet.side % (2 * model.patch_size):
        raise ConfigError(
            f"{where}.upernet.side: {protocol.upernet.side} is no multiple of two patches of {model.patch_size} pixels "
            "(model.patch_size), which the coarsest of its maps needs"
        )
    for dataset in datasets:
        if protocol.kind == "segmentation" and protocol.stride and 0 < dataset.short_side < model.image_size:
            raise ConfigError(
                f"suite.datasets.{dataset.name}.short_side: {dataset.short_side}, and windows have the model's "
                f"{model.image_size} pixels; choose {model.image_size} or more, or 0 for {model.image_size}"
            )


def check_dataset(dataset: DatasetConfig, where: str) -> None:
    if dataset.bins and dataset.kind != "clip_benchmark":
        raise ConfigError(
            f"{where}.bins: {dataset.bins}, but kind '{dataset.kind}' has no ordered labels to cut into bins; "
            "clip_benchmark has"
        )
    if 0 < dataset.long_side < dataset.short_side:
        raise ConfigError(f"{where}.long_side: {dataset.long_side} is less than short_side ({dataset.short_side})")
    if dataset.bins == 1:
        raise ConfigError(
            f"{where}.bins: 1 leaves nothing to tell apart; expected 2 or more, or 0 for the classes as they are"
        )


def _divides(key: str, divisor: int, other: str, value: int) -> None:
    if value % divisor:
        raise ConfigError(f"{key}: {divisor} does not divide {other} ({value})")
