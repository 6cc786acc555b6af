"""Micro-batches: which samples of a batch go through the model together."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ablative.study.core.plurals import counted
from ablative.trainer.clip.data.pairs.batch import to_pixels
from ablative.trainer.clip.objectives.augmentation import augment
from ablative.trainer.clip.objectives.terms.term import Draws, Inputs
from ablative.trainer.clip.spec.loss_options import ViewsConfig
from ablative.trainer.clip.token_ids import PAD

WHOLE = slice(None)
"""Every row."""


@dataclass(frozen=True)
class Division:
    """How a process's rows of a batch are divided into pieces."""

    size: int = 0
    """Samples of a piece at most; 0: all rows are one piece."""
    kept: int = 1
    """Pieces whose graph is kept from the first pass to the gradient; the others are computed again. One takes no room
    that a piece which is computed again would not take."""

    def describe(self, rows: int) -> str:
        """A line for the log."""
        pieces = -(-rows // self.size) if self.size else 1
        again = max(0, pieces - max(1, self.kept))
        return f"{counted(pieces, 'piece')} of a batch in this process; {again} of them computed again for the gradient"


@dataclass(frozen=True)
class Piece:
    """A micro-batch of b samples, on the device."""

    whole: Tensor
    """Images uint8 (B,S,S,3) of the whole batch: those of a piece become numbers when it is their turn."""
    tokens: Tensor
    """int64 (b,L)."""
    draws: Draws
    """Random numbers of these samples."""
    rows: int | None
    """Masked tokens at most (`SampleTerm.rows`); None lets the term count them."""
    places: Tensor | slice
    """int64 (b,), where its samples stand in this process's rows of the batch."""
    views: Tensor | None
    """Further views uint8 (V,B,S,S,3) of the whole batch, where the objective asks for them."""
    augmented: ViewsConfig
    """How these are augmented."""

    def inputs(self) -> Inputs:
        """What losses take, images as float32 (b,3,S,S)."""
        places = self.places
        own = self.whole[places] if isinstance(places, slice) else self.whole.index_select(0, places)
        return Inputs(to_pixels(own, own.device), self.tokens, self.draws, self.rows, self._views())

    def _views(self) -> Tensor | None:
        """float32 (V·b,3,S,S), the same at each call."""
        if self.views is None:
            return None
        places = self.places
        own = self.views[:, places] if isinstance(places, slice) else self.views.index_select(1, places)
        return augment(to_pixels(own.flatten(0, 1), own.device), self.draws.views.flatten(0, 1), self.augmented)


def by_length(tokens: Tensor, size: int) -> list[Tensor] | list[slice]:
    """Places of `size` captions each, the shortest first: tokens (B,L) on the CPU; one piece stays in its order.

    In one piece with a caption of 77 tokens, captions of 20 tokens would all cost as much as 77.
    """
    if len(tokens) <= size:
        return [WHOLE]
    return list((tokens != PAD).sum(1).argsort(stable=True).split(size))
