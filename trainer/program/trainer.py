"""The trainer of any program, as the manager knows it (`study.trainers.Trainer`)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import Settings, build, plain
from ablative.study.home.journal import Entry
from ablative.study.spec.sections import Frozen
from ablative.study.starts import Resumption, Started
from ablative.study.syntax.words import Tree
from ablative.study.trainers import Config, JobTask, Progress, Request, Trainer
from ablative.trainer.program.config import ProgramConfig, dotted, put
from ablative.trainer.program.configurations import KEYS, ProgramConfigurations
from ablative.trainer.program.job.start import Start
from ablative.trainer.program.words import Filling


class ProgramTrainer(Trainer):
    """Commands and functions of the user's, run as they are."""

    name = "program"
    entry = "ablative.trainer.program.job.run:execute"
    # None of this program's code can change what a user's program computes.
    packages: tuple[str, ...] = ()
    study_keys = KEYS

    def configurations(self, request: Request) -> ProgramConfigurations:
        return ProgramConfigurations(request)

    def load(self, stage: str, data: Settings) -> ProgramConfig:
        return build(ProgramConfig, data)

    def parameters(self, stage: str, config: Config) -> Mapping[str, type]:
        return {key: type(value) for key, value in dotted(config.config).items()}

    def changed(self, stage: str, config: Config, values: Settings) -> ProgramConfig:
        known, found = dotted(config.config), plain(config.config)
        for key, value in values.items():
            if key not in known:
                raise ConfigError(unknown("key", key, known, f"stage '{stage}'"))
            put(found, key, value)
        given = {
            **config.given,
            **{key: value for key, value in values.items() if key in config.given or _told(config)},
        }
        changed: ProgramConfig = dataclasses.replace(config, config=Frozen(found), given=Frozen(given))
        return changed

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

    def inputs(self, stage: str, config: Config) -> Mapping[str, str]:
        return dict(config.program.data)


TRAINER = ProgramTrainer()


def _told(config: ProgramConfig) -> bool:
    """Whether the command takes whatever key is given; otherwise each key has a separate word."""
    return bool(config.program.function) or any("{args" in word for word in config.program.command)


def _steps(config: ProgramConfig) -> float:
    """Number of steps, as the stage says it; 0: it does not."""
    text = config.job.stage.steps
    values: Tree = {**dotted(config.config), **config.unhashed}
    filling = Filling(values, {}, {}, {}, {})
    try:
        return float(filling.text(text)) if text and (filling.knows(text) or "{" not in text) else 0.0
    except ValueError:
        return 0.0
