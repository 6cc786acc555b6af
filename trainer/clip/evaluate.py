"""One evaluation, data set after data set: what is finished is kept, and an attempt goes on where the last one was.

Every data set is evaluated by itself and draws its own random numbers, so that an evaluation that was killed between
two of them, or in the middle of a long training, ends with the values of one that was not (on a GPU, within rounding).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ablative.study.core.errors import Interrupted
from ablative.study.core.files import read_json, write_json
from ablative.study.core.identity import canonical, digest, identity
from ablative.study.core.packages import sources_digest
from ablative.study.home.journal import Journal, encode
from ablative.study.home.paths import Home, RunPaths, TaskPaths
from ablative.trainer.clip.data.sources import fingerprint_dataset
from ablative.trainer.clip.protocols import represent, score_set
from ablative.trainer.clip.protocols.resumption import Resumption
from ablative.trainer.clip.spec.config import EvaluationConfig
from ablative.trainer.torch.meter import ElapsedCost, Meter


def evaluate(
    paths: TaskPaths,
    config: EvaluationConfig,
    home: Home,
    device: torch.device,
    journal: Journal,
    stop: Callable[[], bool],
) -> dict[str, float]:
    """Evaluate a run's final model; returns and reports what each data set yields, and `cost/…` of all attempts.

    Args:
        paths: the evaluation's files; the caller holds its lease.
        stop: asked after every data set, and after every step of a long training; true raises Interrupted.

    Raises:
        Interrupted: what is finished is kept; call again to go on.
        ConfigError, DataError: as `represent` and `score_set`.
    """
    run = home.run(config.run_id)
    key = _key(run, config, device)
    scores = Scores(paths.scores, key)
    meter = Meter(scores.spent, device)
    representation = represent(run, config, device)
    # Values on a validation split serve a search: the prefix keeps them out of the tables of test results.
    prefix = "validation/" if any(dataset.split == "validation" for dataset in config.datasets) else ""
    metrics: dict[str, float] = {}
    for number, dataset in enumerate(config.datasets, start=1):
        content = fingerprint_dataset(dataset, home)
        found = scores.find(dataset.name, content)
        asked = False
        if found is None:
            resumption = Resumption(
                RunPaths(paths.root).checkpoint,
                f"{key} {dataset.name} {content}",
                representation.config.runtime.checkpoint_seconds,
                stop,
                lambda: scores.spend(meter.elapsed()),
            )
            values = score_set(representation, config, dataset, content, home, resumption)
            found = {prefix + name: value for name, value in values}
            scores.keep(dataset.name, content, found, meter.elapsed())
            resumption.end()
            asked = number < len(config.datasets) and stop()
        # Only when it is kept, so that no other attempt reports another value; what the journal has, it leaves out.
        journal.metrics(0, found)
        metrics |= found
        if asked:
            raise Interrupted(f"stopped after {number} of {len(config.datasets)} data sets")
    spent = meter.cost()
    journal.metrics(0, spent)
    return metrics | spent


class Scores:
    """Metrics of an evaluation's finished data sets, in one file."""

    def __init__(self, path: Path, key: str) -> None:
        """Reads what an earlier attempt kept, unless it was made by something else than `key` names."""
        self._path, self._key = path, key
        self._sets: dict[str, dict[str, Any]] = {}
        self.spent = ElapsedCost()
        """Time that went into what is kept."""
        # A damaged file is as good as none.
        with suppress(ValueError, KeyError, TypeError):
            kept = read_json(path)
            if kept is not None and kept["key"] == key:
                self.spent, self._sets = ElapsedCost(**kept["spent"]), dict(kept["sets"])

    def find(self, name: str, content: str) -> dict[str, float] | None:
        """What a data set of this content yielded; None where that is not known."""
        kept = self._sets.get(name)
        if kept is None or kept["content"] != content:
            return None
        return {metric: float(value) for metric, value in kept["metrics"].items()}

    def keep(self, name: str, content: str, metrics: Mapping[str, float], spent: ElapsedCost) -> None:
        """Add a data set, in one step."""
        values = {metric: encode(value) for metric, value in metrics.items()}
        self._sets[name] = {"content": content, "metrics": values}
        self.spend(spent)

    def spend(self, spent: ElapsedCost) -> None:
        """Write the time so far, which went into what is kept here and into the training under way."""
        write_json(self._path, {"key": self._key, "spent": asdict(spent), "sets": self._sets})


def _key(run: RunPaths, config: EvaluationConfig, device: torch.device) -> str:
    """Digest of what determines an evaluation's values, except the data sets: configuration, model, code, device."""
    files = []
    for path in (run.model, run.tokenizer):
        with suppress(FileNotFoundError), path.open("rb") as file:
            files.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digest(canonical([identity(config), files, _code(), device.type]))


@functools.cache
def _code() -> str:
    return sources_digest(("ablative.study", "ablative.trainer"))
