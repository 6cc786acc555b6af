"""A run evaluated while it trains, on a validation split, for the search that may prune it.

The search's worker writes which evaluation it wants, and how often, into a file in the run's folder. Evaluating changes
nothing of the run: on a CPU its weights are bit for bit those of a run without it. Its time counts as the run's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from ablative.study.core.files import read_json
from ablative.study.core.typed import build
from ablative.study.home.paths import Home, RunPaths, watched
from ablative.study.plan.search_arms import VALIDATION
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.objectives.system import System
from ablative.trainer.clip.protocols import score
from ablative.trainer.clip.protocols.parts.features import Representation
from ablative.trainer.clip.spec.config import EvaluationConfig, RunConfig


class ValidationWatch:
    """Evaluates the model every so many steps, where a search asked for it."""

    def __init__(
        self, paths: RunPaths, config: RunConfig, home: Home, tokenizer: Tokenizer, device: torch.device
    ) -> None:
        self._config, self._home, self._tokenizer, self._device = config, home, tokenizer, device
        request = read_json(watched(paths.root))
        self._every = 0 if request is None else int(request["every"])
        self._evaluation = None if request is None else build(EvaluationConfig, request["evaluation"])

    def due(self, step: int) -> bool:
        """Whether to evaluate after so many steps."""
        return self._every > 0 and step % self._every == 0

    def metrics(self, system: System) -> dict[str, float]:
        """`validation/<protocol>/<dataset>/<metric>`, percent; leaves the system and all random state as they were."""
        assert self._evaluation is not None
        cuda = [self._device] if self._device.type == "cuda" else []
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=cuda):
            # Features of weights that the next step changes are not worth keeping.
            paths = RunPaths(Path(folder))
            representation = Representation(system.eval(), self._tokenizer, self._config, paths, self._device)
            try:
                found = dict(score(representation, self._evaluation, self._home))
            finally:
                system.train()
        return {f"{VALIDATION}/{name}": value for name, value in found.items()}
