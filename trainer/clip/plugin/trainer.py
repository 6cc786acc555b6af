"""The shipped trainer, as the manager knows it (`study.trainers.Trainer`)."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from ablative.study.core.errors import ConfigError
from ablative.study.core.identity import canonical, digest, identity
from ablative.study.core.packages import folder
from ablative.study.core.registry import load
from ablative.study.core.typed import Settings, build, with_values
from ablative.study.home.journal import Entry
from ablative.study.home.paths import TaskPaths
from ablative.study.starts import Resumption
from ablative.study.trainers import Config, Progress, Request, Stage, Trainer
from ablative.trainer.clip.plugin.configurations import GROUPS, SECTIONS, ClipConfigurations
from ablative.trainer.clip.plugin.study_keys import ClipKeys
from ablative.trainer.clip.spec.checks import check_evaluation, check_run, check_start
from ablative.trainer.clip.spec.config import (
    DataConfig,
    DatasetConfig,
    EvaluationConfig,
    ModelConfig,
    ProtocolConfig,
    RunConfig,
    SuiteConfig,
)
from ablative.trainer.clip.spec.halving import micro_batch
from ablative.trainer.clip.spec.metrics import TRAIN, protocol_metrics
from ablative.trainer.clip.spec.panel_pictures import PICTURED, pictures_path
from ablative.trainer.clip.spec.recipes import recipe_of, unread_keys

VALIDATION = "validation"
"""Split on which a search chooses."""
HELD_OUT = ("shapes", "digits", "shards")
"""Kinds of data sets with a validation split (`trainer.clip.data.sets.holdout`)."""
FLOPS = "ablative.trainer.clip.models.flops"
"""Module with the arithmetic of runs and evaluations, which is torch-free and read only where prices are asked for."""


class ClipTrainer(Trainer):
    """Contrastive and masked pretraining of image and text towers, and the protocols that evaluate it."""

    name = "clip"
    entry = "ablative.trainer.clip.tasks:execute"
    packages = ("ablative.study", "ablative.trainer")
    study_keys = ("protocols",)
    keys: Mapping[str, object] | None = MappingProxyType(
        {"": ClipKeys, **SECTIONS, "suite": SuiteConfig, "protocol": dict[str, ProtocolConfig]}
    )
    condition_keys = ("protocols",)
    groups = GROUPS
    conf: Path | None = folder("ablative.trainer") / "clip" / "conf"
    extra = "clip"
    self_identified = True
    enqueue = (
        {"objective.w_image": 0.1, "objective.w_text": 0.05},
        {"objective.w_image": 0.05, "objective.w_text": 0.1},
    )
    """Loss weights that MAE-CLIP's paper and its supplement print."""

    def configurations(self, request: Request) -> ClipConfigurations:
        return ClipConfigurations(request)

    def load(self, stage: str, data: Settings) -> RunConfig | EvaluationConfig:
        return build(RunConfig, data) if stage == TRAIN else build(EvaluationConfig, data)

    def bind(self, stage: str, config: Config, needs: Mapping[str, str], seed: int) -> RunConfig | EvaluationConfig:
        if isinstance(config, EvaluationConfig):
            return EvaluationConfig(run_id=needs[TRAIN], protocol=config.protocol, datasets=config.datasets)
        return RunConfig(**{**vars(config), "seed": seed, "parent": needs.get("from", "")})

    def check_start(self, stage: str, config: Config, parent: Config | None) -> None:
        check_start(config, parent)

    def check_stage(self, stage: str, config: Config, needs: Mapping[str, Config]) -> None:
        if isinstance(config, EvaluationConfig):
            check_evaluation(config.protocol, config.datasets, needs[TRAIN].model)

    def unread(self, stage: str, config: Config) -> Mapping[str, str]:
        if not isinstance(config, RunConfig):
            return {}
        return unread_keys(config.objective)

    def parameters(self, stage: str, config: Config) -> Mapping[str, type]:
        return _searchable() if isinstance(config, RunConfig) else {}

    def changed(self, stage: str, config: Config, values: Settings) -> Config:
        """What the run would not read stays as it is in `config`, as in a cell."""
        found = with_values(config, values)
        if isinstance(found, RunConfig):
            unread = self.unread(stage, found)
            if any(key in unread for key in values):
                found = with_values(config, {key: value for key, value in values.items() if key not in unread})
            check_run(found)
        return found

    def held_out(self, stage: Stage, metrics: Collection[str], where: str) -> Stage | None:
        config: EvaluationConfig = stage.config
        names = {metric.split("/")[1] for metric in metrics}
        datasets = tuple(_held_out(item, where) for item in config.datasets if item.name in names)
        found = protocol_metrics(config.protocol.name, config.protocol.kind, tuple(item.name for item in datasets))
        return dataclasses.replace(stage, config=dataclasses.replace(config, datasets=datasets), metrics=found)

    def check_watched(self, config: Config, every: int, where: str) -> None:
        if every >= config.schedule.steps:
            raise ConfigError(
                f"{where}.every: {every} leaves no evaluation before the last of {config.schedule.steps} steps"
            )

    def work(self, stage: str, config: Config) -> float:
        """FLOPs of a pretraining; 1 for an evaluation, and for a run that is not trained."""
        return float(load(f"{FLOPS}:run_flops")(config)) or 1.0 if isinstance(config, RunConfig) else 1.0

    def operations(self, stage: str, config: Config, needs: Mapping[str, Config]) -> float:
        """FLOPs of a pretraining, and of the passes of an evaluation whose sets' sizes are configured."""
        if isinstance(config, RunConfig):
            return self.work(stage, config)
        return float(load(f"{FLOPS}:evaluation_flops")(needs[TRAIN].model, config))

    def alike(self, stage: str, config: Config, needs: Mapping[str, Config]) -> tuple[object, object]:
        """Runs: by model and objective. Evaluations: by protocol, data sets and model. Roughly: not by the model."""
        if isinstance(config, RunConfig):
            recipe, trained = recipe_of(config.objective), config.schedule.steps > 0
            return _alike_runs(config.model, recipe.name, config.schedule.precision, trained)
        return _alike_evaluations(config.protocol, config.datasets, needs[TRAIN].model)

    def precision(self, stage: str, config: Config) -> str:
        return str(config.schedule.precision) if isinstance(config, RunConfig) else "fp32"

    def resumption(self, stage: str, config: Config) -> Resumption:
        return Resumption(exact=True)

    def meant_for_gpus(self, stage: str, config: Config) -> bool:
        """bf16 means a GPU."""
        return isinstance(config, RunConfig) and config.schedule.precision == "bf16"

    def progress(self, stage: str, config: Config, entries: Sequence[Entry]) -> Progress | None:
        """Steps, from the metrics that training reports."""
        found = [entry for entry in entries if entry["kind"] == "metrics" and entry["step"] > 0]
        if not isinstance(config, RunConfig) or not found:
            return None
        values: dict[str, Any] = {}
        for entry in found:
            values.update(entry["values"])
        step, steps = found[-1]["step"], config.schedule.steps
        names = ("train/loss", "train/lr", "cost/samples_per_second")
        loss, rate, speed = (_number(values.get(name)) for name in names)
        left = None
        if speed:
            age = max(0.0, time.time() - found[-1]["t"] / 1000)
            left = max(0.0, (steps - step) * config.schedule.batch_size / speed - age)
        shown = {
            "loss": f"{loss:.4g}" if loss is not None else "",
            "lr": f"{rate:.3g}" if rate is not None else "",
            "samples/s": f"{speed:,.0f}" if speed else "",
        }
        return Progress(step, steps, left, {name: text for name, text in shown.items() if text})

    def after_out_of_memory(self, stage: str, config: Config, times: int) -> bool:
        """Whether the micro-batch can be halved once more."""
        return isinstance(config, RunConfig) and micro_batch(config, times - 1) > 1

    def inputs(self, stage: str, config: Config) -> Mapping[str, str]:
        if not isinstance(config, RunConfig):
            return dict(_inputs(config.datasets))
        start, codes = config.model.start.fingerprint, config.objective.codes.fingerprint
        files = {"model.start": start, "objective.codes": codes}
        return dict(_inputs((config.data,))) | {key: content for key, content in files.items() if content}

    def extras(self, stage: str, config: Config) -> Sequence[str]:
        detects = isinstance(config, EvaluationConfig) and config.protocol.kind == "detection"
        return ("detection",) if detects else ()

    def archives(self, stage: str, config: Config, paths: TaskPaths) -> Sequence[Path]:
        if not isinstance(config, EvaluationConfig) or config.protocol.kind not in PICTURED:
            return ()
        return tuple(pictures_path(paths, dataset.name) for dataset in config.datasets)


