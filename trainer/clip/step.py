"""One optimiser step over a global batch, for any micro-batch.

The contrastive loss needs the whole batch at once, its graph does not: features are computed piece by piece, the loss
is taken over all of them, and their gradient is fed into the graph of each piece. Graphs are kept as far as memory
allows; the other pieces are computed without one at first, and again when it is their turn (GradCache, Gao et al. 2021,
arXiv 2101.06983; open_clip's `--accum-freq`). Reconstruction losses are weighted sums over samples and simply add up.
Pieces hold captions of like length, so that each is padded to its own longest alone; order is restored wherever it
matters.

Several processes do the same with their rows: features are gathered, each process takes the loss of its rows
against all, and the gradients of features, the losses and the gradients of parameters are summed over processes.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ablative.trainer.clip.data.images.streams import stream
from ablative.trainer.clip.data.pairs.batch import Batch
from ablative.trainer.clip.micro_batches import Division, Piece, by_length
from ablative.trainer.clip.models.blocks import Transformer
from ablative.trainer.clip.models.towers import trim_padding
from ablative.trainer.clip.objectives.losses import has_local_negatives, loss_weights
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.objectives.teacher import make_teacher
from ablative.trainer.clip.objectives.terms.term import TEACHER, BatchTerm, Draws, Inputs, Outcome, SampleTerm
from ablative.trainer.clip.optim import learning_rate, make_optimizer, set_learning_rate
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.torch.distributed import ALONE, World
from ablative.trainer.torch.divergence import DivergenceWatch
from ablative.trainer.torch.gradient_sums import GradientSums

EXCHANGED = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""`schedule.exchange_precision` → type in which gradients travel."""


@dataclass(frozen=True)
class FirstPass:
    """What the losses of a batch need of a piece."""

    crossing: dict[str, Tensor]
    """(b,k,E) what the losses are functions of, of the terms that depend on the whole batch, without graph."""
    counts: dict[str, Tensor]
    """(b,) by which samples weigh, of the terms that ask for it."""
    places: Tensor | slice
    """The piece's rows in this process's rows of the batch: int64 (b,) or a slice."""
    found: dict[str, Outcome] = dataclasses.field(default_factory=dict)
    """Outcomes of these terms with their graph, where it is kept: then the first pass is the only one."""
    inputs: Inputs | None = None
    """What these outcomes were computed from, where their graph is kept."""


@dataclass(frozen=True)
class WholeBatch:
    """What the losses of the whole batch give to each of its pieces."""

    weights: dict[str, float]
    """Weight of each loss, by its name."""
    slopes: dict[str, list[Tensor]]
    """Gradients of the batch's loss to what crossed, (B,E) each, by the term's name; this process's rows."""
    shares: dict[str, Tensor]
    """(B,) what each sample counts for, of the terms that ask for it; this process's rows."""
    size: int
    """Samples."""


