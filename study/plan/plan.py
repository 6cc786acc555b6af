"""A study's plan: its cells, and every task (one stage of one run) with its whole configuration."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ablative.study import installed_trainers, trainer_names
from ablative.study.core import registry
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.files import write_json
from ablative.study.core.registry import Existing
from ablative.study.home.paths import Home
from ablative.study.home.paths import home as default_home
from ablative.study.home.study_files import check_file, remember
from ablative.study.plan.kept_config import keep_config
from ablative.study.plan.levels import Levels
from ablative.study.plan.outputs.claim_cells import check_claims
from ablative.study.plan.outputs.layout import check_outputs
from ablative.study.plan.outputs.metric_groups import with_groups
from ablative.study.plan.read_keys import ReadKeys
from ablative.study.plan.search_arms import SearchArm, parameter_kinds, resolve
from ablative.study.plan.stage_graph import bound_tasks, by_depth, opening
from ablative.study.plan.task import Task
from ablative.study.plan.tuned_levels import Searched, Tuned
from ablative.study.spec.cluster import ClusterConfig, spread
from ablative.study.spec.compose import GROUPS, Composer, folder_of
from ablative.study.spec.design import Cell, allows, cell_name
from ablative.study.spec.parents import PARENT_KEY, parents
from ablative.study.spec.runtime import RuntimeConfig, widest
from ablative.study.spec.search import with_kinds
from ablative.study.spec.sections import Choices, Sections, Values
from ablative.study.spec.study_file import KEYS, TRAINER, Study, changed_content, check_factors, parse_study
from ablative.study.syntax.places import Places
from ablative.study.syntax.words import Overrides, Tree, parse_words, sort_words
from ablative.study.trainers import Code, Config, Metric, Request, Stage, Trainer


@dataclass(frozen=True)
class Plan:
    """Everything that a study asks for, done or not."""

    study: Study
    cells: tuple[Cell, ...]
    tasks: tuple[Task, ...]
    """Each after those that it needs; those that need nothing first, in cell order with the baseline before all."""
    declared: Mapping[str, Metric]
    """Name → every metric that some task of the plan may yield."""
    home: Home
    cluster: ClusterConfig
    trainer: Trainer
    arms: tuple[SearchArm, ...] = ()
    """Arms of the study's search, if it has one."""
    waiting: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Cells (their names) without tasks, since what they stand for is still searched; and why."""
    searched: Mapping[str, Searched] = dataclasses.field(default_factory=dict)
    """Cells (their names) that stand for what was searched; and what that cost."""
    clusters: Mapping[str, ClusterConfig] = dataclasses.field(default_factory=dict)
    """Run id → where its tasks go (a level may ask for other resources), spread over nodes for the widest of them."""
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Data that are not here, and where they were looked for: ids are provisional (`make_plan(without_data=True)`)."""
    whole: Plan | None = None
    """The plan that this is a part of; None: it is the whole one."""
    existing: Existing | None = None
    """Results that exist already; None: the study names no sources."""
    asked: str = ""
    """Study and overrides as the command line has them, quoted: what to type after `ablate run` to go on."""
    code: Code | None = None  # the user's code that its tasks run with the trainer's packages

    @cached_property
    def runs(self) -> tuple[Task, ...]:
        """The tasks that open a run."""
        return tuple(task for task in self.tasks if task.opens and task.seeded)

    def has(self, task_id: str) -> bool:
        """Whether a source of the study has the task's result, so that it is not run."""
        return self.existing is not None and task_id in self.existing.places

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.declared)

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """Names of its tasks' stages, in the order of the tasks."""
        return tuple(dict.fromkeys(task.stage for task in self.tasks))

    @cached_property
    def by_id(self) -> Mapping[str, Task]:
        return {task.task_id: task for task in self.tasks}

    def needed_configs(self, task: Task) -> dict[str, Any]:
        """Stage, or `from` → configuration of a task that it needs; of the whole plan, where that has it."""
        known = (self.whole or self).by_id
        needs = zip(task.need_stages, task.needs, strict=True)
        return {stage: known[need].config for stage, need in needs if need in known}

    def of_cell(self, cell: Mapping[str, str]) -> tuple[Task, ...]:
        return tuple(self._by_cell.get(frozenset(cell.items()), ()))

    @cached_property
    def _by_cell(self) -> Mapping[frozenset[tuple[str, str]], list[Task]]:
        found: dict[frozenset[tuple[str, str]], list[Task]] = {}
        for task in self.tasks:
            for cell in task.cells:
                found.setdefault(frozenset(cell.items()), []).append(task)
        return found

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
        left = {"waiting": dict(self.waiting), "absent": dict(self.absent)}
        return {"study": self.study.name, "cells": list(self.cells), "tasks": tasks} | {
            key: of for key, of in left.items() if of
        }

    def write(self) -> None:
        """Write the resolved configuration of every task, and the plan itself."""
        assert not self.absent
        for task in (task for task in self.tasks if not self.has(task.task_id)):
            keep_config(task, self.trainer, task.paths(self.home))
        whole = self.whole or self
        remember(self.home, self.study.name, self.study.where, self.trainer.conf)
        write_json(self.home.study(self.study.name).plan, whole.to_json() | {"asked": whole.asked})


