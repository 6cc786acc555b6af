"""How a batch is divided into pieces, and whose graphs are kept, so that a step fits into memory.

What a piece takes is found by taking it through the step on tensors that have a shape and no values: nothing is
computed. That is what the passes need when they are not compiled, with captions of full length, so at most a little
more than what they take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ablative.trainer.clip.micro_batches import WHOLE, Division
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.objectives.terms.reconstruction import ROWS_MULTIPLE
from ablative.trainer.clip.objectives.terms.term import Inputs
from ablative.trainer.clip.spec.config import RunConfig
from ablative.trainer.clip.spec.recipes import TEXT
from ablative.trainer.clip.step import Gradients, WholeBatch
from ablative.trainer.torch.distributed import World
from ablative.trainer.torch.memory import LiveTensors, free_bytes

USUAL, SMALLEST = 512, 128
"""Samples of a piece: the most where graphs are computed again anyway, and the fewest that keep a GPU busy."""
_TRIED = (4, 8)
"""Samples of the pieces that are tried: with two sizes, what is constant is separated from what grows."""


@dataclass(frozen=True)
class Line:
    """Bytes that a piece of n samples takes: `base + slope · n`."""

    base: float
    slope: float

    def at(self, samples: int) -> float:
        return self.base + self.slope * samples

    @classmethod
    def through(cls, first: float, second: float) -> Line:
        """What was found for `_TRIED` samples; never falls."""
        slope = max(0.0, (second - first) / (_TRIED[1] - _TRIED[0]))
        return cls(max(0.0, first - slope * _TRIED[0]), slope)


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a step needs."""

    graph: Line
    """The graph of a piece, as long as it is kept."""
    passing: Line
    """What a pass over a piece takes besides, at most: forwards, or backwards while its graph shrinks."""
    batch: float
    """What does not depend on pieces: gradients and their moments, images on the device, the losses of the whole
    batch."""

    def peak(self, division: Division) -> float:
        """The most that pieces take at once. Kept graphs go first: then a piece that is computed again has the room of
        a kept one."""
        return max(1, division.kept) * self.graph.at(division.size) + self.passing.at(division.size)


def make_division(config: RunConfig, vocab_size: int, device: torch.device, world: World) -> Division:
    """How a process divides its rows: by the GPU's memory, on which the model lies already; on a CPU by the
    configuration alone."""
    free, limit = free_bytes(device), config.runtime.micro_batch
    rows = len(range(config.schedule.batch_size)[world.rows(config.schedule.batch_size)])
    if free is None or rows <= max(_TRIED):
        return Division(limit)
    memory = step_memory(config, vocab_size, world)
    return divide(rows, limit or rows, memory, config.runtime.memory_share * (free - memory.batch))


def divide(rows: int, limit: int, memory: StepMemory, room: float) -> Division:
    """Rows in pieces of equal size, of which as many keep their graph as fit into `room` bytes.

    The largest pieces with which no graph is computed again, if there are such ones; otherwise those with which the
    fewest samples are. Where none of these fits, pieces are halved until one does, at the end to a single sample, which
    is tried whether it fits or not.

    Args:
        limit: samples of a piece at most.
    """
    largest = min(rows, limit)
    sizes = [math.ceil(largest / 2**halved) for halved in range(largest.bit_length() + 1)]
    busy = [size for size in sizes if size >= min(SMALLEST, largest)]
    for size in busy:
        division = Division(size, math.ceil(rows / size))
        if memory.peak(division) <= room:
            return division
    fitting = [size for size in sizes if size <= USUAL and memory.peak(Division(size)) <= room]
    divisions = [_with_graphs(size, memory, room) for size in fitting if size in busy]
    if divisions:
        return max(divisions, key=lambda division: division.size * division.kept)
    return Division(fitting[0] if fitting else 1)


def _with_graphs(size: int, memory: StepMemory, room: float) -> Division:
    """Pieces of a size of which one fits, with as many graphs as fit."""
    spare, graph = room - memory.peak(Division(size)), memory.graph.at(size)
    return Division(size, 1 + (int(spare // graph) if graph else 0))


def step_memory(config: RunConfig, vocab_size: int, world: World) -> StepMemory:
    """What a step of one of the run's processes takes, of a model with so many words."""
    size = config.schedule.batch_size
    with FakeTensorMode(), torch.random.fork_rng(devices=()):
        system = System(config.model, config.objective, vocab_size)
        gradients = Gradients(system, config, torch.device("cpu"))
        for weight in system.parameters():
            weight.grad = torch.zeros_like(weight)
        tried = [_piece(gradients, size) for size in _TRIED]
        losses = _losses(gradients, size, world.rows(size) if world.size > 1 else None)
    images = len(range(size)[world.rows(size)]) * (1 + system.recipe.views) * 3 * config.model.image_size**2
    weights = sum(weight.nbytes for weight in system.parameters())
    graph, passing = (Line.through(*found) for found in zip(*tried, strict=True))
    return StepMemory(graph, passing, 3 * weights + images + losses)


def _piece(gradients: Gradients, size: int) -> tuple[float, float]:
    """Bytes of the graph of a piece, and of a pass over it besides."""
    with LiveTensors() as alive:
        inputs = _inputs(gradients, size)
        given = alive.now
        with torch.no_grad():
            gradients.features(inputs)
        forwards, alive.peak = alive.peak, alive.now
        found = gradients.features(inputs)
        graph = alive.now
        slopes = {
            term.names[0]: [torch.empty_like(side) for side in term.crossing(found[term.names[0]])]
            for term, _ in gradients.batch_terms
        }
        gradients.backward(inputs, found, WHOLE, WholeBatch(dict.fromkeys(gradients.names, 1.0), slopes, {}, size))
    # Without terms that see the whole batch, there is no first pass.
    return (graph, max(forwards - given, alive.peak - graph)) if slopes else (0.0, alive.peak)


def _inputs(gradients: Gradients, size: int) -> Inputs:
    """Images, and captions of full length, all of whose tokens may be hidden."""
    model, system = gradients.config.model, gradients.system
    images = torch.empty(1 + system.recipe.views, size, 3, model.image_size, model.image_size)
    rows = -(-size * model.context_length // ROWS_MULTIPLE) * ROWS_MULTIPLE if TEXT in gradients.names else None
    return Inputs(
        images[0].clone(),
        torch.empty(size, model.context_length, dtype=torch.int64),
        system.draw(size, torch.Generator()),
        rows,
        images[1:].flatten(0, 1) if system.recipe.views else None,
    )


def _losses(gradients: Gradients, size: int, rows: slice | None) -> float:
    """Bytes at most, in the losses of `rows` of a batch of `size` as functions of what crosses."""
    found = gradients.features(_inputs(gradients, 1))
    most = 0
    for term, _ in gradients.batch_terms:
        with LiveTensors() as alive:
            sides = term.crossing(found[term.names[0]])
            whole = tuple(side.new_empty(size, side.shape[1], requires_grad=True) for side in sides)
            term.loss(whole, False, rows).backward()
        most = max(most, alive.peak)
    return most
