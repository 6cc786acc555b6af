"""The forms of `results:` and `homes:`: where results that exist already lie, and what their columns mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import Settings
from ablative.study.syntax.factors import brief, level_name
from ablative.study.syntax.source_keys import TAKES, FactorKeys, MetricKeys, SourceKeys, names

T = TypeVar("T")

PLACES = ("mlflow", "csv", "parquet", "study")
"""Keys that say where results lie; a source has one of them."""
_KEYS = names(SourceKeys)
_FACTOR_KEYS = names(FactorKeys)
_METRIC_KEYS = names(MetricKeys)
_EXAMPLE = "results: {csv: runs.csv, factors: {method: model}, seed: seed, metrics: {test/acc: accuracy}}"


@dataclass(frozen=True)
class FactorColumn:
    """Where a factor's level is found in a run of the source."""

    column: str
    """Empty: each level has a condition."""
    values: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    """Level → values of the column that mean it; of a level that is not here, its name does."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Level → condition in SQL that its runs fulfil."""


@dataclass(frozen=True)
class MetricColumn:
    """A metric of the study, and where its value is found."""

    key: str
    unit: str = ""
    better: str = ""
    scale: float = 1.0
    low: float | None = None
    high: float | None = None
    label: str = ""


@dataclass(frozen=True)
class SourceConfig:
    """One place with results that exist already."""

    kind: str
    """One of `PLACES`."""
    places: tuple[str, ...]
    """Address or path; of CSV and Parquet, paths and patterns."""
    at: str
    """Its key, for messages."""
    factors: Mapping[str, FactorColumn]
    metrics: Mapping[str, MetricColumn]
    seed: str = ""
    """Column of the seed; empty: the runs of a cell are numbered."""
    experiment: str = ""
    """Name of an experiment of MLflow's."""
    home: str = ""
    """Path of the home of another study; empty: the home in use."""
    where: str = ""
    """Condition in SQL on the runs that count; empty: those that have finished."""
    take: str = ""
    """Which of several runs of one cell and seed counts; empty: none, which is an error."""


def parse_sources(data: object, at: str) -> tuple[SourceConfig, ...]:
    """What a study says under `results`: one source, or a list of them; raises ConfigError."""
    if isinstance(data, list):
        return tuple(_source(item, f"{at}[{place}]") for place, item in enumerate(data))
    return (_source(data, at),)


def parse_homes(data: object, at: str) -> tuple[str, ...]:
    """Paths of other homes, in the order in which they are asked."""
    found = data if isinstance(data, list) else [data]
    for path in found:
        if not isinstance(path, str) or not path:
            raise ConfigError(f"{at}: expected paths of homes, as in [/data/anna/ablate_home], found {brief(path)}")
    return tuple(found)


def _source(data: object, at: str) -> SourceConfig:
    data = _mapping(data, at, _EXAMPLE)
    _check_keys(data, _KEYS, at)
    named = [key for key in PLACES if key in data]
    if len(named) != 1:
        found = f"found {' and '.join(named)}" if named else "found none of them"
        raise ConfigError(f"{at}: expected one of {', '.join(PLACES)}, {found}; as in {_EXAMPLE}")
    [kind] = named
    for key, owner in (("experiment", "mlflow"), ("home", "study")):
        if key in data and kind != owner:
            raise ConfigError(f"{at}.{key}: belongs to '{owner}', and these results are of '{kind}'")
    take = _text(data, "take", at)
    if take and take not in TAKES:
        raise ConfigError(unknown("value", take, TAKES, f"{at}.take"))
    metrics = _named(data.get("metrics"), f"{at}.metrics", "{test/acc: accuracy}", _metric)
    if not metrics:
        raise ConfigError(f"{at}.metrics: missing; name one metric at least, as in {{test/acc: accuracy}}")
    if take == "best" and not any(metric.better for metric in metrics.values()):
        raise ConfigError(f"{at}.take: best needs a metric with better: higher or lower; the first such one decides")
    return SourceConfig(
        kind=kind,
        places=_places(data[kind], kind, f"{at}.{kind}"),
        at=at,
        factors=_named(data.get("factors"), f"{at}.factors", "{method: model}", _factor),
        metrics=metrics,
        seed=_text(data, "seed", at) or ("seed" if kind == "study" else ""),
        experiment=_text(data, "experiment", at),
        home=_text(data, "home", at),
        where=_text(data, "where", at),
        take=take,
    )


