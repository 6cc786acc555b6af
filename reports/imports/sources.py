"""What the sources of a study hold: factors and seeds that its file leaves to them, and results for its plan."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablative.reports.imports.existing import described, not_to_run, of_homes, of_matches
from ablative.reports.imports.files import read_files
from ablative.reports.imports.matching import Source, applying, chosen, match
from ablative.reports.imports.mlflow_runs import read_mlflow
from ablative.reports.imports.other_study import read_study
from ablative.reports.imports.rows import SourceTable
from ablative.reports.store.database_store import FILL_AGAIN
from ablative.reports.store.existing_store import Existing
from ablative.study.core.errors import ConfigError, StoreError
from ablative.study.home.paths import Home
from ablative.study.spec.design import cell_name
from ablative.study.syntax.sources import FactorColumn, SourceConfig, parse_homes, parse_sources

if TYPE_CHECKING:
    from ablative.study.plan.plan import Plan
    from ablative.study.plan.task import Task

Content = dict[str, Any]
"""What a study's file says."""


class Sources:
    """Every source that a study names, read once."""

    def __init__(self, configs: tuple[SourceConfig, ...], homes: tuple[str, ...], folder: Path, home: Home, where: str):
        self._homes, self._folder, self._where = homes, folder, where
        self._sources = [_opened(config, _read(config, folder, home)) for config in configs]
        self._seeds_declared = self._cells_declared = True

    def filled(self, data: Content, executes: bool) -> Content:
        """The content with the factors and seeds that a study without training code leaves to its sources."""
        if executes or not self._sources:
            return data
        if data.get("search") is not None:
            raise ConfigError(f"{self._where}: search: the study has only results, and runs no trials")
        factors = dict(data.get("factors") or {})
        listed = any(own.values or own.conditions for source in self._sources for own in source.config.factors.values())
        self._cells_declared = bool(factors) or listed
        for factor in dict.fromkeys(name for source in self._sources for name in source.config.factors):
            if factors.get(factor) is None:
                having = [source for source in self._sources if factor in source.config.factors]
                levels = dict.fromkeys(level for source in having for level in source.levels(factor))
                if not levels:
                    at = f"{having[0].config.at}.factors.{factor}"
                    raise ConfigError(f"{at}: column '{having[0].config.factors[factor].column}' is empty")
                factors[factor] = {level: {factor: level} for level in levels}
        found = {**data, "factors": factors}
        if data.get("applies") is None and not self._cells_declared:
            found["applies"] = applying(self._sources, tuple(factors))
        if data.get("seeds") is None:
            self._seeds_declared = False
            found["seeds"] = self._seeds()
        return found

    def _seeds(self) -> list[int]:
        """All seeds of all sources; where one has none, as many as a cell has runs."""
        seeds: set[int] = set()
        for source in self._sources:
            if source.config.seed:
                seeds.update(seed for row in source.rows if (seed := source.seed(row)) is not None)
            else:
                columns = [factor.column for factor in source.config.factors.values()]
                alike = Counter(tuple(str(source.value(row, key)) for key in columns) for row in source.rows)
                conditions = any(factor.conditions for factor in source.config.factors.values())
                seeds.update(range(len(source.rows) if conditions else max(alike.values())))
        return sorted(seed for seed in seeds if seed >= 0) or [0]

    def matched(self, plan: Plan) -> Plan:
        """The plan with the results that exist already; raises ConfigError."""
        study = plan.study
        every = [
            each
            for source in self._sources
            for each in match(source, study.design.factors, plan.cells).matches(study.seeds)
        ]
        found = chosen(every)
        given = of_matches(plan, found)
        elsewhere, notes = of_homes(plan, self._homes, self._folder, f"{self._where}: homes")
        given |= elsewhere
        notes = [line for source in self._sources for line in described(source, found)] + notes
        paired = all(source.config.seed for source in self._sources)
        existing = Existing(not_to_run(plan, given), tuple(notes))
        plan = dataclasses.replace(plan, existing=existing, study=dataclasses.replace(study, paired=paired))
        having = {cell_name(cell) for task in plan.tasks if plan.has(task.task_id) for cell in task.cells}
        if not self._cells_declared:
            plan = _without_cells(plan, having)
        return plan if self._seeds_declared else _without_seeds(plan, having)


def _without_cells(plan: Plan, having: set[str]) -> Plan:
    """The plan without cells that no source has, since the study file asks for none of them."""
    tasks = tuple(task for task in plan.tasks if any(cell_name(cell) in having for cell in task.cells))
    return dataclasses.replace(plan, cells=tuple(cell for cell in plan.cells if cell_name(cell) in having), tasks=tasks)


def _without_seeds(plan: Plan, having: set[str]) -> Plan:
    """The plan without seeds that a cell does not have; a cell without any keeps one, so that it shows."""
    first = plan.study.seeds[0]

    def kept(task: Task) -> bool:
        lacking = any(cell_name(cell) not in having for cell in task.cells)
        return plan.has(task.task_id) or (lacking and task.seed == first)

    return dataclasses.replace(plan, tasks=tuple(filter(kept, plan.tasks)))


def _read(config: SourceConfig, folder: Path, home: Home) -> SourceTable:
    try:
        if config.kind == "mlflow":
            return read_mlflow(config, folder)
        if config.kind == "study":
            return read_study(config, folder, home)
        return read_files(config.kind, config.places, folder, f"{config.at}.{config.kind}")
    except StoreError as error:
        raise ConfigError(f"{config.at}: {str(error).removesuffix(FILL_AGAIN)}") from error


def _opened(config: SourceConfig, table: SourceTable) -> Source:
    """The source; the factors of another study are those of this one unless it says otherwise."""
    if not config.factors:
        config = dataclasses.replace(config, factors={name: FactorColumn(name) for name in table.factors})
    return Source.of(config, table)


def open_sources(data: Mapping[str, Any], where: str, folder: Path, home: Home) -> Sources:
    """Read what a study's file names under `results` and `homes`; raises ConfigError.

    Args:
        data: the file's content.
        where: the file, for messages.
        folder: where relative paths begin.
        home: of the plan.
    """
    configs = () if data.get("results") is None else parse_sources(data["results"], f"{where}: results")
    homes = () if data.get("homes") is None else parse_homes(data["homes"], f"{where}: homes")
    return Sources(configs, homes, folder, home, where)
