"""Configurations of the cells of a study of one's own code: each stage's whole configuration, resolved."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Collection, Sequence

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import Settings, plain
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.spec.sections import Choices, Frozen, Values
from ablative.study.syntax.factors import brief
from ablative.study.trainers import Code, Configurations, Metric, Request, Stage, cost_metrics
from ablative.trainer.program.checks import check_known, check_parts, check_scripts
from ablative.trainer.program.code import code
from ablative.trainer.program.config import JobSettings, Program, ProgramConfig, dotted, nested
from ablative.trainer.program.data_files import fingerprints
from ablative.trainer.program.definition import StageDefinition, parse_stages, texts, words
from ablative.trainer.program.interpreter import interpreter, with_interpreter
from ablative.trainer.program.parts import Part, output_words, parts
from ablative.trainer.program.probes.program import Invocation
from ablative.trainer.program.sources import Asked, Declared, Described, Source, Typed, described, from_file
from ablative.trainer.program.targets import check_targets
from ablative.trainer.program.words import Filling, Plain, check_placeholders, placeholders, reads_all, without_unknown

KEYS = ("code", "config", "stages", "unhashed", "partial", "python", "env", "prefix")
"""Keys of a study that this trainer owns."""
STAGE_MARK = ":"
"""`probe:lr` is the key `lr` of the stage `probe` alone."""
SEED, FOLDER = 271828, "/ablate-stands-in"
"""What a program is asked with in place of the seed and of output folders; its answer has placeholders there."""
RUNTIME = "runtime"


class ProgramConfigurations(Configurations):
    """The stages of each cell of one study."""

    def __init__(self, request: Request) -> None:
        self._request, own = request, request.own
        self._where = request.where
        self._python = interpreter(str(own.get("python") or ""), request.folder, f"{self._where}: python")
        self._code = code(own.get("code"), self._python, request)
        self._folder = self._code.folder
        self._unhashed = tuple(map(str, _list(own.get("unhashed"), f"{self._where}: unhashed")))
        definitions = tuple(self._completed(stage) for stage in parse_stages(own["stages"], f"{self._where}: stages"))
        for stage in definitions:
            request.check_factors(stage.when, f"{self._where}: stages.{stage.name}.when")
        self._parts = {part.name: part for part in parts(definitions, f"{self._where}: stages")}
        self._described = {part.name: self._describe(part.definition) for part in self._parts.values()}
        self._sources: dict[str, Source] = {}
        self._known: dict[str, tuple[str, ...]] = {}
        self._resolved: dict[tuple[str, str], ProgramConfig] = {}
        self._stages: dict[tuple[object, ...], Stage] = {}
        check_scripts(self._parts, self._folder, request.folder, self._where)
        check_parts(self._parts, self._described, bool(own.get("partial")), request.seeds, self._where)
        check_targets(definitions, self._invocation, f"{self._where}: stages")
        self._metrics = self._declared()

    @property
    def metrics(self) -> Sequence[Metric]:
        return self._metrics

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
        own = [part for part in self._parts.values() if not stage or stage in (part.name, part.definition.name)]
        if not own:
            names = {part.definition.name for part in self._parts.values()}
            raise ConfigError(unknown("stage", stage, names, f"{where}: {key}"))
        if any(self._takes(part, name) for part in own):
            return
        if any(self._has(part, name) for part in own):
            raise ConfigError(
                f"{where}: {key}: no word of a command reads it, so that it would change nothing; add {{{name}}} or "
                f"{{args}} to the command"
            )
        raise ConfigError(unknown("key", name, [key for part in own for key in self._keys(part)], where))

    def stages(self, choices: Choices, values: Values) -> Sequence[Stage]:
        return [self._stage(part, choices, values) for part in self._parts.values()]

    def close(self) -> None:
        for source in self._sources.values():
            source.close()

    def _stage(self, part: Part, choices: Choices, values: Values) -> Stage:
        set_here = {**self._request.words, **dict(values)}
        told = {name: value for key, value in set_here.items() if (name := self._own_key(part, key)) is not None}
        runtime = self._runtime(part, choices, values)
        key = (part.name, repr(told), runtime)
        if key not in self._stages:
            own = part.definition
            self._stages[key] = Stage(
                part.name,
                self._configured(part, told, runtime),
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
        return name if name.split(".")[0] not in (RUNTIME, "cluster") and self._takes(part, name) else None

    def _runtime(self, part: Part, choices: Choices, values: Values) -> RuntimeConfig:
        own = tuple(item for item in values if item[0].split(".")[0] == RUNTIME)
        found: RuntimeConfig = self._request.section(RUNTIME, RuntimeConfig, choices, own)
        processes = part.definition.launch.processes
        return dataclasses.replace(found, processes=processes) if processes else found

    def _configured(self, part: Part, told: Settings, runtime: RuntimeConfig) -> ProgramConfig:
        own, source = part.definition, self._source(part)
        resolved = source.resolve(told)
        flat = {key: _with_placeholders(value) for key, value in dotted(plain(resolved.values)).items()}
        check_known(part, self._parts, flat, f"{self._where}: stages.{own.name}")
        read = {key: value for key, value in flat.items() if self._reads(part, key)}
        unhashed = {key: value for key, value in read.items() if self._is_unhashed(key)}
        given = {key: flat.get(key, value) for key, value in {**source.given, **told}.items()}
        # A key of `env` or `progress` alone is still one that {args} means.
        named = set(placeholders(own.command))
        launched = own.launch
        shared = runtime.processes if launched.by != "none" or launched.processes else 1
        program = Program(
            command=own.command,
            function=own.function,
            each=Frozen(part.each),
            data=Frozen(self._data(part, flat)),
            world_size=1 if launched.same_result else shared,
        )
        return ProgramConfig(
            config=Frozen(nested({key: value for key, value in read.items() if key not in unhashed})),
            program=program,
            unhashed=Frozen(unhashed),
            given=Frozen({key: value for key, value in given.items() if self._takes(part, key) and key not in named}),
            options=Frozen({key: resolved.options[key] for key in given if key in resolved.options}),
            job=JobSettings(
                stage=dataclasses.replace(own, config=None),
                python=self._python,
                code=str(self._folder),
                folders=Frozen(output_words(part, self._parts)),
            ),
            runtime=runtime,
        )

    def _invocation(self, own: StageDefinition) -> Invocation:
        cwd = self._folder / own.cwd if "{" not in own.cwd else self._folder
        where = f"stages.{own.name}"
        return Invocation(self._python, cwd, own.env, where, self._request.home.cache / "probes")

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
            return dataclasses.replace(found, values={**common.values, **found.values})
        return found

    def _source(self, part: Part) -> Source:
        if part.name not in self._sources:
            self._sources[part.name] = self._opened(part, self._described[part.name])
        return self._sources[part.name]

    def _opened(self, part: Part, found: Described) -> Source:
        where = f"stages.{part.definition.name}"
        if found.kind in ("", "values"):
            return Declared(found.values, where, opened=not found.kind)
        if found.kind == "file":
            return from_file(found.name, found.values, self._folder, where)
        own = part.definition
        invocation = self._invocation(own)
        if found.kind == "type":
            return Typed(found.values, invocation, self._unhashed, found.name)
        return Asked(found.values, found.kind, invocation, self._unhashed, lambda *given: self._asked(part, *given))

    def _asked(self, part: Part, given: Settings, options: Settings, known: Collection[str] | None) -> list[str]:
        """Words after the interpreter, with substitutes for the seed and the folders.

        A key that has a separate word and that is not given keeps the program's default: its word is left out.

        Args:
            part: whose command it is.
            given: keys, and their values.
            options: key → how the command line takes it.
            known: all keys of the program; None: it is asked for them.
        """
        own = part.definition
        folders = {name: f"{FOLDER}/{name}" for name in ("out", *output_words(part, self._parts))}
        fixed = {"seed": str(SEED), "config_file": f"{FOLDER}/config_file", "processes": "1", **folders}
        fixed |= {"python": self._python, "code": str(self._folder)}
        values = {**part.each, **given}
        if known is not None:
            stages = [name.removesuffix(".out") for name in output_words(part, self._parts)]
            check_placeholders(own.command, [*known, *part.each], stages, f"stages.{own.name}.command")
        named = placeholders(own.command)
        left = {key: value for key, value in given.items() if key not in named}
        command = without_unknown(own.command, {*fixed, *values})
        filled = Filling(values, left, fixed, own.rename, options).words(command)
        return with_interpreter(filled, self._python)[1:]

    def _keys(self, part: Part) -> tuple[str, ...]:
        """Dotted keys of the part's configuration with the values that every cell starts from."""
        if part.name not in self._known:
            self._known[part.name] = self._source(part).keys()
        return self._known[part.name]

    def _has(self, part: Part, key: str) -> bool:
        """Whether the part's configuration has a key, or a section of this name."""
        keys = self._keys(part)
        return not self._described[part.name].kind or key in keys or any(k.startswith(f"{key}.") for k in keys)

    def _takes(self, part: Part, key: str) -> bool:
        """Whether the part has the key, and its program reads it."""
        own = part.definition
        named = part.placeholders
        if not (own.function or reads_all(named) or key in named) or key in part.each:
            return False
        if own.reads and not any(fnmatch.fnmatchcase(key, pattern) for pattern in own.reads):
            return False
        return self._has(part, key)

    def _reads(self, part: Part, key: str) -> bool:
        """Whether the program reads the key: all of the options it has, also those that its command does not give."""
        if self._described[part.name].kind not in ("argparse", "hydra") or key in part.each:
            return self._takes(part, key)
        reads = part.definition.reads
        return not reads or any(fnmatch.fnmatchcase(key, pattern) for pattern in reads)

    def _is_unhashed(self, key: str) -> bool:
        return any(fnmatch.fnmatchcase(key, pattern) for pattern in self._unhashed)

    def _data(self, part: Part, flat: Settings) -> dict[str, str]:
        own = part.definition
        filling = Filling({**flat, **part.each}, {}, {"code": str(self._folder)}, {}, {})
        names = [filling.text(name) for name in own.data]
        return fingerprints(names, self._folder, self._request, f"{self._where}: stages.{part.name}.data")

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


def _with_placeholders(value: Plain) -> Plain:
    """A value of a program's answer in which what stood in for the seed and for folders has its name again."""
    if isinstance(value, list | tuple):
        return [_with_placeholders(item) for item in value]
    if value == SEED or value == str(SEED):
        return "{seed}"
    if isinstance(value, str) and FOLDER in value:
        return re.sub(rf"{FOLDER}/([\w.-]+)", r"{\1}", value)
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
