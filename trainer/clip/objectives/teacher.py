"""The image tower whose features are distilled: a moving average of the student's (MaskCLIP eq. 3), or a run's; or the
tokenizer whose codes are predicted.

It is no part of the system: no optimiser, gradient or final model has it. Checkpoints do.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ablative.trainer.clip.models.codes import Tokenizer
from ablative.trainer.clip.models.towers import ImageTower
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.spec.recipes import EMA, RUN, TOKENIZER


class Teacher:
    """A frozen image tower, which begins as a copy of the student's."""

    part, yields = "image", "features"
    """Name of the part of a run that it is, and what is learned of it."""

    def __init__(self, system: System) -> None:
        tower = system.image
        # Clones, and not copies: a step is also tested on tensors without values, which have no storage to be copied.
        clones: dict[int, object] = {
            **{id(weight): nn.Parameter(weight.detach().clone(), requires_grad=False) for weight in tower.parameters()},
            **{id(buffer): buffer.clone() for buffer in tower.buffers()},
        }
        self.tower: ImageTower = copy.deepcopy(tower, clones).eval()
        self._averages = system.recipe.teacher == EMA
        self._options = system.objective.distill

    def begin(self, student: ImageTower) -> None:
        """Be a copy of the student, whose weights were replaced."""
        self.tower.load_state_dict(student.state_dict())

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """images (B,3,S,S) → features of every patch (B,N,D)."""
        return self.tower.patches(self.tower(images))

    def momentum(self, step: int, steps: int) -> float:
        """Share of its old weights that it keeps after the update number `step` of `steps`, counted from 0."""
        start, end = self._options.ema_start, self._options.ema_end
        return start + (end - start) * step / steps

    @torch.no_grad()
    def follow(self, student: ImageTower, step: int, steps: int) -> None:
        """Move towards the student, after the optimiser's update number `step`: the same in every process."""
        if self._averages:
            share = 1 - self.momentum(step, steps)
            torch._foreach_lerp_(list(self.tower.parameters()), list(student.parameters()), share)


class CodeTeacher:
    """A frozen tokenizer of images, which learns nothing."""

    part, yields = "code_encoder", "codes"
    """Name of the part of a run that it is, and what is learned of it."""

    def __init__(self, system: System) -> None:
        """Random weights, from torch's global generator."""
        grid = system.model.image_size // system.model.patch_size
        with system.image.stem.project.weight.device:
            self.tower = Tokenizer(system.objective.codes, grid).eval()
        self.tower.requires_grad_(False)

    def begin(self, student: ImageTower) -> None:
        pass

    def features(self, images: Tensor) -> Tensor:
        """images (B,3,S,S) → codes of every patch, int64 (B,N)."""
        codes: Tensor = self.tower(images)
        return codes

    def follow(self, student: ImageTower, step: int, steps: int) -> None:
        pass


def make_teacher(system: System) -> Teacher | CodeTeacher | None:
    """The teacher of an objective; None where it has none, or the student is its own."""
    if system.recipe.teacher == TOKENIZER:
        return CodeTeacher(system)
    return Teacher(system) if system.recipe.teacher in (EMA, RUN) else None
