"""The trainer of any program, as the manager knows it (`study.trainers.Trainer`)."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.identity import canonical, digest, identity
from ablative.study.core.typed import Settings, build, plain
from ablative.study.home.journal import Entry
from ablative.study.home.paths import home
from ablative.study.spec.cluster import ClusterConfig
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.starts import Resumption, Started
from ablative.study.syntax.words import STAGE_MARK, Tree
from ablative.study.trainers import Config, JobTask, Progress, Request, Trainer
from ablative.trainer.program.checks import reads_configuration
from ablative.trainer.program.config import ProgramConfig, dotted, hashable, of_stage
from ablative.trainer.program.configurations import KEYS, ProgramConfigurations
from ablative.trainer.program.data_files import DataFiles, data_names
from ablative.trainer.program.definition import Stop
from ablative.trainer.program.job.start import Start
from ablative.trainer.program.keys import ProgramKeys
from ablative.trainer.program.parts import Part
from ablative.trainer.program.resolver import Resolver, Surroundings
from ablative.trainer.program.words import Filling
from ablative.trainer.runner import frozen_code


class ProgramTrainer(Trainer):
    """Commands and functions of the user's, run as they are."""

    name = "program"
    entry = "ablative.trainer.program.job.run:execute"
    # None of this program's code can change what a user's program computes.
    packages: tuple[str, ...] = ()
    study_keys = KEYS
    keys: Mapping[str, object] | None = MappingProxyType({"": ProgramKeys, "runtime": RuntimeConfig})
    starts_processes = True

    def __init__(self) -> None:
        self._resolvers: dict[str, Resolver] = {}

    def configurations(self, request: Request) -> ProgramConfigurations:
        return ProgramConfigurations(request)

    def load(self, stage: str, data: Settings) -> ProgramConfig:
        found: ProgramConfig = hashable(build(ProgramConfig, data))
        return found

    def parameters(self, stage: str, config: Config) -> Mapping[str, type]:
        """Keys of the program, by their names, and with the stage's before them."""
        own = {key: type(value) for key, value in {**dotted(config.config), **config.unhashed}.items()}
        if config.job.source.kind == "hydra":
            # A section may be a group, of which a search chooses an option.
            own |= {key: str for leaf in tuple(own) for key in _sections(leaf)}
        names = dict.fromkeys((stage, stage.partition(".")[0]))
        return own | {f"{name}{STAGE_MARK}{key}": kind for name in names for key, kind in own.items()}

    def changed(self, stage: str, config: Config, values: Settings) -> ProgramConfig:
        """The configuration as the study's plan would have it: the program is asked again."""
        resolver, chosen = self._resolver(stage, config), of_stage(values, stage)
        for key in chosen:
            if not resolver.takes(key):
                raise ConfigError(unknown("key", key, resolver.known, f"stage '{stage}'"))
        data = functools.partial(_fingerprints, stage, config)
        return resolver.configured({**config.job.chosen, **chosen}, config.runtime, data)

    def check_value(self, stage: str, config: Config, key: str, value: object) -> None:
        self.changed(stage, config, {key: value})

    def _resolver(self, stage: str, config: ProgramConfig) -> Resolver:
        """One for each stage, as it keeps the process that answers."""
        own, live = config.job, Path(config.job.code)
        folder = frozen_code.folder(live)
        key = digest(canonical([stage, str(folder), plain(config.program.each), {**plain(own), "chosen": None}]))
        if key not in self._resolvers:
            variables = (
                {} if folder == live else {"PYTHONPATH": frozen_code.variables(os.environ).get("PYTHONPATH", "")}
            )
            around = Surroundings(
                own.python, folder, own.code, home().cache / "probes", variables, unhashed=own.unhashed
            )
            part = Part(stage, own.stage, config.program.each)
            self._resolvers[key] = Resolver(part, own.folders, own.source, around)
        return self._resolvers[key]

    def work(self, stage: str, config: Config) -> float:
        """Steps, where the stage says how many there are."""
        return _steps(config) or 1.0

    def alike(self, stage: str, config: Config, needs: Mapping[str, Config]) -> tuple[object, object]:
        """Exactly: the same configuration, seeds apart. Approximately: the same program, with other values."""
        program = [*config.program.command, config.program.function]
        base = [self.name, stage.partition(".")[0], config.job.code, program, bool(_steps(config))]
        return [*base, identity(config)], base

    def progress(self, stage: str, config: Config, entries: Sequence[Entry]) -> Progress | None:
        """Steps, from the metrics that the program reports and the key that says how many there are."""
        found = [entry for entry in entries if entry["kind"] == "metrics" and entry["step"] > 0]
        steps = _steps(config)
        if not found or not steps:
            return None
        step, shown = found[-1]["step"], dict(list(found[-1]["values"].items())[:3])
        seconds = None
        if len(found) > 1 and (done := step - found[0]["step"]) > 0:
            each = (found[-1]["t"] - found[0]["t"]) / 1000 / done
            seconds = max(0.0, (steps - step) * each - max(0.0, time.time() - found[-1]["t"] / 1000))
        return Progress(step, steps, seconds, {name.split("/", 1)[-1]: f"{float(v):.4g}" for name, v in shown.items()})

    def after_out_of_memory(self, stage: str, config: Config, times: int) -> bool:
        """Whether the study says which keys to make smaller, and there is something left of them."""
        values = {**dotted(config.config), **config.unhashed}
        return any(
            not isinstance(values.get(key), int) or factor > 1 or values[key] * factor ** (times - 1) > 1
            for key, factor in config.job.stage.on_oom.items()
        )

    def check_cluster(self, stage: str, config: Config, cluster: ClusterConfig) -> None:
        own, where = config.job.stage, f"stages.{config.job.stage.name}"
        if cluster.kind != "slurm":
            return
        if cluster.nodes > 1 and own.launch.by != "srun":
            raise ConfigError(
                f"{where}.launch: with: {own.launch.by} starts processes on one node, but cluster.nodes is "
                f"{cluster.nodes}; with: srun starts them on several"
            )
        # Of the default, what the cluster leaves of it is taken.
        if own.stop.grace > max(cluster.signal_seconds, Stop().grace):
            raise ConfigError(
                f"{where}.stop.grace: {own.stop.grace:g} s, but the warning comes {cluster.signal_seconds} s before "
                f"the time limit; give cluster.signal_seconds={math.ceil(own.stop.grace)} or a shorter grace"
            )

    def grace(self, stage: str, config: Config) -> float:
        return float(config.job.stage.stop.grace)

    def started(self, task: JobTask, config: Config) -> Started:
        start = Start(task, config)
        return Started(tuple(start.command), start.cwd, start.added | start.given)

    def resumption(self, stage: str, config: Config) -> Resumption:
        own = config.job.stage
        if own.function or own.resume.file:
            return Resumption(file=own.resume.file, exact=own.resume.exact)
        why = "the stage has no resume: {file: …, args: …}, so that an interrupted task begins anew"
        # What begins anew ends as an uninterrupted run does.
        return Resumption(False, why, exact=True if own.resume.exact is None else own.resume.exact)

    def partial(self, stage: str, config: Config) -> bool:
        """Only the keys of cells are known, as the study accepts (`partial: true`)."""
        part = Part(stage, config.job.stage, config.program.each)
        return not config.job.source.kind and reads_configuration(part)

    def inputs(self, stage: str, config: Config) -> Mapping[str, str]:
        return dict(config.program.data)


TRAINER = ProgramTrainer()


def _sections(key: str) -> list[str]:
    """Dotted names of the sections that a key is in."""
    parts = key.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _fingerprints(stage: str, config: ProgramConfig, values: Settings) -> dict[str, str]:
    """Those that are known, and those of files whose names depend on the values."""
    folder, known = frozen_code.folder(Path(config.job.code)), config.program.data
    names = data_names(config.job.stage.data, {**values, **config.program.each}, folder)
    unknown_names = [name for name in names if name not in known]
    new = DataFiles(folder, home()).fingerprints(unknown_names, f"stage '{stage}': data")
    return {name: known.get(name) or new[name] for name in names}


def _steps(config: ProgramConfig) -> float:
    """Number of steps, as the stage says it; 0: it does not."""
    text = config.job.stage.steps
    values: Tree = {**dotted(config.config), **config.unhashed}
    filling = Filling(values, {}, {}, {}, {})
    try:
        return float(filling.text(text)) if text and (filling.knows(text) or "{" not in text) else 0.0
    except ValueError:
        return 0.0
