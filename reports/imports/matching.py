"""Which cell and seed of a study each run of a source is of, and what it gives them; the others, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ablative.reports.imports.conditions import column, fulfilling
from ablative.reports.imports.rows import Row, SourceTable, as_number, comparable
from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.plurals import counted
from ablative.study.spec.design import Cell, cell_name
from ablative.study.syntax.factors import level_name
from ablative.study.syntax.sources import FactorColumn, SourceConfig

NAMED = 3
"""So many runs of one kind are named; the rest is counted."""


@dataclass(frozen=True)
class Match:
    """A run of a source as a result of a cell and a seed."""

    source: Source
    row: Row
    cell: Cell
    seed: int
    values: Mapping[str, float]
    """Metric → its value; those that the run lacks are absent."""


@dataclass(eq=False)
class Source:
    """One source: its configuration, its runs, and what became of those that are no result."""

    config: SourceConfig
    table: SourceTable
    rows: tuple[Row, ...] = ()
    """Runs that count: they have finished, or fulfil the source's condition."""
    left: dict[str, list[str]] = field(default_factory=dict)
    """Why runs are no result → where they lie."""

    @classmethod
    def of(cls, config: SourceConfig, table: SourceTable) -> Source:
        """Raises ConfigError for columns that there are not, and where no run is left."""
        found = cls(config, table)
        if not table.rows:
            raise ConfigError(f"{config.at}: {table.title} has no runs")
        for name, key in _keys(config):
            if column(key, table.columns) is None:
                raise ConfigError(unknown("column", key, table.columns, f"{config.at}.{name}: in {table.title}"))
        found.rows = tuple(found._counting())
        return found

    def _counting(self) -> Iterable[Row]:
        config, rows = self.config, self.table.rows
        if config.where:
            kept = {id(row) for row in fulfilling(config.where, self.table, f"{config.at}.where")}
            if not kept:
                raise ConfigError(f"{config.at}.where: fulfilled by none of {counted(len(rows), 'run')}")
            for row in rows:
                if id(row) not in kept:
                    self.leave("'where' leaves it out", row)
            if any(name in config.where or name.rpartition(".")[2] in config.where for name in self.table.words):
                return [row for row in rows if id(row) in kept]
            rows = tuple(row for row in rows if id(row) in kept)
        for row in rows:
            if row.unfinished:
                self.leave(f"not finished ({row.unfinished})", row)
        finished = [row for row in rows if not row.unfinished]
        if not finished:
            words = ", ".join(sorted({row.unfinished for row in rows}))
            raise ConfigError(f"{config.at}: none of {counted(len(rows), 'run')} has finished ({words})")
        return finished

    def leave(self, why: str, row: Row) -> None:
        self.left.setdefault(why, []).append(row.place)

    def value(self, row: Row, key: str) -> object:
        """What a run has in the column of this name; None: nothing."""
        found = column(key, self.table.columns)
        return None if found is None else row.values.get(found)

    def seed(self, row: Row) -> int | None:
        """None: the run has none."""
        value = self.value(row, self.config.seed)
        number = as_number(value)
        if value is None:
            return None
        if number is None or number != number // 1:
            raise ConfigError(f"{self.config.at}.seed: {row.place}: expected a whole number, found '{value}'")
        return int(number)

    def metrics(self, row: Row) -> dict[str, float]:
        found = {}
        for name, metric in self.config.metrics.items():
            value = self.value(row, metric.key)
            number = as_number(value)
            if value is not None and number is None:
                at = f"{self.config.at}.metrics.{name}: {row.place}"
                raise ConfigError(f"{at}: column '{metric.key}' has '{value}', which is no number")
            if number is not None:
                found[name] = number * metric.scale
        return found

    def levels(self, factor: str) -> list[str]:
        """The levels that a factor has here, where the study does not list them."""
        own = self.config.factors[factor]
        if own.values or own.conditions:
            return list(dict.fromkeys([*own.values, *own.conditions]))
        values: dict[object, object] = {}
        for row in self.rows:
            value = self.value(row, own.column)
            if value is not None:
                values.setdefault(comparable(value), value)
        keys = sorted(values, key=float) if all(isinstance(key, float) for key in values) else list(values)  # type: ignore[arg-type]
        return [_named(values[key], f"{self.config.at}.factors.{factor}") for key in keys]

    def reader(self, factor: str, levels: Mapping[str, Mapping[str, object]]) -> Callable[[Row], str | None]:
        """Function from a run to its level of a factor, or None; `levels`: level → what it sets."""
        own = self.config.factors[factor]
        at = f"{self.config.at}.factors.{factor}"
        for level in (*own.values, *own.conditions):
            if level not in levels:
                raise ConfigError(unknown("level", level, levels, f"{at}.levels"))
        known: dict[object, str] = {}
        for level, meaning in levels.items():
            for value in () if level in own.conditions else _meant(own, level, meaning):
                if known.setdefault(comparable(value), level) != level:
                    other = known[comparable(value)]
                    raise ConfigError(f"{at}: '{value}' means both {other} and {level}; list the values under levels")
        held = [
            (level, {id(row) for row in fulfilling(text, self.table, f"{at}.levels.{level}")})
            for level, text in own.conditions.items()
        ]

        def level_of(row: Row) -> str | None:
            found = [level for level, rows in held if id(row) in rows]
            value = self.value(row, own.column) if own.column else None
            if value is not None and comparable(value) in known:
                found.append(known[comparable(value)])
            if len(found) > 1:
                raise ConfigError(f"{at}: {row.place} is both {found[0]} and {found[1]}")
            return found[0] if found else None

        return level_of