class Gradients:
    """Losses of a global batch; their gradient is added to every parameter's `.grad`."""

    def __init__(
        self,
        system: System,
        config: RunConfig,
        device: torch.device,
        world: World = ALONE,
        division: Division | None = None,
    ) -> None:
        """`division`: of this process's rows; without one, pieces are those of `runtime.micro_batch`."""
        self.system = system
        self.config = config
        self.device = device
        self.world = world
        self.division = division or Division(config.runtime.micro_batch)
        self.names = system.recipe.terms
        for module in system.modules():
            if isinstance(module, Transformer):
                module.recompute = config.runtime.checkpoint_activations
        compiled = config.runtime.compile and device.type == "cuda"
        run = torch.compile if compiled else lambda function: function
        self.teacher = make_teacher(system)
        self._taught = run(self.teacher.features) if self.teacher else None
        self.batch_terms = [(term, run(term.features)) for term in system.terms if isinstance(term, BatchTerm)]
        trained = [parameter for parameter in system.parameters() if parameter.requires_grad]
        self._sums = GradientSums(trained, world, EXCHANGED[config.schedule.exchange_precision])
        self._sample_terms = [(term, run(term.losses)) for term in system.terms if isinstance(term, SampleTerm)]

    def __call__(self, step: int, batch: Batch, draws: Draws, single: str = "") -> Tensor:
        """Mean losses (terms,) of the global batch in the order of `names`, without graph.

        `batch` and `draws` are this process's rows of it, on the CPU. `single`: the loss whose gradient is asked
        for, with its weight; empty: that of their weighted sum.
        """
        weights = loss_weights(self.config.objective, step)
        if single:
            weights = {name: weight if name == single else 0.0 for name, weight in weights.items()}
        pieces = self._pieces(batch, draws)
        size = self.config.schedule.batch_size if self.world.size > 1 else len(batch)
        # A batch that is one piece of one process is one graph from the pixels to the loss.
        whole = len(pieces) == 1 and self.world.size == 1
        first_passes = [self._first_pass(piece, i < self.division.kept) for i, piece in enumerate(pieces)]
        values = {name: torch.zeros((), device=self.device) for name in self.names}
        slopes: dict[str, list[Tensor]] = {}
        graphs: list[Tensor] = []
        local = has_local_negatives(self.config.objective, step)
        for term, _ in self.batch_terms:
            name = term.names[0]
            if whole:
                loss = term.loss(term.crossing(first_passes[0].found[name]), local, None)
                graphs.append(weights[name] * loss)
                values[name] = loss.detach()
            else:
                values[name], slopes[name] = self._slopes(term, first_passes, weights[name], local, size)
        batch_wide = WholeBatch(weights, slopes, {} if whole else self._shares(first_passes, size), size)
        waiting = deque(zip(pieces, first_passes, strict=True))
        del first_passes
        while waiting:
            with self._sums.last_pass() if len(waiting) == 1 else nullcontext():
                # Taken out one by one: what is left of a graph goes with its piece.
                for name, value in self._backward(*waiting.popleft(), batch_wide, graphs).items():
                    values[name] = values[name] + value
        losses = torch.stack([values[name] for name in self.names])
        self.world.add([losses])
        return losses

    def _backward(
        self, piece: Piece, first: FirstPass, batch: WholeBatch, graphs: Sequence[Tensor] = ()
    ) -> dict[str, Tensor]:
        """Add a piece's part of the gradient, and that of `graphs`; what it adds to the losses, by name."""
        inputs = first.inputs or piece.inputs()
        found = first.found if first.inputs else self.features(inputs)
        return self.backward(inputs, found, first.places, batch, graphs)

    def backward(
        self,
        inputs: Inputs,
        found: dict[str, Outcome],
        places: Tensor | slice,
        batch: WholeBatch,
        graphs: Sequence[Tensor] = (),
    ) -> dict[str, Tensor]:
        """Add to the parameters' gradients those of the losses of the samples at `places`, through their `features`.

        `graphs`: scalars whose gradients are added in the same pass. Returns what the samples add to the losses that
        add up, by name, without graph.
        """
        products = [*graphs, *self._through(found, batch.slopes, places)]
        own = {name: share[places] for name, share in batch.shares.items()}
        values = self._sample_losses(inputs, found, own, batch.size)
        products += [batch.weights[name] * value for name, value in values.items()]
        torch.stack(products).sum().backward()
        return {name: value.detach() for name, value in values.items()}

    def _pieces(self, batch: Batch, draws: Draws) -> list[Piece]:
        images, views = self._moved(batch.images), None
        if self.system.recipe.views:
            assert batch.views is not None
            views = self._moved(batch.views)
        return [
            self._piece(images, views, batch.tokens[places], draws[places], places)
            for places in by_length(batch.tokens, self.division.size or len(batch))
        ]

    def _first_pass(self, piece: Piece, keep: bool) -> FirstPass:
        with torch.set_grad_enabled(keep):
            inputs = piece.inputs()
            found = self.features(inputs)
        with torch.no_grad():
            crossing = {term.names[0]: term.crossing(found[term.names[0]]) for term, _ in self.batch_terms}
            counted = (term for term, _ in self._sample_terms if term.counted)
            return FirstPass(
                {name: torch.stack(sides, 1) for name, sides in crossing.items()},
                {term.names[0]: term.counts(inputs, found) for term in counted},
                piece.places,
                found if keep else {},
                inputs if keep else None,
            )

    def features(self, inputs: Inputs) -> dict[str, Outcome]:
        """What crosses to the whole batch, of a piece, by the name of the term."""
        found: dict[str, Outcome] = {}
        for term, features in self.batch_terms:
            with self._autocast():
                found[term.names[0]] = features(inputs)
        return found

    def _slopes(
        self, term: BatchTerm[Outcome], first_passes: list[FirstPass], weight: float, local: bool, size: int
    ) -> tuple[Tensor, list[Tensor]]:
        """This process's part of the batch's loss, and the whole loss's gradient to what crossed of its samples,
        (b,E) each; what no piece sees (a scale, a head behind the boundary) gets its gradient here."""
        own = in_order([first.crossing[term.names[0]] for first in first_passes], first_passes).detach()
        whole = tuple(side.contiguous().requires_grad_() for side in self.world.gather(own, size).unbind(1))
        rows = None if self.world.size == 1 else self.world.rows(size)
        loss = term.loss(whole, local, rows)
        (weight * loss).backward()
        slopes = [side.grad for side in whole if side.grad is not None]
        # The rows of every process contribute to the gradient of every feature.
        self.world.add(slopes)
        return loss.detach(), [slope[self.world.rows(size)] for slope in slopes]

    def _through(
        self, found: dict[str, Outcome], slopes: dict[str, list[Tensor]], places: Tensor | slice
    ) -> list[Tensor]:
        """Scalars of which only the gradients mean something: they are those of the losses of the whole batch."""
        products = []
        for term, _ in self.batch_terms:
            if term.names[0] in slopes:
                sides = zip(term.crossing(found[term.names[0]]), slopes[term.names[0]], strict=True)
                products += [(side * slope[places]).sum() for side, slope in sides]
        return products

    def _shares(self, first_passes: list[FirstPass], size: int) -> dict[str, Tensor]:
        """(b,) what each sample counts for in the losses of a batch of `size`, by the name of the term."""
        shares = {}
        for term, _ in self._sample_terms:
            if term.names[0] in first_passes[0].counts:
                counts = in_order([first.counts[term.names[0]] for first in first_passes], first_passes)
                shares[term.names[0]] = term.shares(self.world.gather(counts, size))[self.world.rows(size)]
        return shares

    def _sample_losses(
        self, inputs: Inputs, found: dict[str, Outcome], shares: dict[str, Tensor], size: int
    ) -> dict[str, Tensor]:
        """What a piece adds to the losses that add up over the batch's `size` samples."""
        values: dict[str, Tensor] = {}
        if self._taught is not None:
            with self._autocast():
                found = {**found, TEACHER: (self._taught(inputs.images),)}
        for term, losses in self._sample_terms:
            with self._autocast():
                outcome = losses(inputs, found)
            values |= term.values(outcome, size, shares.get(term.names[0]))
        return values

    def _piece(
        self, images: Tensor, views: Tensor | None, tokens: Tensor, draws: Draws, places: Tensor | slice
    ) -> Piece:
        """A piece on the device, from images (B,…) and views (V,B,…) on it and from its tokens (b,L) and draws on the
        CPU."""
        # Contiguous: a view would be copied once more on its way, and be another graph to the compiler.
        tokens = trim_padding(tokens).contiguous()
        return Piece(
            images,
            self._moved(tokens),
            self._on_device(draws),
            None if self.device.type == "cpu" else self._bound(tokens),
            places if isinstance(places, slice) else self._moved(places),
            views,
            self.config.objective.views,
        )

    def _bound(self, tokens: Tensor) -> int | None:
        """Rows of the vocabulary head at most; on a CPU the exact count costs nothing, and spares it the rounding."""
        bounds = (term.rows(tokens) for term, _ in self._sample_terms)
        return next((bound for bound in bounds if bound is not None), None)

    def _on_device(self, draws: Draws) -> Draws:
        paths = None if draws.paths is None else self._moved(draws.paths)
        return Draws(self._moved(draws.image), self._moved(draws.text), draws.views, paths)

    def _moved(self, x: Tensor) -> Tensor:
        """x on the device; pinned first, since a copy from pageable memory would wait for all work queued there."""
        return x.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else x

    def _autocast(self) -> torch.autocast:
        # One context per pass: weights that a pass without graph has cast would have no gradient in the next pass.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.schedule.precision == "bf16")


