"""One optimiser step over a global batch, for any micro-batch.

The contrastive loss needs the whole batch at once, its graph does not: features are computed piece by piece
without a graph, the loss is taken over all of them, and each piece is computed again with its features' gradient
fed in (GradCache, Gao et al. 2021, arXiv 2101.06983; open_clip's `--accum-freq`). One extra forward pass buys
exact negatives in little memory. Reconstruction losses are weighted sums over samples and simply add up. Pieces hold
captions of like length, so that each is padded to its own longest alone; order is restored wherever it matters.

Several processes do the same with their rows: features are gathered, each process takes the loss of its rows
against all, and the gradients of features, the losses and the gradients of parameters are summed over processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ablative.trainer.clip.data.images.streams import stream
from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.micro_batches import Piece, by_length
from ablative.trainer.clip.models.blocks import Transformer
from ablative.trainer.clip.models.towers import trim_padding
from ablative.trainer.clip.objectives.losses import (
    LossWeights,
    contrastive_loss,
    contrastive_share,
    local_contrastive_loss,
    loss_weights,
    token_weights,
)
from ablative.trainer.clip.objectives.system import Draws, Embeddings, System
from ablative.trainer.clip.optim import learning_rate, make_optimizer, set_learning_rate
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.spec.recipes import RECIPES
from ablative.trainer.torch.distributed import ALONE, World
from ablative.trainer.torch.divergence import DivergenceWatch


@dataclass(frozen=True)
class FirstPass:
    """Outcome of the first pass over a piece; features or counts are None where the objective has none."""

    features: Embeddings | None
    """They keep their graph where the batch is one piece: then the first pass is the only one."""
    counts: Tensor | None
    """(b,) masked tokens."""
    places: Tensor | slice
    """The piece's rows in this process's rows of the batch: int64 (b,) or a slice."""


class Gradients:
    """Losses of a global batch; their gradient is added to every parameter's `.grad`."""

    def __init__(self, system: System, config: RunConfig, device: torch.device, world: World = ALONE) -> None:
        self.system = system
        self.config = config
        self.device = device
        self.world = world
        self.contrast = RECIPES[config.objective.name].contrast
        present = {
            "contrastive": system.contrastive,
            "image": system.generative,
            "text": system.generative and system.uses_text,
        }
        self.names = tuple(name for name, here in present.items() if here)
        for module in system.modules():
            if isinstance(module, Transformer):
                module.recompute = config.runtime.checkpoint_activations
        compiled = config.runtime.compile and device.type == "cuda"
        self._embed = torch.compile(system.embed) if compiled else system.embed
        self._reconstruct = torch.compile(system.reconstruct) if compiled else system.reconstruct
        # On a CPU the exact count costs nothing, and the vocabulary head is spared the rounding.
        self._bound_rows = "text" in self.names and device.type != "cpu"

    def __call__(self, step: int, batch: Batch, draws: Draws) -> Tensor:
        """Mean losses (parts,) of the global batch in the order of `names`, without graph.

        `batch` and `draws` are this process's rows of it, on the CPU.
        """
        weights = loss_weights(self.config.objective, step)
        micro = self.config.runtime.micro_batch or len(batch)
        images = self._moved(batch.images)
        pieces = [
            self._piece(images, batch.tokens[places], draws[places], places)
            for places in by_length(batch.tokens, micro)
        ]
        if self.world.size == 1:
            return self._whole(pieces[0], weights) if len(pieces) == 1 else self._split(pieces, weights, len(batch))
        losses = self._split(pieces, weights, self.config.schedule.batch_size)
        gradients = [parameter.grad for parameter in self.system.parameters() if parameter.grad is not None]
        self.world.add([losses, *gradients])
        return losses

    def _whole(self, piece: Piece, weights: LossWeights) -> Tensor:
        """Losses (parts,) of the whole batch in one pass; adds their gradients."""
        images = piece.images()
        parts: dict[str, Tensor] = {}
        embeddings = None
        if self.system.contrastive:
            embeddings = self._features(images, piece)
            parts["contrastive"] = self._contrast(embeddings.image, embeddings.text, weights)
        if self.system.generative:
            parts |= self._restore(images, piece, embeddings, len(images), None)
        _total(parts, weights).backward()
        return torch.stack([parts[name].detach() for name in self.names])

    def _split(self, pieces: list[Piece], weights: LossWeights, size: int) -> Tensor:
        """This process's part of a batch of `size`, piece by piece: first what the means over the batch depend on,
        then the gradients. Losses (parts,) and gradients are those that its rows add to the batch's."""
        with torch.set_grad_enabled(len(pieces) == 1):
            first_passes = [self._first_pass(piece) for piece in pieces]
        values = dict.fromkeys(self.names, torch.zeros((), device=self.device))
        if self.system.contrastive:
            values["contrastive"], image_slopes, text_slopes = self._slopes(first_passes, weights, size)
        shares = self._shares(first_passes, size)
        for piece in pieces:
            images, rows = piece.images(), piece.places
            loss, embeddings = torch.zeros((), device=self.device), None
            if self.system.contrastive:
                embeddings = first_passes[0].features if len(pieces) == 1 else self._features(images, piece)
                assert embeddings is not None
                # Only the gradient of this product means something: it is the contrastive loss's own.
                loss = (embeddings.image * image_slopes[rows]).sum() + (embeddings.text * text_slopes[rows]).sum()
            if self.system.generative:
                parts = self._restore(images, piece, embeddings, size, shares[rows] if shares is not None else None)
                loss = loss + _total(parts, weights)
                values |= {name: values[name] + part.detach() for name, part in parts.items()}
            loss.backward()
        return torch.stack([values[name] for name in self.names])

    def _first_pass(self, piece: Piece) -> FirstPass:
        features = self._features(piece.images(), piece) if self.system.contrastive else None
        counts = None
        if "text" in self.names:
            counts = self.system.text_counts(piece.tokens, piece.draws, features)
        return FirstPass(features, counts, piece.places)

    def _slopes(self, first_passes: list[FirstPass], weights: LossWeights, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """This process's part of the batch's contrastive loss, and the whole loss's gradient to its image and
        text features (b,E); the logit scale, which no piece sees, gets its gradient here."""
        features = [part.features for part in first_passes if part.features is not None]
        own = in_order([torch.stack([part.image, part.text], 1) for part in features], first_passes)
        image, text = (side.contiguous().requires_grad_() for side in self.world.gather(own, size).unbind(1))
        loss = self._contrast(image, text, weights)
        (weights.contrastive * loss).backward()
        assert image.grad is not None and text.grad is not None
        # The rows of every process contribute to the gradient of every feature.
        self.world.add([image.grad, text.grad])
        rows = self.world.rows(size)
        return loss.detach(), image.grad[rows], text.grad[rows]

    def _shares(self, first_passes: list[FirstPass], size: int) -> Tensor | None:
        """(b,) what each sample's summed token loss counts for in the text loss of a batch of `size`."""
        counts = [part.counts for part in first_passes if part.counts is not None]
        if not counts:
            return None
        found = self.world.gather(in_order(counts, first_passes), size)
        return token_weights(found, self.config.objective.text_loss_norm)[self.world.rows(size)]

    def _piece(self, images: Tensor, tokens: Tensor, draws: Draws, places: Tensor | slice) -> Piece:
        """A piece on the device, from images (B,…) on it and from its tokens (b,L) and draws on the CPU."""
        # Contiguous: a view would be copied once more on its way, and be another graph to the compiler.
        tokens = trim_padding(tokens).contiguous()
        return Piece(
            images,
            self._moved(tokens),
            Draws(self._moved(draws.image), self._moved(draws.text)),
            self.system.text_rows(tokens) if self._bound_rows else None,
            places if isinstance(places, slice) else self._moved(places),
        )

    def _moved(self, x: Tensor) -> Tensor:
        """x on the device; pinned first, since a copy from pageable memory would wait for all work queued there."""
        return x.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else x

    def _autocast(self) -> torch.autocast:
        # One context per pass: weights that a pass without graph has cast would have no gradient in the next pass.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.schedule.precision == "bf16")

    def _features(self, images: Tensor, piece: Piece) -> Embeddings:
        with self._autocast():
            return self._embed(images, piece.tokens, piece.draws)

    def _contrast(self, image: Tensor, text: Tensor, weights: LossWeights) -> Tensor:
        """Unit vectors (B,E) of the whole batch → this process's part of its loss, scalar."""
        scale, size = self.system.logit_scale, len(image)
        if self.world.size > 1:
            group = self.config.objective.local_batch if weights.local else size
            return contrastive_share(image, text, scale, self.world.rows(size), group, self.contrast)
        if weights.local:
            return local_contrastive_loss(image, text, scale, self.config.objective.local_batch, self.contrast)
        return contrastive_loss(image, text, scale, self.contrast)

    def _restore(
        self, images: Tensor, piece: Piece, embeddings: Embeddings | None, size: int, shares: Tensor | None
    ) -> dict[str, Tensor]:
        """The piece's share of the batch's reconstruction losses; `shares` None: the piece is the batch."""
        with self._autocast():
            found = self._reconstruct(images, piece.tokens, piece.draws, embeddings, piece.rows)
        parts = {"image": found.image.sum() / size}
        if "text" in self.names:
            if shares is None:
                shares = token_weights(found.text_count, self.config.objective.text_loss_norm)
            parts["text"] = (shares * found.text).sum()
        return parts


def in_order(parts: list[Tensor], first_passes: list[FirstPass]) -> Tensor:
    """What each piece has for its samples (b,…), as this process's rows of the batch (B,…); one keeps its graph."""
    if len(parts) == 1:
        return parts[0]
    rows = torch.cat(parts)
    for part, piece in zip(parts, first_passes, strict=True):
        rows[piece.places] = part
    return rows


def _total(parts: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """Weighted sum of losses, scalar."""
    return torch.stack([getattr(weights, name) * value for name, value in parts.items()]).sum()


class TrainStep:
    """One step: draws, gradients, update. Holds the optimiser and watches for divergence."""

    def __init__(self, system: System, config: RunConfig, device: torch.device, world: World = ALONE) -> None:
        self.system = system
        self.config = config
        self.optimizer = make_optimizer(system, config.schedule, device)
        self.gradients = Gradients(system, config, device, world)
        self.rows = world.rows(config.schedule.batch_size)
        self.parameters = dict(system.named_parameters())
        self.watch = DivergenceWatch(self.gradients.names, tuple(self.parameters), device)
        self._generator = torch.Generator()
        self._step = 0
        self._losses = torch.zeros(len(self.gradients.names))
        self._norm = torch.zeros(())

    def __call__(self, step: int, batch: Batch) -> None:
        """Update number `step`, counted from 0, on this process's rows of that step's batch. Never waits for a GPU."""
        self._generator.manual_seed(stream("draws", self.config.seed, step))
        draws = self.system.draw(self.config.schedule.batch_size, self._generator)[self.rows]
        set_learning_rate(self.optimizer, learning_rate(self.config.schedule, step))
        self.optimizer.zero_grad()
        losses = self.gradients(step, batch, draws)
        norms = self._clip()
        self.optimizer.step()
        self.watch.update(step + 1, torch.cat([losses, norms]))
        self._step, self._losses = step, losses

    def _clip(self) -> Tensor:
        """Clip the global norm if asked to; norms (parameters,) of every gradient before that."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        assert len(gradients) == len(self.parameters), "a parameter that no loss depends on"
        norms = torch.stack(torch._foreach_norm(gradients))
        self._norm = torch.linalg.vector_norm(norms)
        if self.config.schedule.grad_clip:
            factor = (self.config.schedule.grad_clip / (self._norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(gradients, factor)
        return norms

    def metrics(self) -> dict[str, float]:
        """`train/…` of the last step; waits for the device."""
        weights = loss_weights(self.config.objective, self._step)
        values = dict(zip(self.gradients.names, self._losses.tolist(), strict=True))
        total = sum(getattr(weights, name) * value for name, value in values.items())
        if self.system.contrastive:
            values["logit_scale"] = self.system.logit_scale.item()
        values |= {"lr": learning_rate(self.config.schedule, self._step), "grad_norm": self._norm.item()}
        return {f"train/{name}": value for name, value in ({"loss": total} | values).items()}