def _keys(config: SourceConfig) -> Iterable[tuple[str, str]]:
    """The study's keys that name columns, and the columns."""
    if config.seed:
        yield "seed", config.seed
    yield from ((f"factors.{name}", factor.column) for name, factor in config.factors.items() if factor.column)
    yield from ((f"metrics.{name}", metric.key) for name, metric in config.metrics.items())


def _meant(own: FactorColumn, level: str, meaning: Mapping[str, object]) -> list[object]:
    """The values of the column that mean a level: those that the source lists, else its name and what it sets."""
    if level in own.values:
        return list(own.values[level])
    values = list(meaning.values())
    return [level, *values] if len(values) == 1 and isinstance(values[0], str | int | float) else [level]


def _named(value: object, at: str) -> str:
    """A value as the name of a level."""
    number = as_number(value)
    if isinstance(value, float) and number is not None:
        return f"{number:.10g}"
    return level_name(value, at)


def match(source: Source, factors: Mapping[str, Mapping[str, Mapping[str, object]]], cells: Sequence[Cell]) -> Matcher:
    """Function from runs to cells; raises ConfigError where the source does not say what a factor's levels are."""
    at = f"{source.config.at}.factors"
    for factor in source.config.factors:
        if factor not in factors:
            raise ConfigError(unknown("factor", factor, factors, at))
    for factor, levels in factors.items():
        if factor not in source.config.factors and len(levels) > 1:
            raise ConfigError(f"{at}: lacks '{factor}', which has {len(levels)} levels; name its column")
    readers = {
        factor: source.reader(factor, levels) if factor in source.config.factors else _only(levels)
        for factor, levels in factors.items()
    }
    return Matcher(source, readers, {frozenset(cell.items()): cell for cell in cells})


def _only(levels: Mapping[str, object]) -> Callable[[Row], str | None]:
    [level] = levels
    return lambda row: level


