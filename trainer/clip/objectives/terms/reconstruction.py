"""Losses of masked patches, and of masked tokens, that a decoder restores from what is visible (eq. 3 and 4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ablative.trainer.clip.models.decoder import Decoder
from ablative.trainer.clip.models.patches import patchify
from ablative.trainer.clip.models.splits import MaskSplit, keep_counts, take
from ablative.trainer.clip.objectives.losses import normalize_patches, pixel_loss, token_loss, token_weights
from ablative.trainer.clip.objectives.masking import split_image, split_text
from ablative.trainer.clip.objectives.terms.contrastive import Embeddings
from ablative.trainer.clip.objectives.terms.term import Draws, Found, Inputs, SampleTerm, Setting
from ablative.trainer.clip.spec.recipes import CONTRASTIVE, IMAGE, TEXT
from ablative.trainer.clip.token_ids import PAD

ROWS_MULTIPLE = 64


class Restored(NamedTuple):
    """Outcome of the reconstructing pass, per sample."""

    image: Tensor
    """(B,) mean squared error over masked patches."""
    text: Tensor
    """(B,) cross-entropy summed over masked tokens; zeros without text."""
    text_count: Tensor
    """(B,) masked tokens, int64."""


class Reconstruction(SampleTerm[Restored]):
    """Choose what to hide, encode the rest, decode, compare what was hidden: images alone, or captions with them."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.names = tuple(name for name in (IMAGE, TEXT) if name in self.recipe.terms)
        self.counted = TEXT in self.names
        self.by_similarity = self.recipe.mask_by_similarity and setting.objective.masking == "similarity"
        vocab_size = setting.vocab_size if self.counted else None
        self.decoder = Decoder(setting.model, vocab_size, restores=self.image.mask_token is None)
        self.parts = {"decoder": self.decoder}

    def draws(self) -> tuple[int, int]:
        return self.image.count, self.model.context_length if self.counted else 0

    def losses(self, inputs: Inputs, found: Found) -> Restored:
        """Similarity masking needs the outcome of the contrastive term on the same samples; `inputs.rows` spares the
        vocabulary head its padding on a GPU."""
        images, draws = inputs.images, inputs.draws
        tokens = self._counted(inputs.tokens)
        valid = tokens != PAD
        image_split, text_split = self.splits(valid, draws, found)
        patches = self.image.masked(images, image_split, self.paths(draws))
        if text_split is None:
            image_rows = self.decoder.image_rows(patches, image_split)
            sums, counts = image_rows.new_zeros(len(images)), valid.new_zeros(len(images), dtype=torch.int64)
        else:
            assert self.text is not None
            words = self.text(tokens, text_split.visible_valid, text_split.visible)
            image_rows, word_rows = self.decoder.rows(patches, words, (image_split, text_split), valid)
            sums = self._token_sums(word_rows, tokens, text_split, inputs.rows)
            counts = text_split.hidden_counts()
        return Restored(self._pixel_losses(image_rows, images, image_split), sums, counts)

    def values(self, losses: Restored, size: int, shares: Tensor | None) -> dict[str, Tensor]:
        values = {IMAGE: losses.image.sum() / size}
        if self.counted:
            shares = self.shares(losses.text_count) if shares is None else shares
            values[TEXT] = (shares * losses.text).sum()
        return values

    def counts(self, inputs: Inputs, found: Found) -> Tensor:
        """(B,) masked tokens that `losses` will find."""
        valid = self._counted(inputs.tokens) != PAD
        _, split = self.splits(valid, inputs.draws, found)
        return valid.new_zeros(len(valid), dtype=torch.int64) if split is None else split.hidden_counts()

    def shares(self, counts: Tensor) -> Tensor:
        return token_weights(counts, self.objective.text_loss_norm)

    def rows(self, tokens: Tensor) -> int | None:
        """Upper bound of the masked tokens of a (micro-)batch, from its tokens (B,L) still on the CPU.

        Known there for nothing, it would cost a synchronisation on a GPU. Rounded up, so that shapes are few.
        """
        if not self.counted:
            return None
        lengths = (tokens != PAD).sum(1)
        if not self.objective.include_pads:
            lengths = lengths - keep_counts(lengths, self.objective.text_mask_ratio)
        return -(-int(lengths.sum()) // ROWS_MULTIPLE) * ROWS_MULTIPLE

    def _counted(self, tokens: Tensor) -> Tensor:
        """Tokens with all the padding that counts towards the mask ratio, should it have been trimmed."""
        missing = self.model.context_length - tokens.shape[1] if self.objective.include_pads else 0
        return F.pad(tokens, (0, missing), value=PAD) if missing else tokens

    @torch.no_grad()
    def splits(self, valid: Tensor, draws: Draws, found: Found) -> tuple[MaskSplit, MaskSplit | None]:
        """What is hidden of images and of texts, valid bool (B,L); nothing of texts where none are restored."""
        objective = self.objective
        image, text = draws.image, draws.text[:, : valid.shape[1]]
        if self.by_similarity:
            embeddings = found[CONTRASTIVE]
            assert isinstance(embeddings, Embeddings)
            of_image, of_text = embeddings.image_similarity, embeddings.text_similarity
            assert of_image is not None and of_text is not None
            sign = 1.0 if objective.similarity_select == "high" else -1.0
            image = sign * of_image + objective.similarity_noise * image
            if self.counted:
                of_text = F.pad(of_text, (0, valid.shape[1] - of_text.shape[1]))
                text = sign * of_text + objective.similarity_noise * text
        image_split = split_image(image, objective.mask_ratio)
        if not self.counted:
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
