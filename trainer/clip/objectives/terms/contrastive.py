"""The contrastive loss of images and their captions, in a joint space (MAE-CLIP eq. 1 and 2)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ablative.trainer.clip.models.pooling import Head, image_pool, make_pool
from ablative.trainer.clip.objectives.losses import contrastive_loss, contrastive_share, local_contrastive_loss
from ablative.trainer.clip.objectives.masking import filip_similarity, pooled_similarity, split_image, split_text
from ablative.trainer.clip.objectives.terms.term import BatchTerm, Inputs, Setting
from ablative.trainer.clip.spec.recipes import CONTRASTIVE, SELF
from ablative.trainer.clip.token_ids import PAD


class Embeddings(NamedTuple):
    """Outcome of the contrastive pass: unit vectors, fp32."""

    image: Tensor
    """(B,E)."""
    text: Tensor
    """(B,E)."""
    image_similarity: Tensor | None = None
    """(B,N) of every patch to the caption, without gradient; only where similarity masking will ask for it."""
    text_similarity: Tensor | None = None
    """(B,L) of every token to the image, without gradient; 0 for padding; only with similarity masking."""
    patches: Tensor | None = None
    """(B,N,D) features of every patch, without gradient; only where the student is its own teacher."""


class Contrastive(BatchTerm[Embeddings]):
    """Both towers over whole inputs (in masked CLIP: over what masking leaves), pooled, projected, compared."""

    names = (CONTRASTIVE,)

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        model, objective = setting.model, setting.objective
        self.hides_text = self.recipe.masks_input and objective.input_text_mask_ratio > 0
        self.similarities = self.recipe.mask_by_similarity and objective.masking == "similarity"
        self.image_head = self._head(image_pool(model), model.width)
        kind = model.pooling if model.text_pooling == "same" else model.text_pooling
        text_pool = make_pool(
            kind, model.text_width, model.map_heads or model.text_heads, model.mlp_ratio, model.map_residual
        )
        self.text_head = self._head(text_pool, model.text_width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / objective.temperature)))
        self.parts = {"image_head": self.image_head, "text_head": self.text_head, "log_scale": self.log_scale}

    def _head(self, pool: nn.Module, width: int) -> Head:
        return Head(pool, width, self.model.embed_dim, norm_here=self.model.ln_after_pool)

    @property
    def logit_scale(self) -> Tensor:
        """1/temperature, a scalar; held at or below `max_logit_scale` (in place, as open_clip does after steps)."""
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(self.objective.max_logit_scale))
        return self.log_scale.exp()

    def metrics(self) -> dict[str, float]:
        return {"logit_scale": self.logit_scale.item()}

    def draws(self) -> tuple[int, int]:
        patches = self.image.count if self.recipe.masks_input else 0
        return patches, self.model.context_length if self.hides_text else 0

    def features(self, inputs: Inputs) -> Embeddings:
        assert self.text is not None
        objective, tokens, draws = self.objective, inputs.tokens, inputs.draws
        keep_words, paths = None, self.paths(draws)
        valid = tokens != PAD
        if self.recipe.masks_input:
            split = split_image(draws.image, objective.input_mask_ratio)
            seen = self.image.masked(inputs.images, split, paths)
        else:
            seen = self.image(inputs.images, paths=paths)
        if self.hides_text:
            shown = split_text(draws.text[:, : valid.shape[1]], valid, objective.input_text_mask_ratio)
            assert shown.visible_valid is not None
            keep_words, valid = shown.visible, shown.visible_valid
        words = self.text(tokens, valid, keep_words)
        image, text = self.image_head(seen), self.text_head(words, valid)
        patches = self.image.patches(seen)
        own = patches.detach() if self.recipe.teacher == SELF else None
        if not self.similarities:
            return Embeddings(image, text, patches=own)
        return Embeddings(image, text, *self._similarities(patches, words, valid, image, text), own)

    @torch.no_grad()
    def _similarities(
        self, patches: Tensor, words: Tensor, valid: Tensor, image: Tensor, text: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Element-wise CLIP similarity (section 4.1): patches (B,N,D) and words (B,L,d) to the other
        modality's embedding (B,E), or to the nearest of its elements → (B,N), (B,L)."""
        patches, words = self.image_head.elements(patches), self.text_head.elements(words)
        if self.objective.similarity_reduce == "pooled":
            of_image, of_text = pooled_similarity(patches, text), pooled_similarity(words, image)
        else:
            of_image, of_text = filip_similarity(patches, words, valid), filip_similarity(words, patches)
        return of_image, of_text.masked_fill(~valid, 0)

    def crossing(self, features: Embeddings) -> tuple[Tensor, ...]:
        return features.image, features.text

    def loss(self, crossing: tuple[Tensor, ...], local: bool, rows: slice | None) -> Tensor:
        image, text = crossing
        scale, contrast = self.logit_scale, self.recipe.contrast
        if rows is not None:
            group = self.objective.local_batch if local else len(image)
            return contrastive_share(image, text, scale, rows, group, contrast)
        if local:
            return local_contrastive_loss(image, text, scale, self.objective.local_batch, contrast)
        return contrastive_loss(image, text, scale, contrast)
