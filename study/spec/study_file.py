"""A study file as a typed object, checked before anything is spent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import build
from ablative.study.spec.design import DESIGNS, Design
from ablative.study.spec.inherit import without_removed
from ablative.study.spec.outputs import BY_METRIC, ClaimConfig, EffectsConfig, FigureConfig, QueryConfig, TableConfig
from ablative.study.spec.parents import check_parents
from ablative.study.spec.search import SearchConfig, check_searched_levels, parse_search

KEYS = (
    "name",
    "title",
    "trainer",
    "base",
    "seeds",
    "design",
    "factors",
    "applies",
    "drop",
    "baseline",
    "tables",
    "effects",
    "queries",
    "figures",
    "claims",
    "search",
)
"""Keys of every study; its trainer owns others."""
TRAINER = "trainer"
"""Key that names the trainer."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""Names become folder names, MLflow experiments and LaTeX labels."""


@dataclass(frozen=True)
class Study:
    """One study: its grid, its seeds, its trainer's part, and what is printed of its runs."""

    name: str
    title: str
    base: dict[str, str]
    """Config group → option that every run starts from."""
    seeds: tuple[int, ...]
    design: Design
    trainer: str
    own: dict[str, Any]
    """What the file says under the trainer's own keys."""
    tables: dict[str, TableConfig]
    effects: dict[str, EffectsConfig]
    queries: dict[str, QueryConfig]
    figures: dict[str, FigureConfig]
    claims: dict[str, ClaimConfig]
    search: SearchConfig | None = None

    @property
    def factors(self) -> dict[str, tuple[str, ...]]:
        """Names of the levels of each factor, in order."""
        return {factor: tuple(levels) for factor, levels in self.design.factors.items()}

    @property
    def baseline(self) -> dict[str, str] | None:
        return dict(self.design.baseline) or None


def parse_study(
    data: Mapping[str, Any],
    where: str,
    trainer: str = "",
    own_keys: Sequence[str] = (),
    condition_keys: Sequence[str] = (),
    others: Mapping[str, str] = MappingProxyType({}),
) -> Study:
    """The `Study` that a study file's content means; raises ConfigError naming `where` and the key.

    Args:
        data: the file's content.
        where: for messages.
        trainer: name of the study's trainer.
        own_keys: the study keys that it owns.
        condition_keys: those of them that map names to conditions on cells.
        others: keys of other trainers, and whose they are, for messages.
    """
    _check_keys(data, where, trainer, own_keys, others)
    data = without_removed(data, condition_keys)
    name = _text(data, "name", where)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: name: '{name}' may hold letters, digits, '_', '-' and '.' only")
    design = _design(data, where)
    search = parse_search(data["search"], design.factors, f"{where}: search") if data.get("search") else None
    check_searched_levels(design, name, search is not None, where)
    check_parents(design, where)
    study = Study(
        name=name,
        title=_text(data, "title", where, name),
        base=_base(data.get("base") or {}, where),
        seeds=_seeds(data.get("seeds", [0]), where),
        design=design,
        trainer=trainer,
        own={key: data[key] for key in own_keys if key in data},
        tables={k: build(TableConfig, v, f"{where}: tables.{k}") for k, v in _mapping(data, "tables", where).items()},
        effects={
            k: build(EffectsConfig, v, f"{where}: effects.{k}") for k, v in _mapping(data, "effects", where).items()
        },
        queries={
            k: build(QueryConfig, v, f"{where}: queries.{k}") for k, v in _mapping(data, "queries", where).items()
        },
        figures={
            k: build(FigureConfig, v, f"{where}: figures.{k}") for k, v in _mapping(data, "figures", where).items()
        },
        claims={k: build(ClaimConfig, v, f"{where}: claims.{k}") for k, v in _mapping(data, "claims", where).items()},
        search=search,
    )
    _check_outputs(study, where)
    return study


def _check_keys(
    data: Mapping[str, Any], where: str, trainer: str, own_keys: Sequence[str], others: Mapping[str, str]
) -> None:
    for key in data:
        if key in others:
            raise ConfigError(
                f"{where}: {key}: a key of the trainer '{others[key]}', and this study's is '{trainer}' "
                f"(its own keys: {', '.join(own_keys) or 'none'})"
            )
        if key not in KEYS and key not in own_keys:
            raise ConfigError(unknown("key", str(key), [*KEYS, *own_keys], where))


