"""Configurations of a study's cells: pretraining from its sections, protocols on the suite's evaluation sets."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import get_type_hints

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.registry import load
from ablative.study.core.typed import build
from ablative.study.home.paths import Home
from ablative.study.spec.compose import GROUPS as COMMON_GROUPS
from ablative.study.spec.sections import Choices, Values
from ablative.study.spec.study_file import condition
from ablative.study.syntax.metric_patterns import GROUP_MARK
from ablative.study.syntax.words import Tree
from ablative.study.trainers import Configurations, Metric, Request, Stage
from ablative.trainer.clip.spec.checks import check_protocol, check_run
from ablative.trainer.clip.spec.config import (
    DataConfig,
    DatasetConfig,
    EvaluationConfig,
    ModelConfig,
    ObjectiveConfig,
    ProtocolConfig,
    RunConfig,
    SuiteConfig,
)
from ablative.trainer.clip.spec.fingerprints import ContentFile, Fingerprints
from ablative.trainer.clip.spec.metrics import PROTOCOL_KINDS, RUN_METRICS, TRAIN, applicable, protocol_metrics
from ablative.trainer.clip.spec.recipes import recipe_of, unread_keys

GROUPS = ("model", "objective", "schedule", "data", "suite")
"""Config groups that a study's `base`, a level or an override may choose from, besides the common ones."""
SECTIONS: dict[str, type] = {
    name: kind for name, kind in get_type_hints(RunConfig).items() if hasattr(kind, "__dataclass_fields__")
}
_KEYED = (*SECTIONS, "suite", "protocol", "cluster")
"""Branches of the configuration that dotted keys may reach."""