def make_plan(
    study_name: str,
    overrides: Sequence[str] = (),
    config_dir: str | None = None,
    home: Home | None = None,
    read_data: bool = False,
    without_data: bool = False,
) -> Plan:
    """Compose, enumerate and check a study.

    Args:
        study_name: name of a file in the Hydra group `study`, or a file's path.
        overrides: `key=value` words (config groups, dotted keys, keys of the study file).
        config_dir: a user's own Hydra config folder, searched after the shipped one.
        home: where runs live; default `$ABLATE_HOME`.
        read_data: read the content fingerprints of data in files; without, they stay empty.
        without_data: plan even where data are not on this machine (`Plan.absent`): nothing of such a plan can be run.

    Raises:
        ConfigError: whatever is wrong with the study, before anything is spent.
    """
    given, home = parse_words(overrides), home or default_home()
    name, folder = folder_of(study_name, config_dir)
    composer = Composer(folder, installed_trainers.conf_folders())
    written = composer.study(name)
    places = Places(written.documents, given)
    with places.naming_lines():
        named = given.get(TRAINER, written.data.get(TRAINER, trainer_names.implied(written.data)))
        trainer = installed_trainers.trainer(str(named), places.where)
        own = [trainer.conf] if trainer.conf else []
        if own != list(installed_trainers.conf_folders()):
            composer = Composer(folder, own)
        groups = (*trainer.groups, *GROUPS)
        words = sort_words(given, groups, (*KEYS, *trainer.study_keys))
        data = changed_content(written.data, words.study, groups, places.where, not trainer.executes)
        sources = registry.sources(data, places.where, written.documents[0].path.parent, home)
        if sources is not None:
            data = sources.filled(data, trainer.executes)
        study = _study(data, trainer, groups, places.where)
        sections = Sections(composer, study.base, words)
        sections.check_choices(groups, f"{places.where}: base")
        place = written.documents[0].path.resolve().parent
        planner = _Planner(study, trainer, sections, words, home, read_data, without_data, place)
        try:
            plan = planner.plan()
        finally:
            planner.close()
        if sources is not None:
            plan = sources.matched(plan)
    check_file(home, study.name, study.where, trainer.conf)
    asked = [study_name, *overrides, *(["--config-dir", config_dir] if config_dir else [])]
    return dataclasses.replace(plan, asked=shlex.join(asked))


def _study(data: Tree, trainer: Trainer, groups: Sequence[str], where: str) -> Study:
    others = partial(installed_trainers.others_keys, trainer)
    return parse_study(data, where, trainer.name, trainer.study_keys, trainer.condition_keys, others, groups)


