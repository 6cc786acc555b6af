"""Configurations of the cells of a study of one's own code: each stage's whole configuration, resolved."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import Settings
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.spec.sections import Choices, Frozen, Values
from ablative.study.syntax.factors import brief, text_value
from ablative.study.syntax.source_keys import names
from ablative.study.syntax.words import STAGE_MARK
from ablative.study.trainers import Code, Configurations, Metric, Request, Stage, cost_metrics
from ablative.trainer.program.checks import check_known, check_parts, check_scripts
from ablative.trainer.program.code import code
from ablative.trainer.program.config import precision
from ablative.trainer.program.data_files import DataFiles, data_names
from ablative.trainer.program.definition import Described, StageDefinition, parse_stages, texts, words
from ablative.trainer.program.interpreter import interpreter
from ablative.trainer.program.keys import ProgramKeys
from ablative.trainer.program.parts import Part, output_words, parts
from ablative.trainer.program.probes.program import Invocation
from ablative.trainer.program.resolver import Resolver, Surroundings
from ablative.trainer.program.sources import described
from ablative.trainer.program.targets import check_targets
from ablative.trainer.program.words import Plain

KEYS = names(ProgramKeys)
"""Keys of a study that this trainer owns."""
RUNTIME = "runtime"


class ProgramConfigurations(Configurations):
    """The stages of each cell of one study."""

    def __init__(self, request: Request) -> None:
        self._request, own = request, request.own
        self._where = request.where
        python = text_value(own.get("python") or "", f"{self._where}: python")
        self._python = interpreter(python, request.folder, f"{self._where}: python")
        self._code = code(own.get("code"), self._python, request)
        self._folder = self._code.folder
        at = f"{self._where}: unhashed"
        self._unhashed = tuple(text_value(name, at) for name in _list(own.get("unhashed"), at))
        definitions = tuple(self._completed(stage) for stage in parse_stages(own["stages"], f"{self._where}: stages"))
        for stage in definitions:
            request.check_factors(stage.when, f"{self._where}: stages.{stage.name}.when")
        self._parts = {part.name: part for part in parts(definitions, f"{self._where}: stages")}
        self._described = {part.name: self._describe(part.definition) for part in self._parts.values()}
        self._resolvers = {part.name: self._resolver(part) for part in self._parts.values()}
        self._stages: dict[tuple[object, ...], Stage] = {}
        self._files = DataFiles(self._folder, request.home, request.without_data)
        check_scripts(self._parts, self._folder, request.folder, self._where)
        check_parts(self._parts, self._described, bool(own.get("partial")), request.seeds, self._where)
        check_targets(definitions, self._invocation, f"{self._where}: stages")
        self._metrics = self._declared()

    @property
    def metrics(self) -> Sequence[Metric]:
        return self._metrics

    @property
    def absent(self) -> Mapping[str, str]:
        return self._files.absent

    @property
    def code(self) -> Code:
        return self._code

    def check_key(self, key: str, where: str) -> None:
        stage, _, name = key.rpartition(STAGE_MARK)
        if name.startswith(f"{RUNTIME}."):
            fields = [f"{RUNTIME}.{spec.name}" for spec in dataclasses.fields(RuntimeConfig)]
            if name not in fields:
                raise ConfigError(unknown("key", name, fields, where))
            return
        at = f"{where}: {key}" if stage else where
        own = [part for part in self._parts.values() if not stage or stage in (part.name, part.definition.name)]
        if not own:
            names = {part.definition.name for part in self._parts.values()}
            raise ConfigError(unknown("stage", stage, names, at))
        if any(self._resolvers[part.name].takes(name) for part in own):
            return
        having = [part for part in own if self._resolvers[part.name].has(name)]
        if having and all(part.definition.reads for part in having):
            raise ConfigError(f"{at}: 'reads' of stage '{having[0].definition.name}' does not name this key")
        if having:
            raise ConfigError(
                f"{where}: {key}: no word of a command reads it, so that it would change nothing; add {{{name}}} or "
                f"{{args}} to the command"
            )
        raise ConfigError(unknown("key", name, [key for part in own for key in self._resolvers[part.name].known], at))

    def stages(self, choices: Choices, values: Values) -> Sequence[Stage]:
        return [self._stage(part, choices, values) for part in self._parts.values()]

    def close(self) -> None:
        for resolver in self._resolvers.values():
            resolver.close()

    def _stage(self, part: Part, choices: Choices, values: Values) -> Stage:
        set_here = sorted({**self._request.words, **dict(values)}.items(), key=precision)
        chosen = {name: value for key, value in set_here if (name := self._own_key(part, key)) is not None}
        runtime = self._runtime(part, choices, values)
        key = (part.name, repr(chosen), runtime)
        if key not in self._stages:
            own = part.definition
            self._stages[key] = Stage(
                part.name,
                self._resolvers[part.name].configured(chosen, runtime, functools.partial(self._data, part)),
                runtime,
                part.needs,
                own.seeded,
                self._metrics_of[part.name],
                own.when,
            )
        return self._stages[key]

    def _own_key(self, part: Part, key: str) -> str | None:
        """The key as the part knows it; None: it is not the part's."""
        stage, _, name = key.rpartition(STAGE_MARK)
        if stage and stage not in (part.name, part.definition.name):
            return None
        return (
            name if name.split(".")[0] not in (RUNTIME, "cluster") and self._resolvers[part.name].takes(name) else None
        )

    def _runtime(self, part: Part, choices: Choices, values: Values) -> RuntimeConfig:
        own = tuple(item for item in values if item[0].split(".")[0] == RUNTIME)
        found: RuntimeConfig = self._request.section(RUNTIME, RuntimeConfig, choices, own)
        processes = part.definition.launch.processes
        return dataclasses.replace(found, processes=processes) if processes else found

    def _completed(self, stage: StageDefinition) -> StageDefinition:
        """The stage with the environment and the prefix that the study has for all of them."""
        own = self._request.own
        env = texts(own.get("env") or {}, f"{self._where}: env")
        prefix = words(own.get("prefix") or "", f"{self._where}: prefix")
        return dataclasses.replace(stage, env=Frozen({**env, **stage.env}), prefix=stage.prefix or prefix)

    def _describe(self, stage: StageDefinition) -> Described:
        data = self._request.own.get("config")
        if stage.config is None:
            return described(data, f"{self._where}: config")
        where = f"{self._where}: stages.{stage.name}.config"
        found, common = described(stage.config, where), described(data, f"{self._where}: config")
        if found.kind == common.kind == "values":
            return dataclasses.replace(found, values=Frozen({**common.values, **found.values}))
        return found

    def _resolver(self, part: Part) -> Resolver:
        cache = self._request.home.cache / "probes"
        around = Surroundings(self._python, self._folder, str(self._folder), cache, unhashed=self._unhashed)
        return Resolver(part, output_words(part, self._parts), self._described[part.name], around)

    def _invocation(self, own: StageDefinition) -> Invocation:
        cache = self._request.home.cache / "probes"
        return Invocation(self._python, own.folder(self._folder), own.env, f"stages.{own.name}", cache)

    def _data(self, part: Part, values: Settings) -> dict[str, str]:
        """Fingerprints of the files that it reads, once the keys that its texts name are known to be there."""
        check_known(part, self._parts, values, f"{self._where}: stages.{part.definition.name}")
        names = data_names(part.definition.data, {**values, **part.each}, self._folder)
        return self._files.fingerprints(names, f"{self._where}: stages.{part.name}.data")

    def _declared(self) -> tuple[Metric, ...]:
        first = opening_part(tuple(self._parts.values()))
        self._metrics_of = {
            part.name: (*part.metrics(), *(cost_metrics(part.name) if part is first else ()))
            for part in self._parts.values()
        }
        return tuple(metric for own in self._metrics_of.values() for metric in own)


def _list(value: object, where: str) -> list[Plain]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise ConfigError(f"{where}: expected a list, found {brief(value)}")
    return value


def opening_part(all_parts: Sequence[Part]) -> Part:
    """The part that opens a run: the first seeded one after those that it needs."""
    left, done = list(all_parts), set[str]()
    while left:
        ready = next((part for part in left if done.issuperset(part.needs)), left[0])
        if ready.definition.seeded:
            return ready
        done.add(ready.name)
        left.remove(ready)
    return all_parts[0]