def in_order(parts: list[Tensor], first_passes: list[FirstPass]) -> Tensor:
    """What each piece has for its samples (b,…), as this process's rows of the batch (B,…); one keeps its graph."""
    if len(parts) == 1:
        return parts[0]
    rows = torch.cat(parts)
    for part, piece in zip(parts, first_passes, strict=True):
        rows[piece.places] = part
    return rows


class Shares:
    """How much of the image tower's gradient each weighted loss contributes, measured a few times in a run.

    Papers leave weights open, and losses whose values look alike may differ by two orders of magnitude here. Each loss
    is computed once more for it, which changes nothing that follows and takes no more memory than a step does.
    """

    def __init__(self, gradients: Gradients, config: RunConfig, device: torch.device) -> None:
        self._gradients = gradients
        steps, parts = config.schedule.steps, config.runtime.measure_shares
        several = parts > 0 and len(gradients.names) > 1
        self.steps = {round((steps - 1) * part / parts) for part in range(parts + 1)} if several else set()
        """Numbers of these steps, counted from 0: the first, the last, and between them."""
        self._cuda = [device] if device.type == "cuda" else []
        self._pending: list[tuple[int, Tensor]] = []
        self.latest: dict[str, float] = {}
        """The last ones that were taken."""

    def measure(self, step: int, batch: Batch, draws: Draws) -> None:
        """Where it is such a step; leaves gradients in the parameters. Never waits for a GPU."""
        if step not in self.steps:
            return
        system, norms = self._gradients.system, []
        with torch.random.fork_rng(devices=self._cuda):
            for name in self._gradients.names:
                system.zero_grad()
                self._gradients(step, batch, draws, single=name)
                gradients = [p.grad for p in system.image.parameters() if p.grad is not None]
                norms.append(torch.nn.utils.get_total_norm(gradients))
        self._pending.append((step + 1, torch.stack(norms)))

    def taken(self) -> Iterator[tuple[int, dict[str, float]]]:
        """`train/share/…` in percent, of each step that was measured since the last call, by the number of steps made
        with it; waits for the device."""
        steps, found = [step for step, _ in self._pending], [norms for _, norms in self._pending]
        self._pending = []
        for step, values in zip(steps, torch.stack(found).tolist() if found else (), strict=True):
            norms = dict(zip(self._gradients.names, values, strict=True))
            whole = sum(norms.values()) or 1.0
            self.latest = {f"train/share/{name}": 100 * norm / whole for name, norm in norms.items()}
            yield step, self.latest