@dataclass(frozen=True)
class Matcher:
    """Finds the cell of a run."""

    source: Source
    readers: Mapping[str, Callable[[Row], str | None]]
    cells: Mapping[frozenset[tuple[str, str]], Cell]

    def cell(self, row: Row) -> Cell | None:
        """None: it fits none, which is noted."""
        levels = {factor: read(row) for factor, read in self.readers.items()}
        shapes = dict.fromkeys(frozenset(factor for factor, _ in key) for key in self.cells)
        for shape in shapes:
            key = frozenset((factor, level) for factor in shape if (level := levels[factor]) is not None)
            if len(key) == len(shape) and key in self.cells:
                return self.cells[key]
        lacking = next((factor for factor, level in levels.items() if level is None), "")
        if not lacking:
            cell = cell_name({factor: str(level) for factor, level in levels.items()})
            self.source.leave(f"the study has no cell {cell}", row)
            return None
        name = self.source.config.factors[lacking].column
        value = self.source.value(row, name) if name else None
        said = "fulfils no condition" if not name else f"{name} is empty" if value is None else f"{name} is '{value}'"
        self.source.leave(f"no level of {lacking}: {said}", row)
        return None

    def matches(self, seeds: Sequence[int]) -> list[Match]:
        """The results that the source's runs are, one for each cell and seed; raises ConfigError for two."""
        found: list[Match] = []
        numbers: dict[str, int] = {}
        for row in self.source.rows:
            cell = self.cell(row)
            if cell is None:
                continue
            values = self.source.metrics(row)
            if not values:
                self.source.leave("it has none of the metrics", row)
                continue
            seed = self._seed(row, cell, seeds, numbers)
            if seed is not None:
                found.append(Match(self.source, row, cell, seed, values))
        return found

    def _seed(self, row: Row, cell: Cell, seeds: Sequence[int], numbers: dict[str, int]) -> int | None:
        if self.source.config.seed:
            seed = self.source.seed(row)
            if seed in seeds:
                return seed
            self.source.leave("it has no seed" if seed is None else f"seed {seed} is none of the study's", row)
            return None
        place = numbers.get(cell_name(cell), 0)
        numbers[cell_name(cell)] = place + 1
        if place < len(seeds):
            return seeds[place]
        self.source.leave(f"the study has {counted(len(seeds), 'seed')}, and its cell more runs", row)
        return None


def applying(sources: Sequence[Source], factors: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Factors that some runs do not have, and of which levels of another factor the runs are that do."""
    found: dict[str, dict[str, list[str]]] = {}
    for factor in factors:
        for other in factors:
            levels: dict[str, set[bool]] = {}
            for source in (each for each in sources if {factor, other} <= each.config.factors.keys()):
                own, its = (source.config.factors[name] for name in (factor, other))
                for row in source.rows:
                    if (level := source.value(row, its.column)) is not None:
                        has = source.value(row, own.column) is not None
                        levels.setdefault(_named(level, f"{source.config.at}.factors.{other}"), set()).add(has)
            whole = all(len(has) == 1 for has in levels.values())
            if other != factor and whole and {True} in levels.values() and {False} in levels.values():
                found[factor] = {other: [level for level, has in levels.items() if has == {True}]}
                break
    return found


def chosen(found: Iterable[Match]) -> list[Match]:
    """One match for each cell and seed, as `take` says; raises ConfigError where it does not say."""
    groups: dict[tuple[str, int], list[Match]] = {}
    for each in found:
        groups.setdefault((cell_name(each.cell), each.seed), []).append(each)
    return [group[0] if len(group) == 1 else _taken(group) for group in groups.values()]


def _taken(group: Sequence[Match]) -> Match:
    """The match that counts, of several of one cell and seed."""
    config = group[0].source.config
    takes = {each.source.config.take for each in group}
    if takes == {"latest"}:
        best = max(enumerate(group), key=lambda pair: (pair[1].row.ended or pair[1].row.started or 0, pair[0]))[1]
    elif takes == {"best"}:
        name, metric = next((name, metric) for name, metric in config.metrics.items() if metric.better)
        sign = 1 if metric.better == "higher" else -1
        having = [each for each in group if each.values.get(name, float("nan")) == each.values.get(name)]
        best = max(having or group, key=lambda each: sign * each.values.get(name, float("-inf") * sign))
    else:
        places = [each.row.place for each in group]
        raise ConfigError(
            f"{config.at}: {counted(len(group), 'run')} for {cell_name(group[0].cell)} seed={group[0].seed}: "
            f"{listed(places)}; 'take: latest' or 'take: best' chooses one, 'where' leaves others out"
        )
    for each in group:
        if each is not best:
            each.source.leave(f"take: {config.take} has chosen another of its cell and seed", each.row)
    return best


def listed(places: Sequence[str]) -> str:
    """The first of some places, and how many more."""
    rest = [f"{len(places) - NAMED} more"] if len(places) > NAMED else []
    return ", ".join([*places[:NAMED], *rest])