class ClipConfigurations(Configurations):
    """The pretraining and the evaluations of each cell of one study."""

    def __init__(self, request: Request) -> None:
        self._request = request
        read, check = (_read, _check) if request.read_data else (None, None)
        self._fingerprints = Fingerprints(request.home, read, request.without_data, check)
        self._protocols = _protocols(request.own.get("protocols") or [], f"{request.where}: protocols")
        for name, levels in self._protocols.items():
            request.check_factors(levels, f"{request.where}: protocols.{name}")
            request.check_choice("protocol", name, "protocols")
        request.extend(tuple(f"+protocol@protocol.{name}={name}" for name in self._protocols))
        self._metrics: dict[str, Metric] = {metric.name: metric for metric in RUN_METRICS}
        self._suited: set[Choices] = set()
        self._checked: set[tuple[int, ...]] = set()
        self._evaluations: dict[tuple[object, ...], tuple[Stage, ...]] = {}

    @property
    def metrics(self) -> Sequence[Metric]:
        return tuple(self._metrics.values())

    @property
    def absent(self) -> Mapping[str, str]:
        return self._fingerprints.absent

    def check_key(self, key: str, where: str) -> None:
        head, _, rest = key.partition(".")
        if head not in _KEYED or not rest:
            groups = (*GROUPS, *COMMON_GROUPS)
            raise ConfigError(unknown("key", key, [*groups, *(f"{name}.…" for name in _KEYED)], where))
        if head == "protocol" and (name := rest.partition(".")[0]) not in self._protocols:
            raise ConfigError(unknown("protocol of the study", name, self._protocols, f"{where}: {key}"))

    def members(self, pattern: str, where: str) -> Sequence[str]:
        """One pattern for each set of a group of the suite (`groups: {natural: [caltech101, …]}`).

        VTAB's three groups are averages that papers print. A member `aircraft/per_class` has that metric instead of the
        pattern's. Raises ConfigError for a group that does not exist, or that holds a set that does not.
        """
        head, *rest = pattern.split("/")
        suite = self._suite
        groups = suite.groups
        for name, sets in groups.items():
            for member in sets:
                if (own := member.partition("/")[0]) not in suite.datasets:
                    raise ConfigError(unknown("evaluation set", own, suite.datasets, f"suite.groups.{name}"))
        if not rest or not rest[0].startswith(GROUP_MARK):
            return (pattern,)
        name = rest[0].removeprefix(GROUP_MARK)
        if name not in groups:
            raise ConfigError(unknown("group of evaluation sets", name, groups, where))
        return tuple("/".join([head, *([member] if "/" in member else [member, *rest[1:]])]) for member in groups[name])

    @functools.cached_property
    def _suite(self) -> SuiteConfig:
        """The suite of the study's base, which each column of each table asks for."""
        return _suite(self._tree((), ()))

    def stages(self, choices: Choices, values: Values) -> Sequence[Stage]:
        self._check_suite(choices)
        written = self._run(choices, values)
        unread = unread_keys(written.objective)
        read = tuple(item for item in values if item[0] not in unread)
        words = {key for key in self._request.words if key in unread}
        config = self._run(choices, read, words) if words or len(read) < len(values) else written
        former = written if config != written else None
        own = tuple(item for item in values if item[0].split(".")[0] in ("suite", "protocol"))
        key = (choices, own, recipe_of(config.objective), config.runtime)
        if key not in self._evaluations:
            self._evaluations[key] = tuple(self._evaluate(choices, own, config))
        train = Stage(TRAIN, config, config.runtime, metrics=RUN_METRICS, former=former)
        return (train, *self._evaluations[key])

    def _tree(self, choices: Choices, values: Values) -> Tree:
        """The composed tree, with the study's protocols under `protocol`."""
        self._check_suite(choices)
        return self._request.tree(choices, values)

    def _check_suite(self, choices: Choices) -> None:
        """Raise ConfigError for data without an evaluation suite of their name, where none is chosen."""
        if choices in self._suited:
            return
        chosen = {**self._request.choices, **dict(choices)}
        suites = self._request.options("suite")
        if "data" in chosen and "suite" not in chosen and chosen["data"] not in suites:
            raise ConfigError(
                f"data '{chosen['data']}' has no evaluation suite of its name; choose one in the study's base: "
                f"suite: {' | '.join(suites)}"
            )
        self._suited.add(choices)

    def _run(self, choices: Choices, values: Values, without: Sequence[str] | set[str] = ()) -> RunConfig:
        """A run's configuration, without a seed; `without`: words of the command line that are passed over."""
        completed = {
            DataConfig: self._fingerprints.with_fingerprint,
            ModelConfig: self._fingerprints.started,
            ObjectiveConfig: self._fingerprints.coded,
        }
        sections = {
            name: self._request.section(
                name,
                kind,
                choices,
                values,
                completed.get(kind),
                tuple(sorted(key for key in without if key.split(".")[0] == name)) if without else (),
            )
            for name, kind in SECTIONS.items()
        }
        config = RunConfig(**sections, seed=0)
        key = tuple(id(section) for section in sections.values())
        if key not in self._checked:
            check_run(config)
            self._checked.add(key)
        return config

    def _evaluate(self, choices: Choices, values: Values, run: RunConfig) -> Iterator[Stage]:
        tree = self._tree(choices, values)
        suite = _suite(tree)
        alone = dataclasses.replace(run.runtime, processes=1)
        for name, levels in self._protocols.items():
            protocol = build(ProtocolConfig, tree["protocol"][name], f"protocol.{name}")
            check_protocol(protocol, f"protocol.{name}")
            datasets = tuple(self._fingerprints.dataset(suite, item) for item in suite.protocols.get(protocol.kind, ()))
            if not datasets:
                raise ConfigError(f"protocols: '{name}' has no evaluation set; give suite.protocols.{protocol.kind}")
            metrics = protocol_metrics(protocol.name, protocol.kind, tuple(item.name for item in datasets))
            self._metrics.update({metric.name: metric for metric in metrics})
            if applicable(protocol.kind, recipe_of(run.objective)):
                for dataset in datasets:
                    self._fingerprints.check(dataset, protocol)
                config = EvaluationConfig(run_id="", protocol=protocol, datasets=datasets)
                yield Stage(protocol.name, config, alone, (TRAIN,), metrics=metrics, where=levels)


def _suite(tree: Tree) -> SuiteConfig:
    """The evaluation suite of a composed tree; raises ConfigError for a wrong type or a kind of protocol unknown."""
    suite = build(SuiteConfig, tree["suite"], "suite")
    for kind, names in suite.protocols.items():
        if kind not in PROTOCOL_KINDS:
            raise ConfigError(unknown("kind of protocol", kind, PROTOCOL_KINDS, "suite.protocols"))
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"suite.protocols.{kind}: '{twice}' is there twice")
    return suite


def _read(source: DataConfig | DatasetConfig | ContentFile, home: Home) -> str:
    """The content fingerprint of data in files; what reads them is imported only for a plan that has such data."""
    return str(load("ablative.trainer.clip.data.fingerprints:fingerprint")(source, home))


def _check(dataset: DatasetConfig, protocol: ProtocolConfig, home: Home) -> None:
    load("ablative.trainer.clip.data.scored_sets:check_set")(dataset, protocol, home)


def _protocols(data: object, where: str) -> dict[str, dict[str, list[str]]]:
    """Protocol → which cells; a plain list of names means all cells."""
    if isinstance(data, Mapping):
        return {str(name): condition(levels, f"{where}.{name}") for name, levels in data.items()}
    if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
        raise ConfigError(f"{where}: expected a list of names (or name: levels of the cells), found {data!r}")
    if len(set(data)) < len(data):
        raise ConfigError(f"{where}: {data} holds a protocol twice")
    return {name: {} for name in data}