class TrainStep:
    """One step: draws, gradients, update. Holds the optimiser and watches for divergence."""

    def __init__(
        self,
        system: System,
        config: RunConfig,
        device: torch.device,
        world: World = ALONE,
        division: Division | None = None,
    ) -> None:
        """`division` as in `Gradients`."""
        self.system = system
        self.config = config
        self.optimizer = make_optimizer(system, config.schedule, device)
        self.gradients = Gradients(system, config, device, world, division)
        self.rows = world.rows(config.schedule.batch_size)
        self.parameters = dict(system.named_parameters())
        self.watch = DivergenceWatch(self.gradients.names, tuple(self.parameters), device)
        self.shares = Shares(self.gradients, config, device)
        self._generator = torch.Generator()
        self._step = 0
        self._losses = torch.zeros(len(self.gradients.names))
        self._norm = torch.zeros(())

    def __call__(self, step: int, batch: Batch) -> None:
        """Update number `step`, counted from 0, on this process's rows of that step's batch. Never waits for a GPU."""
        self._generator.manual_seed(stream("draws", self.config.seed, step))
        draws = self.system.draw(self.config.schedule.batch_size, self._generator)[self.rows]
        set_learning_rate(self.optimizer, learning_rate(self.config.schedule, step))
        self.shares.measure(step, batch, draws)
        self.optimizer.zero_grad()
        losses = self.gradients(step, batch, draws)
        norms = self._clip()
        self.optimizer.step()
        if self.gradients.teacher is not None:
            self.gradients.teacher.follow(self.system.image, step, self.config.schedule.steps)
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
        total = sum(weights[name] * value for name, value in values.items())
        for term in self.system.terms:
            values |= term.metrics()
        values |= {"lr": learning_rate(self.config.schedule, self._step), "grad_norm": self._norm.item()}
        return {f"train/{name}": value for name, value in ({"loss": total} | values).items()}
