"""Objectives as recipes: what each one trains, and which keys of a configuration its runs do not read.

Everything that asks what an objective is asks this table: losses, FLOPs, checks, protocols, and the plan, which sets
keys that a recipe does not read back to what the cell's config groups give them. It imports nothing, torch included.

A key is unread only if neither training nor any protocol on the trained model reads it: visual question answering
takes its decoder's sizes, the width of words and the length of texts from the model of every run, and the pooling is
that of features also where none is trained.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

INFO_NCE = "softmax"
"""The contrastive loss of CLIP: a pair against all others of its batch, by a softmax in both directions."""
INPUT_MASK_KEYS = ("objective.input_mask_ratio", "objective.input_text_mask_ratio")
SIMILARITY_KEYS = ("objective.similarity_select", "objective.similarity_reduce", "objective.similarity_noise")
"""Read where the masked elements are chosen by similarity (`objective.masking`)."""
CONTRASTIVE_KEYS = (
    "objective.temperature",
    "objective.max_logit_scale",
    "objective.local_steps",
    "objective.local_batch",
    "model.embed_dim",
    "model.text_pooling",
    "model.map_heads",
    "model.map_residual",
    "model.ln_after_pool",
)
"""Keys of the contrastive loss, and of the heads into the joint space."""
TEXT_TARGET_KEYS = (
    "objective.text_mask_ratio",
    "objective.w_text",
    "objective.text_loss_norm",
    "objective.include_pads",
)
TEXT_TOWER_KEYS = ("model.text_depth", "model.text_heads")
GENERATIVE_KEYS = (
    "objective.masking",
    "objective.mask_ratio",
    "objective.w_image",
    "objective.normalize_pixels",
    *TEXT_TARGET_KEYS,
    *SIMILARITY_KEYS,
)
_INSTEAD = {
    "objective.mask_ratio": "objective.input_mask_ratio",
    "objective.text_mask_ratio": "objective.input_text_mask_ratio",
}
"""Pairs of keys that are easily confused: a recipe reads one of them at most."""


@dataclass(frozen=True)
class Recipe:
    """One objective."""

    name: str
    contrastive: bool = False
    """It trains a joint embedding of images and texts."""
    contrast: str = INFO_NCE
    """Its contrastive loss, by its name in `trainer.clip.objectives.losses.CONTRASTS`."""
    generative: bool = False
    """It reconstructs masked elements through the decoder."""
    uses_text: bool = True
    masks_input: bool = False
    """It drops elements from the contrastive pass itself."""
    unread: tuple[str, ...] = field(default=())
    """Keys that no run of it reads."""

    @property
    def mask_by_similarity(self) -> bool:
        """Whether it may choose the masked elements by their similarity to the other modality (supplement J)."""
        return self.contrastive and self.generative and not self.masks_input

    @functools.cache  # noqa: B019 - there are as many recipes as RECIPES has
    def unread_keys(self, masking: str) -> dict[str, str]:
        """Keys that a run with this `objective.masking` does not read → the key that it reads instead, or empty."""
        conditional = SIMILARITY_KEYS if masking != "similarity" else ()
        unread = dict.fromkeys((*self.unread, *conditional))
        swapped = {**_INSTEAD, **{other: key for key, other in _INSTEAD.items()}}
        return {key: other if (other := swapped.get(key, "")) not in unread else "" for key in unread}


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("clip", contrastive=True, unread=(*GENERATIVE_KEYS, *INPUT_MASK_KEYS)),
        Recipe("masked_clip", contrastive=True, masks_input=True, unread=GENERATIVE_KEYS),
        Recipe(
            "mae",
            generative=True,
            uses_text=False,
            unread=(
                *("objective.masking", "objective.w_image", *SIMILARITY_KEYS, *INPUT_MASK_KEYS),
                *(*CONTRASTIVE_KEYS, *TEXT_TARGET_KEYS, *TEXT_TOWER_KEYS),
            ),
        ),
        Recipe(
            "m3ae",
            generative=True,
            unread=("objective.masking", *SIMILARITY_KEYS, *INPUT_MASK_KEYS, *CONTRASTIVE_KEYS),
        ),
        Recipe("mae_clip", contrastive=True, generative=True, unread=INPUT_MASK_KEYS),
    )
}
"""Name (`objective.name`) → recipe."""


def named(trait: str) -> str:
    """Names of the recipes with this property, such as `contrastive`, for messages: `a, b or c`."""
    *others, last = (name for name, recipe in RECIPES.items() if getattr(recipe, trait))
    return f"{', '.join(others)} or {last}" if others else last
