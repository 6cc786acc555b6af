"""Objectives as recipes: what each one trains, and which keys of a configuration its runs do not read.

Everything that asks what an objective is asks this table: losses, FLOPs, checks, protocols, and the plan, which sets
keys that a recipe does not read back to what the cell's config groups give them. It imports nothing, torch included.

A key is unread only if neither training nor any protocol on the trained model reads it: visual question answering
takes its decoder's sizes, the width of words and the length of texts from the model of every run, and the pooling is
that of features also where none is trained.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

INFO_NCE = "softmax"
"""The contrastive loss of CLIP: a pair against all others of its batch, by a softmax in both directions."""
CONTRASTIVE, IMAGE, TEXT, DISTILL, SIMCLR = "contrastive", "image", "text", "distill", "simclr"
CODES, FSQ = "codes", "fsq"
SELF, EMA, RUN, TOKENIZER = "self", "ema", "run", "tokenizer"
"""Teachers, whose features are distilled: the student itself, its moving average, a finished run; and a tokenizer of
images, whose codes are predicted."""
CODE_KEYS = tuple(f"objective.codes.{key}" for key in ("levels", "stride", "width", "blocks"))
"""The shape of a tokenizer."""


@dataclass(frozen=True)
class Term:
    """One loss; its value is reported as `train/NAME`."""

    code: str
    """Where its code is: a module of `trainer.clip.objectives.terms` and a class."""
    label: str
    """Its name in reports."""
    weight: str = ""
    """Key of its weight; empty: 1, against which the others are weighed."""
    keys: tuple[str, ...] = ()
    """Keys that it reads, besides its weight."""
    depends: tuple[str, ...] = ()
    """Keys by which its values are not comparable."""
    views: int = 0
    """Views of an image, cropped and augmented by themselves, that it needs besides the one that the others see."""


TERMS = {
    CONTRASTIVE: Term(
        "contrastive:Contrastive",
        "contrastive loss",
        keys=(
            "objective.temperature",
            "objective.max_logit_scale",
            "objective.local_steps",
            "objective.local_batch",
            "model.embed_dim",
            "model.text_pooling",
            "model.map_heads",
            "model.map_residual",
            "model.ln_after_pool",
        ),
    ),
    IMAGE: Term(
        "reconstruction:Reconstruction",
        "image loss",
        "objective.w_image",
        ("objective.mask_ratio", "objective.hidden_patches", "objective.normalize_pixels"),
        depends=("objective.normalize_pixels",),
    ),
    TEXT: Term(
        "reconstruction:Reconstruction",
        "text loss",
        "objective.w_text",
        ("objective.text_mask_ratio", "objective.text_loss_norm", "objective.include_pads"),
        depends=("objective.text_loss_norm",),
    ),
    DISTILL: Term(
        "distillation:Distillation",
        "distillation loss",
        "objective.distill.weight",
        (
            "objective.mask_ratio",
            "objective.hidden_patches",
            "objective.distill",
            *(f"objective.distill.{key}" for key in ("beta", "reduce", "target_norm")),
        ),
        depends=("objective.distill.beta", "objective.distill.reduce", "objective.distill.target_norm"),
    ),
    SIMCLR: Term(
        "simclr:Simclr",
        "SimCLR loss",
        "objective.simclr.weight",
        (
            "objective.simclr",
            *(f"objective.simclr.{key}" for key in ("hidden", "dim", "temperature")),
            "model.map_heads",
            "model.map_residual",
        ),
        depends=("objective.simclr.temperature",),
        views=2,
    ),
    CODES: Term(
        "codes:Codes",
        "code loss",
        "objective.codes.weight",
        ("objective.mask_ratio", "objective.codes", *CODE_KEYS),
        depends=("objective.codes.levels",),
    ),
    FSQ: Term("quantization:Quantization", "tokenizer loss", keys=("objective.codes", *CODE_KEYS)),
}
"""Name of a loss → what is known of it without torch."""

EMA_KEYS = ("objective.distill.ema_start", "objective.distill.ema_end")
VIEWS_KEYS = (
    "objective.views",
    *(f"objective.views.{key}" for key in ("crop_scale", "jitter", "brightness", "contrast", "saturation", "hue")),
    *(f"objective.views.{key}" for key in ("grey", "blur", "sigma_min", "sigma_max", "flip")),
)
INPUT_MASK_KEYS = ("objective.input_mask_ratio", "objective.input_text_mask_ratio", "objective.hidden_patches")
TOWER_KEYS = (
    *(f"model.{key}" for key in ("width", "depth", "heads", "stem", "mlp_ratio", "class_token", "pool_class_token")),
    *(f"model.{key}" for key in ("positions", "position_grid", "drop_path", "pooling", "init_std")),
    *(f"model.{key}" for key in ("text_width", "context_length", "decoder_width", "decoder_depth", "decoder_heads")),
)
"""Read by all that train an image tower: those of the last line by question answering on it."""
TEXT_TOWER_KEYS = ("model.text_depth", "model.text_heads", "model.text_causal")
SIMILARITY_KEYS = ("objective.similarity_select", "objective.similarity_reduce", "objective.similarity_noise")
"""Read where the masked elements are chosen by similarity (`objective.masking`)."""
BLOCK_KEYS = ("objective.mask.min_patches", "objective.mask.max_patches", "objective.mask.min_aspect")
"""Read where rectangles are hidden."""
MASK_KEYS = ("objective.mask", "objective.mask.shape", *BLOCK_KEYS)
"""Read where patches are hidden at random."""
_INSTEAD = {
    "objective.mask_ratio": "objective.input_mask_ratio",
    "objective.text_mask_ratio": "objective.input_text_mask_ratio",
}
"""Pairs of keys that are easily confused: a recipe reads one of them at most."""


@dataclass(frozen=True)
class Recipe:
    """One objective."""

    name: str
    terms: tuple[str, ...]
    """Its losses, names of `TERMS`, in the order in which they are computed and reported."""
    contrast: str = INFO_NCE
    """Its contrastive loss, by its name in `trainer.clip.objectives.losses.CONTRASTS`."""
    masks_input: bool = False
    """It drops elements from the contrastive pass itself."""
    teacher: str = ""
    """Whose features are distilled (`SELF`, `EMA` or `RUN`), or whose codes are predicted (`TOKENIZER`)."""

    @property
    def contrastive(self) -> bool:
        """Whether it trains a joint embedding of images and texts."""
        return CONTRASTIVE in self.terms

    @property
    def generative(self) -> bool:
        """Whether it reconstructs masked patches, with or without masked tokens, through the decoder."""
        return IMAGE in self.terms

    @property
    def trains_tower(self) -> bool:
        """Whether it trains an image tower, which protocols evaluate."""
        return self.terms != (FSQ,)

    @property
    def hides_patches(self) -> bool:
        """Whether some pass of the image tower does not see all patches."""
        return self.masks_input or bool({IMAGE, DISTILL, CODES} & {*self.terms})

    def replaces(self, hidden_patches: str) -> bool:
        """Whether a learned token is in the place of hidden patches, with this `objective.hidden_patches`."""
        return CODES in self.terms or (self.hides_patches and hidden_patches == "mask_token")

    @property
    def uses_text(self) -> bool:
        return CONTRASTIVE in self.terms or TEXT in self.terms

    @property
    def views(self) -> int:
        """Further views of an image that it asks for."""
        return max(TERMS[name].views for name in self.terms)

    @property
    def mask_by_similarity(self) -> bool:
        """Whether it may choose the masked elements by their similarity to the other modality (supplement J)."""
        return self.contrastive and self.generative and not self.masks_input

    def hides_at_random(self, masking: str) -> bool:
        """Whether it hides patches that random numbers choose, with this `objective.masking`."""
        return self.hides_patches and not self._by_similarity(masking)

    def _by_similarity(self, masking: str) -> bool:
        return self.mask_by_similarity and masking == "similarity"

    def read_keys(self) -> set[str]:
        """Those keys of `_KEYS` that its runs may read."""
        found = {key for name in self.terms for key in TERMS[name].keys}
        if len(self.terms) > 1:
            found |= {TERMS[name].weight for name in self.terms}
        if self.trains_tower:
            found |= {*TOWER_KEYS}
        if self.uses_text:
            found |= {*TEXT_TOWER_KEYS}
        if self.teacher == EMA:
            found |= {*EMA_KEYS}
        if self.masks_input:
            found |= {*INPUT_MASK_KEYS}
        if self.views:
            found |= {*VIEWS_KEYS}
        if self.hides_patches:
            found |= {*MASK_KEYS}
        return found | {"objective.masking", *SIMILARITY_KEYS} if self.mask_by_similarity else found

    @functools.cache  # noqa: B019 - there are as many recipes as RECIPES has
    def unread_keys(self, masking: str, shape: str) -> dict[str, str]:
        """Keys that a run does not read → the key that it reads instead, or empty; both are values of `objective`:
        `masking` and `mask.shape`."""
        read = self.read_keys() - {*(MASK_KEYS if self._by_similarity(masking) else SIMILARITY_KEYS)}
        read -= {*(BLOCK_KEYS if shape != "blocks" else ())}
        swapped = {**_INSTEAD, **{other: key for key, other in _INSTEAD.items()}}
        return {key: other if (other := swapped.get(key, "")) in read else "" for key in _KEYS if key not in read}


_KEYS = tuple(
    dict.fromkeys(
        key
        for key in (
            *(
                "objective.masking",
                *SIMILARITY_KEYS,
                *MASK_KEYS,
                *INPUT_MASK_KEYS,
                *TOWER_KEYS,
                *TEXT_TOWER_KEYS,
                *EMA_KEYS,
                *VIEWS_KEYS,
            ),
            *(key for term in TERMS.values() for key in (term.weight, *term.keys)),
        )
        if key
    )
)
"""Keys that some recipe does not read."""

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("clip", (CONTRASTIVE,)),
        Recipe("masked_clip", (CONTRASTIVE,), masks_input=True),
        Recipe("mae", (IMAGE,)),
        Recipe("m3ae", (IMAGE, TEXT)),
        Recipe("mae_clip", (CONTRASTIVE, IMAGE, TEXT)),
        Recipe("clip_mae", (CONTRASTIVE, IMAGE)),
        Recipe("maskclip", (CONTRASTIVE, DISTILL), teacher=EMA),
        Recipe("maskclip_no_ema", (CONTRASTIVE, DISTILL), teacher=SELF),
        Recipe("two_stage", (DISTILL,), teacher=RUN),
        Recipe("simclr", (SIMCLR,)),
        Recipe("clip_simclr", (CONTRASTIVE, SIMCLR)),
        Recipe("clip_beit", (CONTRASTIVE, CODES), teacher=TOKENIZER),
        Recipe("fsq", (FSQ,)),
    )
}
"""Name (`objective.name`) → recipe."""


class Mask(Protocol):
    """The part of an objective that says in what shape patches are hidden."""

    @property
    def shape(self) -> str: ...


class Objective(Protocol):
    """The part of a configuration that says what is optimised."""

    @property
    def name(self) -> str: ...
    @property
    def masking(self) -> str: ...
    @property
    def mask(self) -> Mask: ...


def recipe_of(objective: Objective) -> Recipe:
    return RECIPES[objective.name]


def unread_keys(objective: Objective) -> dict[str, str]:
    """Keys that a run with this objective does not read → the key that it reads instead, or empty."""
    return recipe_of(objective).unread_keys(objective.masking, objective.mask.shape)


def named(trait: str) -> str:
    """Names of the recipes with this property, such as `contrastive`, for messages: `a, b or c`."""
    *others, last = (name for name, recipe in RECIPES.items() if getattr(recipe, trait))
    return f"{', '.join(others)} or {last}" if others else last