def _design(data: Mapping[str, Any], where: str) -> Design:
    kind = _text(data, "design", where, "product")
    if kind not in DESIGNS:
        raise ConfigError(unknown("design", kind, DESIGNS, where))
    factors = {
        _word(factor, where): {_word(level, where): meaning or {} for level, meaning in (levels or {}).items()}
        for factor, levels in _mapping(data, "factors", where).items()
    }
    for factor, levels in factors.items():
        for level, meaning in levels.items():
            if not isinstance(meaning, Mapping):
                raise ConfigError(
                    f"{where}: factors.{factor}.{level}: expected the overrides that the level means "
                    f"(key: value), found {meaning!r}"
                )
    drop = data.get("drop") or []
    if not isinstance(drop, list):
        raise ConfigError(f"{where}: drop: expected a list of conditions, found {drop!r}")
    design = Design(
        factors=factors,
        applies={k: condition(v, f"{where}: applies.{k}") for k, v in _mapping(data, "applies", where).items()},
        drop=[condition(item, f"{where}: drop") for item in drop],
        baseline={k: str(v) for k, v in _mapping(data, "baseline", where).items()},
        kind=kind,
    )
    try:
        design.check()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return design


def _check_outputs(study: Study, where: str) -> None:
    """Tables, figures and claims may name only factors and levels that the study has."""
    for name, table in study.tables.items():
        at = f"{where}: tables.{name}"
        if not table.columns or not table.rows:
            raise ConfigError(f"{at}: needs at least one row factor and one column")
        check_factors(study, [*table.rows, table.split], table.where, at)
        levels = table.reference.levels if table.reference else {}
        check_factors(study, [], {factor: tuple(named) for factor, named in levels.items()}, f"{at}.reference")
    for name, effects in study.effects.items():
        at = f"{where}: effects.{name}"
        if not effects.columns or not effects.factors:
            raise ConfigError(f"{at}: needs at least one factor and one column")
        if name in study.tables:
            raise ConfigError(f"{at}: a table has this name already")
        check_factors(study, list(effects.factors), effects.where, at)
    for name in study.queries:
        if name in study.tables or name in study.effects:
            raise ConfigError(f"{where}: queries.{name}: a table has this name already")
    for name, figure in study.figures.items():
        panel = "" if figure.panel == BY_METRIC else figure.panel
        check_factors(study, [figure.x, figure.hue, panel], figure.where, f"{where}: figures.{name}")
    for name, claim in study.claims.items():
        check_factors(study, [], claim.where, f"{where}: claims.{name}")


def check_factors(study: Study, named: Sequence[str], condition: Mapping[str, Sequence[str]], where: str) -> None:
    """Raise ConfigError for factors, and levels of a condition, that the study does not have."""
    for factor in [*named, *condition]:
        if factor and factor not in study.factors:
            raise ConfigError(unknown("factor", factor, study.factors, where))
    for factor, levels in condition.items():
        for level in levels:
            if level not in study.factors[factor]:
                raise ConfigError(unknown("level", level, study.factors[factor], f"{where}.where.{factor}"))


def _base(data: Any, where: str) -> dict[str, str]:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: base: expected config groups and their choices, found {data!r}")
    return {str(key): str(value) for key, value in data.items()}


def _seeds(data: Any, where: str) -> tuple[int, ...]:
    seeds = data if isinstance(data, list) else [data]
    if not seeds or any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in seeds):
        raise ConfigError(f"{where}: seeds: expected whole numbers from 0 on, found {data!r}")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{where}: seeds: {seeds} holds a seed twice")
    return tuple(seeds)


def condition(data: Any, where: str) -> dict[str, list[str]]:
    """Factor → levels, of `factor: level` or `factor: [levels]`; raises ConfigError for anything else."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected factor: level (or a list of levels), found {data!r}")
    return {str(k): [str(i) for i in v] if isinstance(v, list) else [str(v)] for k, v in data.items()}


def _mapping(data: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = data.get(key) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: {key}: expected keys and values, found {value!r}")
    return value


def _text(data: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = data.get(key, default)
    if value is None:
        raise ConfigError(f"{where}: {key}: missing")
    return str(value)


def _word(name: Any, where: str) -> str:
    """A factor's or level's name; YAML reads bare on, off, yes and no as truth values."""
    if isinstance(name, bool):
        raise ConfigError(f"{where}: a level named {name} was read as true or false; put it in quotes")
    return str(name)
