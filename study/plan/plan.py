"""A study's plan: its cells, and every task (pretraining or evaluation) with its whole typed configuration."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_type_hints

from ablative.study.clip.checks import check_protocol, check_run
from ablative.study.clip.config import DataConfig, EvaluationConfig, ProtocolConfig, RunConfig
from ablative.study.clip.fingerprints import Fingerprint, Fingerprints
from ablative.study.clip.metrics import RUN_METRICS, applicable, metric_names
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.files import write_atomic, write_json
from ablative.study.core.identity import canonical, digest, identity
from ablative.study.core.typed import build, dump
from ablative.study.home.paths import Home
from ablative.study.home.paths import home as default_home
from ablative.study.plan.claim_cells import check_claims
from ablative.study.plan.layout import check_outputs
from ablative.study.plan.search_arms import SearchArm, resolve
from ablative.study.plan.task import Task
from ablative.study.plan.tuned_levels import Searched, Tuned
from ablative.study.spec.cluster import ClusterConfig, spread
from ablative.study.spec.compose import GROUPS, Composer, Overrides, check_key, parse_overrides, set_value
from ablative.study.spec.design import Cell, cell_name, check_one_evaluation
from ablative.study.spec.metric_groups import with_groups
from ablative.study.spec.study_file import KEYS, Study, parse_study


@dataclass(frozen=True)
class Plan:
    """Everything that a study asks for, done or not."""

    study: Study
    cells: tuple[Cell, ...]
    tasks: tuple[Task, ...]
    """Runs in cell order with the baseline first, then their evaluations in the same order."""
    metrics: tuple[str, ...]
    """Names of every metric that some task of the plan may yield."""
    home: Home
    cluster: ClusterConfig
    arms: tuple[SearchArm, ...] = ()
    """Arms of the study's search, if it has one."""
    waiting: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Cells (their names) without tasks, since what they stand for is still searched; and why."""
    searched: Mapping[str, Searched] = dataclasses.field(default_factory=dict)
    """Cells (their names) that stand for what was searched; and what that cost."""
    clusters: Mapping[str, ClusterConfig] = dataclasses.field(default_factory=dict)
    """Run id → where this run and its evaluations go, since a level may ask for other resources."""
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Data (their names) that are not on this machine, and where they were looked for: ids are provisional then, since
    fingerprints of data are part of them. Only `make_plan(without_data=True)` gives such a plan."""
    whole: Plan | None = None
    """The plan that this is a part of; None: it is the whole one."""
    asked: str = ""
    """Study and overrides as the command line has them, quoted: what to type after `ablate run` to go on."""

    @cached_property
    def runs(self) -> tuple[Task, ...]:
        return tuple(task for task in self.tasks if task.kind == "pretrain")

    def of_cell(self, cell: Mapping[str, str]) -> tuple[Task, ...]:
        return tuple(task for task in self.tasks if dict(cell) in task.cells)

    def task(self, prefix: str) -> Task:
        """The task whose id starts with `prefix`; raises ConfigError when there is none, or more than one."""
        found = [task for task in self.tasks if task.task_id.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise ConfigError(unknown("task", prefix, [task.task_id for task in self.tasks][:8], self.study.name))
        raise ConfigError(f"task '{prefix}' is ambiguous: {', '.join(task.task_id for task in found[:5])}")

    def to_json(self) -> dict[str, Any]:
        tasks = [task.to_json() for task in self.tasks]
        waiting = {"waiting": dict(self.waiting)} if self.waiting else {}
        absent = {"absent": dict(self.absent)} if self.absent else {}
        return {"study": self.study.name, "cells": list(self.cells), "tasks": tasks, **waiting, **absent}

    def write(self) -> None:
        """Write the resolved configuration of every task, and the plan itself; what is there stays as it is."""
        assert not self.absent
        for task in self.tasks:
            path = task.paths(self.home).config
            if not path.exists():
                write_atomic(path, dump(task.config), durable=False)
        write_json(self.home.study(self.study.name).plan, (self.whole or self).to_json())


def make_plan(
    study_name: str,
    overrides: Sequence[str] = (),
    config_dir: str | None = None,
    home: Home | None = None,
    fingerprint: Fingerprint | None = None,
    without_data: bool = False,
) -> Plan:
    """Compose, enumerate and check a study.

    Args:
        study_name: name of a file in the Hydra group `study`.
        overrides: `key=value` words (config groups, dotted keys, keys of the study file).
        config_dir: a user's own Hydra config folder, searched after the shipped one.
        home: where runs live; default `$ABLATE_HOME`.
        fingerprint: reads the content fingerprint of file data; without it, fingerprints stay empty.
        without_data: plan even where data are not on this machine (`Plan.absent`): nothing of such a plan can be run.

    Raises:
        ConfigError: whatever is wrong with the study, before anything is spent.
    """
    words = parse_overrides(overrides, KEYS)
    home = home or default_home()
    composer = Composer(config_dir, home.composed if home.root.is_dir() else None)
    data = composer.study(study_name)
    for key, value in words.study.items():
        data = set_value(data, key, value)
    study = parse_study(data, f"study/{study_name}.yaml")
    found = _Planner(study, composer, words, home, fingerprint, without_data).plan()
    own = ["--config-dir", config_dir] if config_dir else []
    return dataclasses.replace(found, asked=shlex.join([study_name, *overrides, *own]))


class _Planner:
    """Builds each section of a configuration once, however many cells share it: 10,000 cells take about a second."""

    def __init__(
        self,
        study: Study,
        composer: Composer,
        words: Overrides,
        home: Home,
        fingerprint: Fingerprint | None,
        without_data: bool,
    ) -> None:
        self.study, self.composer, self.words, self.home = study, composer, words, home
        self._fingerprints = Fingerprints(fingerprint, home, without_data)
        self.base = {**study.base, **words.choices}
        for group in self.base:
            if group not in GROUPS:
                raise ConfigError(unknown("config group", group, GROUPS, f"study/{study.name}.yaml: base"))
        for key in words.values:
            check_key(key, _KEYED, study.protocols, "override")
        self._sections: dict[tuple[Any, ...], tuple[Any, str]] = {}
        self._checked: set[tuple[int, ...]] = set()
        self._evaluations: dict[tuple[Any, ...], tuple[tuple[str, EvaluationConfig, Any], ...]] = {}
        self._metrics: dict[str, None] = {}
        self._tuned = Tuned(study.design, study.name, (), None, home)

    def plan(self) -> Plan:
        self.study = with_groups(self.study, self._tree((), ())["suite"])
        cells = self.study.design.cells()
        arms = self._arms(cells)
        waiting: dict[str, str] = {}
        runs: dict[str, Task] = {}
        trees: dict[str, tuple[Any, ...]] = {}
        clusters: dict[str, ClusterConfig] = {}
        baseline_first = sorted(cells, key=lambda cell: cell != self.study.baseline)
        for cell in baseline_first:
            if reason := self._tuned.waiting(cell):
                waiting[cell_name(cell)] = reason
                continue
            choices, values = self._split(cell)
            for seed in self.study.seeds:
                run_id, config = self._run(choices, values, seed, cell)
                if run_id in runs:
                    one = runs[run_id].cells[0]
                    check_one_evaluation(self.study.name, (one, cell), (trees[run_id], (choices, values)))
                    runs[run_id] = dataclasses.replace(runs[run_id], cells=(*runs[run_id].cells, cell))
                    continue
                runs[run_id] = Task(run_id, "pretrain", run_id, seed, (cell,), None, config)
                trees[run_id] = (choices, values)
                clusters[run_id] = self._cluster(choices, values, config)
        evaluations = [task for run in runs.values() for task in self._evaluate(run, *trees[run.run_id])]
        metrics = (*RUN_METRICS, *self._metrics)
        check_outputs(self.study, list(metrics), cells)
        check_claims(self.study, cells, metrics, ((c, task.protocol) for task in evaluations for c in task.cells))
        cluster = self._section("cluster", ClusterConfig, (), ())[0]
        tasks = (*runs.values(), *evaluations)
        absent = self._fingerprints.absent
        found = {cell_name(cell): self._tuned.searched(cell) for cell in cells}
        searched = {cell: what for cell, what in found.items() if what is not None}
        return Plan(
            self.study, tuple(cells), tasks, metrics, self.home, cluster, arms, waiting, searched, clusters, absent
        )

    def _arms(self, cells: list[Cell]) -> tuple[SearchArm, ...]:
        """Arms of the study's search; from here on, levels that mean it can be looked up."""
        search = self.study.search
        if search is None:
            return ()
        base = self._tuned.fixed(self.study.baseline or {})
        arms = resolve(search, cells, base, self._configure, f"study/{self.study.name}.yaml: search")
        self._tuned = dataclasses.replace(self._tuned, arms=arms, search=search)
        return arms

    def _configure(self, levels: Cell) -> tuple[RunConfig, list[EvaluationConfig], ClusterConfig]:
        choices, values = self._split(levels)
        config = self._run(choices, values, 0, levels)[1]
        made = self._protocols(choices, values, config.objective.name)
        evaluations = [item for name, item, _ in made if self.study.evaluates(name, [levels])]
        return config, evaluations, self._cluster(choices, values, config)

    def _split(self, cell: Cell) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """A cell's overrides as hashable group choices and dotted values."""
        choices, values = [], []
        for key, value in self._tuned.meaning(cell).items():
            where = f"study/{self.study.name}.yaml: factors"
            if key in GROUPS and not isinstance(value, Mapping):
                choices.append((key, str(value)))
            else:
                check_key(key, _KEYED, self.study.protocols, where)
                values.append((key, tuple(value) if isinstance(value, list) else value))
            # Where a run goes is no part of what it is: a level's own resources and a cluster given here agree.
            if key.split(".")[0] != "cluster" and (key in self.words.values or key in self.words.choices):
                raise ConfigError(f"override '{key}': a factor of the study sets this key; restrict the factor instead")
        return tuple(choices), tuple(values)

    def _tree(self, choices: tuple[Any, ...], values: tuple[Any, ...]) -> dict[str, Any]:
        """The configuration tree of a cell: base choices, then the cell's, then overrides, then the cell's values."""
        merged = {**self.base, **dict(choices)}
        tree = self.composer.tree(tuple(sorted(merged.items())), self.study.protocols)
        for key, value in (*self.words.values.items(), *values):
            tree = set_value(tree, key, value)
        return tree

    def _section(self, name: str, cls: type, choices: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, str]:
        """One typed section and its canonical JSON, built once for equal choices and values."""
        key = (name, choices, own := tuple(item for item in values if item[0].split(".")[0] == name))
        if key not in self._sections:
            section: Any = build(cls, self._tree(choices, own).get(name, {}), name)
            if isinstance(section, DataConfig):
                section = self._fingerprints.with_fingerprint(section)
            self._sections[key] = section, canonical(identity(section))
        return self._sections[key]

    def _run(self, choices: tuple[Any, ...], values: tuple[Any, ...], seed: int, cell: Cell) -> tuple[str, RunConfig]:
        sections, texts = {}, []
        try:
            for spec in dataclasses.fields(RunConfig):
                if spec.name == "seed":
                    texts.append(f'"seed":{seed}')
                    continue
                sections[spec.name], text = self._section(spec.name, _SECTIONS[spec.name], choices, values)
                if spec.metadata.get("identity", True):
                    texts.append(f'"{spec.name}":{text}')
            config = RunConfig(**sections, seed=seed)
            key = tuple(id(section) for section in sections.values())
            if key not in self._checked:
                check_run(config)
                self._checked.add(key)
        except ConfigError as error:
            raise ConfigError(f"study '{self.study.name}', cell {cell_name(cell)}: {error}") from None
        # The same text as canonical(identity(config)), put together from the sections' own.
        return digest("{" + ",".join(sorted(texts)) + "}"), config

    def _cluster(self, choices: tuple[Any, ...], values: tuple[Any, ...], config: RunConfig) -> ClusterConfig:
        return spread(self._section("cluster", ClusterConfig, choices, values)[0], config.runtime)

    def _evaluate(self, run: Task, choices: tuple[Any, ...], values: tuple[Any, ...]) -> Iterator[Task]:
        assert isinstance(run.config, RunConfig)
        own = tuple(item for item in values if item[0].split(".")[0] in ("suite", "protocol"))
        key = (choices, own, run.config.objective.name)
        if key not in self._evaluations:
            self._evaluations[key] = tuple(self._protocols(*key))
        for name, config, content in self._evaluations[key]:
            if self.study.evaluates(name, run.cells):
                task_id = digest(canonical({**content, "run_id": run.run_id}))
                config = dataclasses.replace(config, run_id=run.run_id)
                yield Task(task_id, "evaluate", run.run_id, run.seed, run.cells, config.protocol.name, config)

    def _protocols(
        self, choices: tuple[Any, ...], values: tuple[Any, ...], objective: str
    ) -> Iterator[tuple[str, EvaluationConfig, Any]]:
        tree = self._tree(choices, values)
        suite = tree["suite"]
        for name in self.study.protocols:
            protocol = build(ProtocolConfig, tree["protocol"][name], f"protocol.{name}")
            check_protocol(protocol, f"protocol.{name}")
            datasets = tuple(
                self._fingerprints.dataset(suite, item) for item in suite["protocols"].get(protocol.kind, ())
            )
            if not datasets:
                raise ConfigError(f"protocols: '{name}' has no evaluation set; give suite.protocols.{protocol.kind}")
            names = metric_names(protocol.name, protocol.kind, tuple(item.name for item in datasets))
            self._metrics.update(dict.fromkeys(names))
            if applicable(protocol.kind, objective):
                config = EvaluationConfig(run_id="", protocol=protocol, datasets=datasets)
                yield name, config, identity(config)


_SECTIONS: dict[str, type] = {name: kind for name, kind in get_type_hints(RunConfig).items() if name != "seed"}
_KEYED = (*_SECTIONS, "suite", "protocol", "cluster")
"""Branches of the configuration that dotted keys may reach."""