TRAINER = ClipTrainer()


def _held_out(dataset: DatasetConfig, where: str) -> DatasetConfig:
    if dataset.kind not in HELD_OUT or (dataset.kind == "shards" and not dataset.path):
        raise ConfigError(
            f"{where}: data set '{dataset.name}' has no training split to hold a validation split back from; "
            f"choose another metric (kinds that have one: {', '.join(HELD_OUT)}, the last with a `path`)"
        )
    return dataclasses.replace(dataset, split=VALIDATION)


@functools.cache
def _searchable() -> dict[str, type]:
    """Keys that a search may set, with their types: whatever changes a run's result, but its seed."""
    return {key: value for name, section in SECTIONS.items() for key, value in _keys(name, section)}


def _keys(name: str, section: type) -> Iterator[tuple[str, type]]:
    """Dotted keys of a section and of those within it, with their types."""
    hints = get_type_hints(section)
    for spec in dataclasses.fields(section):
        if dataclasses.is_dataclass(hints[spec.name]):
            yield from _keys(f"{name}.{spec.name}", hints[spec.name])
        elif spec.metadata.get("identity", True):
            yield f"{name}.{spec.name}", hints[spec.name]


@functools.lru_cache(maxsize=4096)
def _alike_runs(model: ModelConfig, objective: str, precision: str, trained: bool) -> tuple[str, str]:
    loose = ["pretrain", precision, trained]
    return digest(canonical([*loose, identity(model), objective])), digest(canonical(loose))


@functools.lru_cache(maxsize=4096)
def _alike_evaluations(
    protocol: ProtocolConfig, datasets: tuple[DatasetConfig, ...], model: ModelConfig
) -> tuple[str, str]:
    loose = ["evaluate", identity(protocol), identity(datasets)]
    return digest(canonical([*loose, identity(model)])), digest(canonical(loose))


@functools.lru_cache(maxsize=1000)
def _inputs(sets: tuple[DataConfig | DatasetConfig, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((data.name, _content(data)) for data in sets)


def _content(data: DataConfig | DatasetConfig) -> str:
    """The content's fingerprint; what the program makes itself is known by its version."""
    if data.fingerprint:
        return data.fingerprint
    version = f", version {data.version}" if isinstance(data, DataConfig) else ""
    return f"comes with ablate ({data.kind}{version})"


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)