def _places(value: object, kind: str, at: str) -> tuple[str, ...]:
    found = value if isinstance(value, list) and kind in ("csv", "parquet") else [value]
    for place in found:
        if not isinstance(place, str) or not place:
            raise ConfigError(f"{at}: expected text, found {brief(place)}")
    if not found:
        raise ConfigError(f"{at}: an empty list; name one file at least")
    return tuple(found)


def _named(data: object, at: str, example: str, parse: Callable[[object, str], T]) -> dict[str, T]:
    """Name → what `parse` makes of its value; a list names columns that are called as the names are."""
    if data is None:
        return {}
    if isinstance(data, list):
        data = {level_name(name, at): level_name(name, at) for name in data}
    return {level_name(name, at): parse(value, f"{at}.{name}") for name, value in _mapping(data, at, example).items()}


def _factor(value: object, at: str) -> FactorColumn:
    if isinstance(value, str):
        return FactorColumn(value)
    data = _mapping(value, at, "{column: layers, levels: {two: 2, one: 1}}")
    _check_keys(data, _FACTOR_KEYS, at)
    column = _text(data, "column", at)
    values: dict[str, tuple[object, ...]] = {}
    conditions: dict[str, str] = {}
    for name, meaning in _mapping(data.get("levels") or {}, f"{at}.levels", "{two: 2, one: 1}").items():
        level, where = level_name(name, f"{at}.levels"), f"{at}.levels.{name}"
        if isinstance(meaning, Mapping):
            _check_keys(meaning, ("where",), where)
            conditions[level] = _text(meaning, "where", where)
            continue
        found = tuple(meaning) if isinstance(meaning, list) else (meaning,)
        for item in found:
            if not isinstance(item, str | int | float):
                raise ConfigError(
                    f"{where}: expected a value of the column, a list of values or {{where: CONDITION}}, found "
                    f"{brief(item)}"
                )
        values[level] = found
    if not column and (values or not conditions):
        raise ConfigError(
            f"{at}: needs a column, or a condition for each level: levels: {{large: {{where: width > 64}}}}"
        )
    return FactorColumn(column, values, conditions)


def _metric(value: object, at: str) -> MetricColumn:
    if isinstance(value, str):
        return MetricColumn(value)
    data = _mapping(value, at, '{key: accuracy, better: higher, unit: "%", scale: 100}')
    _check_keys(data, _METRIC_KEYS, at)
    if not (key := _text(data, "key", at)):
        raise ConfigError(f"{at}.key: missing; it names the column of the values")
    better = _text(data, "better", at)
    if better not in ("", "higher", "lower"):
        raise ConfigError(unknown("value", better, ("higher", "lower"), f"{at}.better"))
    scale, low, high = (_number(data, name, at) for name in ("scale", "low", "high"))
    texts = _text(data, "unit", at), better
    return MetricColumn(key, *texts, 1.0 if scale is None else scale, low, high, _text(data, "label", at))


def _mapping(value: object, at: str, example: str) -> Settings:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{at}: expected keys and values, as in {example}, found {brief(value)}")
    return value


def _check_keys(data: Settings, allowed: tuple[str, ...], at: str) -> None:
    for key in data:
        if key not in allowed:
            raise ConfigError(unknown("key", str(key), allowed, at))


def _text(data: Settings, key: str, at: str) -> str:
    value = "" if data.get(key) is None else data[key]
    if not isinstance(value, str):
        raise ConfigError(f"{at}.{key}: expected text, found {brief(value)}")
    return value


def _number(data: Settings, key: str, at: str) -> float | None:
    value = data.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{at}.{key}: expected a number, found {brief(value)}")
    return float(value)
