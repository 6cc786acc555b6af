"""What an objective trains: two towers, and what its losses need besides, with what evaluations ask of them."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ablative.study.core.errors import ConfigError
from ablative.trainer.clip.models.blocks import initialise
from ablative.trainer.clip.models.decoder import Decoder
from ablative.trainer.clip.models.pooling import Head, image_pool
from ablative.trainer.clip.models.sizes import keep_count
from ablative.trainer.clip.models.towers import ImageTower, TextTower
from ablative.trainer.clip.objectives.augmentation import NUMBERS
from ablative.trainer.clip.objectives.masking import block_scores
from ablative.trainer.clip.objectives.terms.term import Draws, Setting, Term, make_terms
from ablative.trainer.clip.spec.config import ModelConfig, ObjectiveConfig
from ablative.trainer.clip.spec.recipes import named, recipe_of
from ablative.trainer.clip.token_ids import PAD

UNDECAYED = ("positions", "text_positions", "image_mask", "text_mask", "modality", "probe", "log_scale")


def no_decay(name: str, param: Tensor) -> bool:
    """Whether AdamW leaves a parameter alone: biases, norms, positions, tokens, probes, temperature.

    The paper is silent; open_clip and FLIP exclude the same.
    """
    return param.ndim <= 1 or name.rsplit(".", 1)[-1] in UNDECAYED


class System(nn.Module):
    """The trained parts of one objective."""

    image: ImageTower
    """Where the objective trains more than a tokenizer of images."""
    text: TextTower
    """Where the objective uses texts."""
    image_head: Head
    text_head: Head
    """Where it is contrastive."""
    image_pool: nn.Module
    """Where it is not: trained, fixed where no loss pools, the mean where neither is."""
    decoder: Decoder
    """Where it is generative."""
    terms: tuple[Term, ...]
    """Its losses, whose parts these are."""

    def __init__(self, model: ModelConfig, objective: ObjectiveConfig, vocab_size: int) -> None:
        """Initialised from torch's global generator, which the caller seeds."""
        super().__init__()
        self.model, self.objective = model, objective
        self.recipe = recipe_of(objective)
        self.contrastive = self.recipe.contrastive
        self._in_blocks = self.recipe.hides_at_random(objective.masking) and objective.mask.shape == "blocks"
        norm_here = model.ln_after_pool and self.contrastive
        image = text = None
        if self.recipe.trains_tower:
            mask_token = self.recipe.replaces(objective.hidden_patches)
            self.image = image = ImageTower(model, normalize=not norm_here, mask_token=mask_token)
        if self.recipe.uses_text:
            self.text = text = TextTower(model, vocab_size, normalize=not norm_here)
        if self.recipe.trains_tower and not self.contrastive:
            self.image_pool = image_pool(model, trained=False)
        terms = []
        for term in make_terms(Setting(image, text, model, objective, vocab_size)):
            for name, part in term.parts.items():
                setattr(self, name, part)
            terms.append(term)
        self.terms = tuple(terms)
        initialise(self, model.init_std)

    def draw(self, batch_size: int, generator: torch.Generator) -> Draws:
        """Every random number of a global batch, whatever its micro-batches; `generator` is a CPU one."""
        patches, words = (max(counts) for counts in zip(*(term.draws() for term in self.terms), strict=True))
        draws = Draws(
            torch.rand(batch_size, patches, generator=generator),
            torch.rand(batch_size, words, generator=generator),
            torch.rand(self.recipe.views, batch_size, NUMBERS, generator=generator),
        )
        if self._in_blocks:
            ratio = self.objective.input_mask_ratio if self.recipe.masks_input else self.objective.mask_ratio
            count = patches - keep_count(patches, ratio)
            draws = dataclasses.replace(draws, image=block_scores(draws.image, count, self.objective.mask, generator))
        if not self.model.drop_path:
            return draws
        passes = sum(term.passes for term in self.terms)
        paths = torch.rand(passes, batch_size, 2 * self.model.depth, generator=generator)
        return dataclasses.replace(draws, paths=paths)

    # ---- evaluation: whole inputs

    def image_tokens(self, images: Tensor, paths: Tensor | None = None) -> Tensor:
        """images (B,3,S,S) → patches (B,N,D) after the final LayerNorm, without the class token.

        `paths`: random numbers of stochastic depth, as `Transformer.forward` takes them.
        """
        tokens = self.image.patches(self.image(images, paths=paths))
        return self.image_head.norm(tokens) if self.contrastive else tokens

    def text_tokens(self, tokens: Tensor) -> Tensor:
        """tokens int64 (B,L), 0 is padding → (B,L,d) after the final LayerNorm."""
        words = self.text(tokens, tokens != PAD)
        return self.text_head.norm(words) if self.contrastive else words

    def image_features(self, images: Tensor, kind: str, tap: int = 0, paths: Tensor | None = None) -> Tensor:
        """images (B,3,S,S) → (B,D), or (B,E) unit vectors for "projected".

        "pooled": before the projection, by the trained pooling. MAE and M3AE train none: theirs where that
        learns nothing, the mean otherwise. "mean": the mean of the patches whatever the pooling, after so many blocks
        (`tap`) and without the final norm, or after all of them and with it (0). `paths` as in `image_tokens`.
        """
        if tap:
            assert kind == "mean", kind
            return self.image.taps(images, (tap,), paths)[0].mean(1)
        if kind == "projected":
            return self.encode_image(images, paths)
        if kind == "mean":
            return self.image_tokens(images, paths).mean(1)
        assert kind == "pooled", kind
        if self.contrastive:
            return self.image_head.pooled(self.image(images, paths=paths))
        return self.image_pool(self.image(images, paths=paths))

    def patch_embeddings(self, images: Tensor, kind: str = "tokens") -> Tensor:
        """images (B,3,S,S) → every patch in the joint space, unit vectors (B,N,E).

        "tokens": as the tower leaves them; "values": by the value path (`ImageTower.values`).
        """
        self._require_joint_space()
        patches = self.image.values(images) if kind == "values" else self.image.patches(self.image(images))
        return self.image_head.elements(patches)

    def encode_image(self, images: Tensor, paths: Tensor | None = None) -> Tensor:
        """images (B,3,S,S) → unit vectors (B,E)."""
        self._require_joint_space()
        return self.image_head(self.image(images, paths=paths))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """tokens int64 (B,L), 0 is padding → unit vectors (B,E)."""
        self._require_joint_space()
        valid = tokens != PAD
        return self.text_head(self.text(tokens, valid), valid)

    def _require_joint_space(self) -> None:
        if not self.contrastive:
            raise ConfigError(
                f"objective '{self.objective.name}' trains no joint embedding of images and texts; "
                f"projected features, zero-shot, retrieval and segmentation need {named('contrastive')}"
            )