class _Planner:
    """Enumerates the cells of a study and their tasks."""

    def __init__(
        self,
        study: Study,
        trainer: Trainer,
        sections: Sections,
        words: Overrides,
        home: Home,
        read_data: bool,
        without_data: bool,
        folder: Path,
    ) -> None:
        self.study, self.where, self.trainer, self.words, self.home = study, study.where, trainer, words, home
        self._sections = sections
        self._configurations = trainer.configurations(
            Request(
                name=study.name,
                where=self.where,
                folder=folder,
                seeds=study.seeds,
                own=study.own,
                choices=sections.base,
                tree=sections.tree,
                extend=sections.extend,
                section=sections.section,
                options=sections.composer.options,
                check_choice=sections.composer.check_choice,
                words=words.values,
                check_factors=lambda condition, at: check_factors(study, [], condition, at),
                home=home,
                read_data=read_data,
                without_data=without_data,
            )
        )
        self._levels = Levels(study, self._configurations, words, (*trainer.groups, *GROUPS), trainer.study_keys)
        self._tuned = Tuned(study.design, study.name, (), None, home)
        self._runs: dict[tuple[str, int], list[Task]] = {}
        self._stages: dict[str, list[Stage]] = {}

    def close(self) -> None:
        """End what the trainer has started for the plan: a grid may run for days after it."""
        self._configurations.close()

    def plan(self) -> Plan:
        self.study = with_groups(self.study, self._configurations.members)
        cells = self.study.design.cells()
        self._levels.name_cells(cells)
        name = self._levels.name
        self._parents = parents(self.study.design, cells, self.where)
        arms = self._arms(cells)
        waiting = {name(cell): reason for cell in cells if (reason := self._waiting(cell))}
        ready = [cell for cell in cells if name(cell) not in waiting]
        tasks, clusters = self._tasks(sorted(ready, key=lambda cell: cell != self.study.baseline))
        declared = {metric.name: metric for metric in self._configurations.metrics}
        measured = {(name(cell), task.stage) for task in tasks for cell in task.cells}
        later = {(name(cell), stage) for cell in cells if name(cell) in waiting for stage in self._later(cell)}
        check_outputs(self.study, declared, cells)
        check_claims(self.study, cells, declared, measured | later)
        return Plan(
            self.study,
            tuple(cells),
            tasks,
            declared,
            self.home,
            self._sections.section("cluster", ClusterConfig),
            self.trainer,
            arms,
            waiting,
            {name(cell): what for cell in cells if (what := self._tuned.searched(cell)) is not None},
            clusters,
            self._configurations.absent,
            code=self._configurations.code,
        )

    def _tasks(self, cells: Sequence[Cell]) -> tuple[tuple[Task, ...], dict[str, ClusterConfig]]:
        """The tasks of these cells, and where those of each run go."""
        found: dict[str, Task] = {}
        wanted: set[str] = set()
        clusters: dict[str, ClusterConfig] = {}
        read_keys = ReadKeys(self.study, self.trainer, self.words.values)
        for cell in cells:
            choices, values = self._split(cell)
            stages = self._configured(cell)
            applied = {stage.name for stage in stages if allows(cell, stage.where)}
            self._check_stages(cell, stages, applied)
            read_keys.note(cell, values, opening(stages))
            for seed in self.study.seeds:
                run = self._run(cell, seed)
                for task in run:
                    found[task.task_id] = found[task.task_id].and_of(task) if task.task_id in found else task
                    if task.stage in applied:
                        wanted.add(task.task_id)
                    if task.run_id not in clusters:
                        own = [(o.stage, o.config, o.runtime) for o in run if o.run_id == task.run_id]
                        clusters[task.run_id] = self._cluster(choices, values, own)
        read_keys.check()
        return by_depth(found, wanted), clusters

    def _arms(self, cells: list[Cell]) -> tuple[SearchArm, ...]:
        """Arms of the study's search; from here on, levels that mean it can be looked up."""
        search = self.study.search
        if search is None:
            return ()
        base = self._tuned.fixed(self.study.baseline or {})
        search = search.after(self.trainer.enqueue)
        stages = self._configurations.stages(*self._split(self._tuned.fixed(cells[0])))
        kinds = parameter_kinds(self.trainer, stages)
        search = with_kinds(search, kinds, f"{self.where}: search")
        self.study = dataclasses.replace(self.study, search=search)
        arms = resolve(search, cells, base, self._configure, self.trainer, f"{self.where}: search")
        self._tuned = dataclasses.replace(self._tuned, arms=arms, search=search)
        self._levels.forget()
        return arms

    def _configure(self, levels: Cell) -> tuple[list[Stage], ClusterConfig]:
        choices, values = self._split(levels)
        if PARENT_KEY in self._tuned.meaning(levels):
            raise ConfigError(f"{self.where}: search: {cell_name(levels)} starts from another run; a trial cannot")
        stages = [stage for stage in self._configurations.stages(choices, values) if allows(levels, stage.where)]
        self._check_stages(levels, stages, {stage.name for stage in stages})
        own = [(stage.name, stage.config, stage.runtime) for stage in stages]
        return stages, self._cluster(choices, values, own)

    def _waiting(self, cell: Cell) -> str:
        """Why it, or a cell that it starts from, has no tasks yet."""
        parent = self._parents.get(self._levels.name(cell))
        return self._tuned.waiting(cell) or (self._waiting(parent) if parent is not None else "")

    def _later(self, cell: Cell) -> list[str]:
        """Names of the stages that a waiting cell will have: no value of a search adds or removes one."""
        stages = self._configurations.stages(*self._split(self._tuned.fixed(cell)))
        return [stage.name for stage in stages if allows(cell, stage.where)]

    def _configured(self, cell: Cell) -> list[Stage]:
        name = self._levels.name(cell)
        if name not in self._stages:
            try:
                self._stages[name] = list(self._configurations.stages(*self._split(cell)))
            except ConfigError as error:
                raise ConfigError(self._levels.blamed(cell, str(error))) from error.__cause__
        return self._stages[name]

    def _run(self, cell: Cell, seed: int) -> list[Task]:
        """The tasks of a run, whether its cell has all of them or not."""
        if (key := (self._levels.name(cell), seed)) not in self._runs:
            parent = self._parents.get(key[0])
            before = next(t for t in self._run(parent, seed) if t.opens and t.seeded) if parent else None
            run_id = before.task_id if before else ""
            self._runs[key] = bound_tasks(self.trainer, self._configured(cell), seed, cell, run_id)
            self._check_start(cell, self._runs[key], before)
        return self._runs[key]

    def _check_stages(self, cell: Cell, stages: list[Stage], applied: set[str]) -> None:
        configs = {stage.name: stage.config for stage in stages}
        for stage in stages:
            if stage.name in applied:
                try:
                    self.trainer.check_stage(stage.name, stage.config, {name: configs[name] for name in stage.needs})
                except ConfigError as error:
                    raise ConfigError(self._levels.blamed(cell, str(error))) from error.__cause__

    def _check_start(self, cell: Cell, tasks: list[Task], before: Task | None) -> None:
        first = next((task for task in tasks if task.opens and task.seeded), None)
        if first is not None:
            try:
                self.trainer.check_start(first.stage, first.config, before.config if before else None)
            except ConfigError as error:
                raise ConfigError(self._levels.blamed(cell, str(error))) from error.__cause__

    def _split(self, cell: Cell) -> tuple[Choices, Values]:
        return self._levels.split(cell, self._tuned)

    def _cluster(
        self, choices: Choices, values: Values, stages: Sequence[tuple[str, Config, RuntimeConfig]]
    ) -> ClusterConfig:
        """Where stages (name, configuration, runtime) of one run go; raises ConfigError for what cannot run there."""
        config: ClusterConfig = self._sections.section("cluster", ClusterConfig, choices, values)
        found = spread(config, widest([runtime for _, _, runtime in stages]))
        for stage, own, _ in stages:
            self.trainer.check_cluster(stage, own, found)
        return found
