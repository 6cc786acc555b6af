"""What an objective trains: the towers with their heads, the decoder, and the two passes through them.

CLIP, masked CLIP, MAE, M3AE and MAE-CLIP are choices of parts on one trunk: `contrastive` ones have
heads into a joint space and the pass `embed`, `generative` ones a decoder and the pass `reconstruct`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablative.study.core.errors import ConfigError
from ablative.trainer.clip.models.blocks import initialise
from ablative.trainer.clip.models.decoder import Decoder
from ablative.trainer.clip.models.patches import patchify
from ablative.trainer.clip.models.pooling import FIXED, Head, MeanPool, make_pool
from ablative.trainer.clip.models.splits import MaskSplit, keep_counts, take
from ablative.trainer.clip.models.towers import ImageTower, TextTower
from ablative.trainer.clip.objectives.losses import normalize_patches, pixel_loss, token_loss
from ablative.trainer.clip.objectives.masking import filip_similarity, pooled_similarity, split_image, split_text
from ablative.trainer.clip.spec.config import ModelConfig, ObjectiveConfig
from ablative.trainer.clip.spec.recipes import RECIPES, named
from ablative.trainer.clip.token_ids import PAD

UNDECAYED = ("positions", "text_positions", "image_mask", "text_mask", "modality", "probe", "log_scale")

ROWS_MULTIPLE = 64


def no_decay(name: str, param: Tensor) -> bool:
    """Whether AdamW leaves a parameter alone: biases, norms, positions, tokens, probes, temperature.

    The paper is silent; open_clip and FLIP exclude the same.
    """
    return param.ndim <= 1 or name.rsplit(".", 1)[-1] in UNDECAYED


@dataclass(frozen=True)
class Draws:
    """Every random number of a batch; slice it along with the batch."""

    image: Tensor
    """Uniform fp32 (B,N), or (B,0) where no patch is ever hidden."""
    text: Tensor
    """Uniform fp32 (B,L), or (B,0)."""

    def __getitem__(self, rows: slice | Tensor) -> Draws:
        return Draws(self.image[rows], self.text[rows])

    def to(self, device: torch.device | str) -> Draws:
        return Draws(self.image.to(device), self.text.to(device))


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


class Reconstruction(NamedTuple):
    """Outcome of the reconstructing pass, per sample."""

    image: Tensor
    """(B,) mean squared error over masked patches."""
    text: Tensor
    """(B,) cross-entropy summed over masked tokens; zeros without text."""
    text_count: Tensor
    """(B,) masked tokens, int64."""


class System(nn.Module):
    """The trained parts of one objective."""

    def __init__(self, model: ModelConfig, objective: ObjectiveConfig, vocab_size: int) -> None:
        """Initialised from torch's global generator, which the caller seeds."""
        super().__init__()
        self.model, self.objective = model, objective
        recipe = RECIPES[objective.name]
        self.contrastive, self.generative, self.uses_text = recipe.contrastive, recipe.generative, recipe.uses_text
        self.masks_input = recipe.masks_input
        self.hides_input_text = recipe.masks_input and objective.input_text_mask_ratio > 0
        self.by_similarity = recipe.mask_by_similarity and objective.masking == "similarity"
        norm_here = model.ln_after_pool and self.contrastive
        self.image = ImageTower(model, normalize=not norm_here)
        if self.uses_text:
            self.text = TextTower(model, vocab_size, normalize=not norm_here)
        if self.contrastive:
            self.image_head = self._head(model.pooling, model.width, model.heads)
            text_pooling = model.pooling if model.text_pooling == "same" else model.text_pooling
            self.text_head = self._head(text_pooling, model.text_width, model.text_heads)
            self.log_scale = nn.Parameter(torch.tensor(math.log(1 / objective.temperature)))
        if self.generative:
            self.decoder = Decoder(model, vocab_size if self.uses_text else None)
        initialise(self, model.init_std)

    def _head(self, kind: str, width: int, heads: int) -> Head:
        model = self.model
        pool = make_pool(kind, width, model.map_heads or heads, model.mlp_ratio, model.map_residual)
        return Head(pool, width, model.embed_dim, norm_here=model.ln_after_pool)

    # ---- evaluation: whole inputs

    def image_tokens(self, images: Tensor) -> Tensor:
        """images (B,3,S,S) → (B,N,D) after the final LayerNorm."""
        tokens = self.image(images)
        return self.image_head.norm(tokens) if self.contrastive else tokens

    def text_tokens(self, tokens: Tensor) -> Tensor:
        """tokens int64 (B,L), 0 is padding → (B,L,d) after the final LayerNorm."""
        words = self.text(tokens, tokens != PAD)
        return self.text_head.norm(words) if self.contrastive else words

    def image_features(self, images: Tensor, kind: str) -> Tensor:
        """images (B,3,S,S) → (B,D), or (B,E) unit vectors for "projected".

        "pooled": before the projection, by the trained pooling. MAE and M3AE train none: theirs where that
        learns nothing, the mean otherwise. "mean": the mean of the tokens whatever the pooling.
        """
        if kind == "projected":
            return self.encode_image(images)
        if kind == "mean":
            return self.image_tokens(images).mean(1)
        assert kind == "pooled", kind
        if self.contrastive:
            return self.image_head.pooled(self.image(images))
        pool = FIXED.get(self.model.pooling, MeanPool)()
        return pool(self.image_tokens(images))

    def patch_embeddings(self, images: Tensor) -> Tensor:
        """images (B,3,S,S) → every patch in the joint space, unit vectors (B,N,E)."""
        self._require_joint_space()
        return self.image_head.elements(self.image(images))

    def encode_image(self, images: Tensor) -> Tensor:
        """images (B,3,S,S) → unit vectors (B,E)."""
        self._require_joint_space()
        return self.image_head(self.image(images))

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

    # ---- training

    @property
    def logit_scale(self) -> Tensor:
        """1/temperature, a scalar; held at or below `max_logit_scale` (in place, as open_clip does after steps)."""
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(self.objective.max_logit_scale))
        return self.log_scale.exp()

    def draw(self, batch_size: int, generator: torch.Generator) -> Draws:
        """Every random number of a global batch, whatever its micro-batches; `generator` is a CPU one."""
        patches = len(self.image.positions) if self.generative or self.masks_input else 0
        words = self.model.context_length if (self.generative and self.uses_text) or self.hides_input_text else 0
        return Draws(
            torch.rand(batch_size, patches, generator=generator), torch.rand(batch_size, words, generator=generator)
        )

    def embed(self, images: Tensor, tokens: Tensor, draws: Draws) -> Embeddings:
        """Contrastive pass over images (B,3,S,S) and tokens (B,L): encode both, pool, project.

        Unmasked, except in masked CLIP, whose towers see what input_mask_ratio and input_text_mask_ratio leave.
        """
        keep, keep_words = None, None
        valid = tokens != PAD
        if self.masks_input:
            keep = split_image(draws.image, self.objective.input_mask_ratio).visible
        if self.hides_input_text:
            shown = split_text(draws.text[:, : valid.shape[1]], valid, self.objective.input_text_mask_ratio)
            assert shown.visible_valid is not None
            keep_words, valid = shown.visible, shown.visible_valid
        patches, words = self.image(images, keep), self.text(tokens, valid, keep_words)
        image, text = self.image_head(patches), self.text_head(words, valid)
        if not self.by_similarity:
            return Embeddings(image, text)
        return Embeddings(image, text, *self._similarities(patches, words, valid, image, text))

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

    def reconstruct(
        self,
        images: Tensor,
        tokens: Tensor,
        draws: Draws,
        embeddings: Embeddings | None = None,
        text_rows: int | None = None,
    ) -> Reconstruction:
        """Masked pass: choose what to hide, encode the rest, decode, compare what was hidden.

        images (B,3,S,S), tokens (B,L); similarity masking needs the `embeddings` of the same samples.
        `text_rows` (see `text_rows`) spares the vocabulary head its padding on a GPU.
        """
        tokens = self._counted(tokens)
        valid = tokens != PAD
        image_split, text_split = self.splits(valid, draws, embeddings)
        patches = self.image(images, image_split.visible)
        if text_split is None:
            image_rows = self.decoder.image_rows(patches, image_split)
            sums, counts = image_rows.new_zeros(len(images)), valid.new_zeros(len(images), dtype=torch.int64)
        else:
            words = self.text(tokens, text_split.visible_valid, text_split.visible)
            image_rows, word_rows = self.decoder.rows(patches, words, (image_split, text_split), valid)
            sums = self._token_sums(word_rows, tokens, text_split, text_rows)
            counts = text_split.hidden_counts()
        return Reconstruction(self._pixel_losses(image_rows, images, image_split), sums, counts)

    def text_counts(self, tokens: Tensor, draws: Draws, embeddings: Embeddings | None = None) -> Tensor:
        """(B,) masked tokens that `reconstruct` will find; `token_weights` needs those of the global batch."""
        valid = self._counted(tokens) != PAD
        _, split = self.splits(valid, draws, embeddings)
        return valid.new_zeros(len(valid), dtype=torch.int64) if split is None else split.hidden_counts()

    def text_rows(self, tokens: Tensor) -> int:
        """Upper bound of the masked tokens of a (micro-)batch, from its tokens (B,L) still on the CPU.

        Known there for nothing, it would cost a synchronisation on a GPU. Rounded up, so that shapes are few.
        """
        lengths = (tokens != PAD).sum(1)
        if not self.objective.include_pads:
            lengths = lengths - keep_counts(lengths, self.objective.text_mask_ratio)
        return -(-int(lengths.sum()) // ROWS_MULTIPLE) * ROWS_MULTIPLE

    def _counted(self, tokens: Tensor) -> Tensor:
        """Tokens with all the padding that counts towards the mask ratio, should it have been trimmed."""
        missing = self.model.context_length - tokens.shape[1] if self.objective.include_pads else 0
        return F.pad(tokens, (0, missing), value=PAD) if missing else tokens

    @torch.no_grad()
    def splits(self, valid: Tensor, draws: Draws, embeddings: Embeddings | None) -> tuple[MaskSplit, MaskSplit | None]:
        """What is hidden of images and of texts, valid bool (B,L); nothing of texts where there are none."""
        objective = self.objective
        image, text = draws.image, draws.text[:, : valid.shape[1]]
        if self.by_similarity:
            assert embeddings is not None, "similarity masking needs the embeddings of the contrastive pass"
            _, _, of_image, of_text = embeddings
            assert of_image is not None and of_text is not None
            of_text = F.pad(of_text, (0, valid.shape[1] - of_text.shape[1]))
            sign = 1.0 if objective.similarity_select == "high" else -1.0
            image = sign * of_image + objective.similarity_noise * image
            text = sign * of_text + objective.similarity_noise * text
        image_split = split_image(image, objective.mask_ratio)
        if not self.uses_text:
            return image_split, None
        return image_split, split_text(text, valid, objective.text_mask_ratio, objective.include_pads)

    def _pixel_losses(self, rows: Tensor, images: Tensor, split: MaskSplit) -> Tensor:
        """Decoded rows (B,M,W) of the hidden patches of images (B,3,S,S) → (B,)."""
        target = take(patchify(images, self.model.patch_size), split.hidden)
        if self.objective.normalize_pixels:
            target = normalize_patches(target)
        return pixel_loss(self.decoder.to_pixels(rows), target)

    def _token_sums(self, rows: Tensor, tokens: Tensor, split: MaskSplit, limit: int | None) -> Tensor:
        """Decoded rows (B,M,W) of the hidden tokens of tokens (B,L) → (B,) summed losses.

        The vocabulary head is as dear as an encoder, so it sees real tokens only: valid slots are
        sorted to the front and the first `limit` of them taken.
        """
        assert split.hidden_valid is not None
        valid = split.hidden_valid.flatten()
        if limit is None:
            limit = int(valid.sum()) if valid.device.type == "cpu" else len(valid)
        chosen = valid.to(torch.int8).argsort(descending=True, stable=True)[:limit]
        targets = tokens.gather(1, split.hidden).flatten()[chosen]
        head = self.decoder.to_tokens
        losses = token_loss(rows.flatten(0, 1).index_select(0, chosen), head.weight, head.bias, targets)
        losses = losses.where(valid[chosen], 0)
        return losses.new_zeros(len(valid)).scatter(0, chosen, losses).view_as(split.hidden).sum(1)
