"""A study file as a typed object, checked before anything is spent."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import Settings, build
from ablative.study.spec.design import DESIGNS, Design
from ablative.study.spec.inherit import without_removed
from ablative.study.spec.labels import StudyLabels, parse_labels
from ablative.study.spec.outputs import (
    BY_METRIC,
    ClaimConfig,
    ColumnConfig,
    EffectsConfig,
    FigureConfig,
    QueryConfig,
    ReportConfig,
    TableConfig,
)
from ablative.study.spec.parents import PARENT_KEY, check_parents
from ablative.study.spec.search import SEARCH_KEY, SearchConfig, check_searched_levels, parse_search
from ablative.study.spec.study_keys import StudyKeys
from ablative.study.syntax.factors import brief, level_name, text_value, whole_factors
from ablative.study.syntax.source_keys import names
from ablative.study.syntax.sources import SourceConfig, parse_homes, parse_sources
from ablative.study.syntax.text_width import text_widths
from ablative.study.syntax.words import Tree, with_words

T = TypeVar("T")

KEYS = names(StudyKeys)
"""Keys of every study; its trainer owns others."""
TRAINER = "trainer"
"""Key that names the trainer."""
KEPT = (PARENT_KEY, SEARCH_KEY)
"""Keys of a level that are no overrides."""
LARGEST_SEED = 2**63 - 1
"""What a column of whole numbers holds."""
_OUTPUT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
"""Names of tables and figures become file names, those of claims keys of numbers."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""Names become folder names, MLflow experiments and LaTeX labels."""


@dataclass(frozen=True)
class Study:
    """One study: its grid, its seeds, its trainer's part, and what is printed of its runs."""

    name: str
    where: str
    """Its file, for messages."""
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
    labels: StudyLabels = field(default_factory=StudyLabels)
    search: SearchConfig | None = None
    report: ReportConfig = dataclasses.field(default_factory=ReportConfig)
    results: tuple[SourceConfig, ...] = ()
    """Results that exist already."""
    paired: bool = True
    """A seed is the same in all cells. False: the runs of each cell were only numbered."""
    homes: tuple[str, ...] = ()
    """Other homes, whose finished tasks count where this one lacks them."""

    @property
    def factors(self) -> dict[str, tuple[str, ...]]:
        """Names of the levels of each factor, in order."""
        return {factor: tuple(levels) for factor, levels in self.design.factors.items()}

    @property
    def baseline(self) -> dict[str, str] | None:
        return dict(self.design.baseline) or None


def changed_content(
    data: Tree, words: Mapping[str, object], groups: Sequence[str], where: str, names_alone: bool = False
) -> Tree:
    """A study file's content with the words of the command line that change it.

    Args:
        data: the content.
        words: key → value.
        groups: config groups, from which a factor of a group's name may choose.
        where: the file, for messages.
        names_alone: a factor may list its levels without saying what they set.
    """
    if data.get("factors") is not None:
        listed = tuple(map(str, data["factors"])) if names_alone else groups
        data = {**data, "factors": whole_factors(data["factors"], where, listed, KEPT)}
    return with_words(data, words)


def parse_study(
    data: Mapping[str, Any],
    where: str,
    trainer: str = "",
    own_keys: Sequence[str] = (),
    condition_keys: Sequence[str] = (),
    others: Callable[[], Mapping[str, str]] = dict,
    groups: Sequence[str] = (),
) -> Study:
    """The `Study` that a study file's content means; raises ConfigError naming `where` and the key.

    Args:
        data: the file's content.
        where: for messages.
        trainer: name of the study's trainer.
        own_keys: the study keys that it owns.
        condition_keys: those of them that map names to conditions on cells.
        others: looks up keys of other trainers, and whose they are, for messages: it imports them.
        groups: config groups, from which a factor of a group's name may choose.
    """
    _check_keys(data, where, trainer, own_keys, others)
    if data.get("factors") is not None:
        data = {**data, "factors": whole_factors(data["factors"], where, groups, KEPT)}
    data = without_removed(data, condition_keys)
    name = _text(data, "name", where)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: name: '{name}' may hold letters, digits, '_', '-' and '.' only")
    design = _design(data, where)
    search = data.get("search")
    if search is not None:
        search = parse_search(search, design.factors, f"{where}: search")
    check_searched_levels(design, name, search is not None, where)
    check_parents(design, where)
    study = Study(
        name=name,
        where=where,
        title=_text(data, "title", where, name),
        base={str(k): text_value(v, f"{where}: base.{k}") for k, v in _mapping(data, "base", where).items()},
        seeds=_seeds(data.get("seeds", [0]), where),
        design=design,
        trainer=trainer,
        own={key: data[key] for key in own_keys if key in data},
        tables=_outputs(TableConfig, data, "tables", where),
        effects=_outputs(EffectsConfig, data, "effects", where),
        queries=_outputs(QueryConfig, data, "queries", where),
        figures=_outputs(FigureConfig, data, "figures", where),
        claims=_outputs(ClaimConfig, data, "claims", where),
        labels=parse_labels(data.get("labels"), design.factors, f"{where}: labels"),
        search=search,
        report=_report(data, where),
        results=() if data.get("results") is None else parse_sources(data["results"], f"{where}: results"),
        homes=() if data.get("homes") is None else parse_homes(data["homes"], f"{where}: homes"),
    )
    _check_outputs(study, where)
    return study


def _check_keys(
    data: Mapping[str, Any], where: str, trainer: str, own_keys: Sequence[str], others: Callable[[], Mapping[str, str]]
) -> None:
    for key in data:
        if key in KEYS or key in own_keys:
            continue
        if owner := others().get(key):
            raise ConfigError(
                f"{where}: {key}: a key of the trainer '{owner}', and this study's is '{trainer}' "
                f"(its own keys: {', '.join(own_keys) or 'none'})"
            )
        raise ConfigError(unknown("key", str(key), [*KEYS, *own_keys], where))


def _design(data: Mapping[str, Any], where: str) -> Design:
    kind = _text(data, "design", where, "product")
    if kind not in DESIGNS:
        raise ConfigError(unknown("design", kind, DESIGNS, where))
    drop = [] if data.get("drop") is None else data["drop"]
    if not isinstance(drop, list):
        raise ConfigError(
            f"{where}: drop: expected a list of conditions, as in [{{scale: large}}], found {brief(drop)}"
        )
    design = Design(
        factors=_mapping(data, "factors", where),
        applies={k: condition(v, f"{where}: applies.{k}") for k, v in _mapping(data, "applies", where).items()},
        drop=[condition(item, f"{where}: drop") for item in drop],
        baseline={
            str(k): level_name(v, f"{where}: baseline.{k}") for k, v in _mapping(data, "baseline", where).items()
        },
        kind=kind,
    )
    try:
        design.check()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return design


def _report(data: Settings, where: str) -> ReportConfig:
    config = build(ReportConfig, _mapping(data, "report", where), f"{where}: report")
    text_widths(config.width, f"{where}: report.width")
    return config


def _outputs(cls: type[T], data: Mapping[str, Any], key: str, where: str) -> dict[str, T]:
    """What a study prints of one kind, by name."""
    found = {}
    for name, output in _mapping(data, key, where).items():
        at = f"{where}: {key}.{name}"
        if not _OUTPUT.fullmatch(str(name)):
            raise ConfigError(f"{at}: its name becomes a file's; use up to 100 letters, digits, '_', '-' and '.'")
        if isinstance(output, Mapping) and isinstance(output.get("where"), Mapping):
            output = {**output, "where": condition(output["where"], f"{at}.where")}
        found[str(name)] = build(cls, output, at)
    return found


def _check_outputs(study: Study, where: str) -> None:
    """Tables, figures and claims may name only factors and levels that the study has, and each once."""
    for name, table in study.tables.items():
        at = f"{where}: tables.{name}"
        if not table.columns or not table.rows:
            raise ConfigError(f"{at}: needs at least one row factor and one column")
        check_factors(study, [*table.rows, *_named(table.split)], table.where, at)
        _check_twice([*table.rows, table.split], f"{at}: rows and split")
        _check_columns(table.columns, at)
        levels = table.reference.levels if table.reference else {}
        check_factors(study, [], {factor: tuple(named) for factor, named in levels.items()}, f"{at}.reference")
    for name, effects in study.effects.items():
        at = f"{where}: effects.{name}"
        if not effects.columns or not effects.factors:
            raise ConfigError(f"{at}: needs at least one factor and one column")
        if name in study.tables:
            raise ConfigError(f"{at}: a table has this name already")
        check_factors(study, list(effects.factors), effects.where, at)
        _check_twice(effects.factors, f"{at}.factors")
        _check_columns(effects.columns, at)
    for name in study.queries:
        if name in study.tables or name in study.effects:
            raise ConfigError(f"{where}: queries.{name}: a table has this name already")
    for name, figure in study.figures.items():
        at = f"{where}: figures.{name}"
        named = _named(figure.x, figure.hue, "" if figure.panel == BY_METRIC else figure.panel)
        check_factors(study, named, figure.where, at)
        _check_twice(named, f"{at}: x, hue and panel")
        _check_twice(figure.metric, f"{at}.metric")
    for name, claim in study.claims.items():
        at = f"{where}: claims.{name}"
        check_factors(study, [], claim.where, at)
        _check_metrics(claim.metric, at)


def _named(*factors: str) -> list[str]:
    """Those that are given: an empty name leaves a setting out."""
    return [factor for factor in factors if factor]


def _check_columns(columns: Sequence[ColumnConfig], at: str) -> None:
    for place, column in enumerate(columns):
        _check_metrics(column.metric, f"{at}.columns[{place}]")
        if column in columns[:place]:
            raise ConfigError(f"{at}.columns[{place}]: the same as columns[{columns.index(column)}]; leave one out")


def _check_metrics(metrics: Sequence[str], at: str) -> None:
    if not metrics:
        raise ConfigError(f"{at}.metric: empty; name one metric at least")
    _check_twice(metrics, f"{at}.metric")


def _check_twice(names: Sequence[str], at: str) -> None:
    for name in names:
        if name and list(names).count(name) > 1:
            raise ConfigError(f"{at}: '{name}' is there twice")


def check_factors(study: Study, named: Sequence[str], condition: Mapping[str, Sequence[str]], where: str) -> None:
    """Raise ConfigError for factors, and levels of a condition, that the study does not have."""
    for factor in [*named, *condition]:
        if factor not in study.factors:
            raise ConfigError(unknown("factor", factor, study.factors, where))
    for factor, levels in condition.items():
        for level in levels:
            if level not in study.factors[factor]:
                raise ConfigError(unknown("level", level, study.factors[factor], f"{where}.where.{factor}"))


def _seeds(data: Any, where: str) -> tuple[int, ...]:
    if isinstance(data, int) and not isinstance(data, bool):
        few = f"[0, 1, 2, …], {data} of them" if data > 3 else f"{list(range(data))}" if data > 0 else "[0, 1]"
        raise ConfigError(
            f"{where}: seeds: {data} may be one seed or a number of them; write [{data}] for that seed, or list them: "
            f"{few}"
        )
    whole = isinstance(data, list) and all(isinstance(seed, int) and not isinstance(seed, bool) for seed in data)
    if not whole or not data or not all(0 <= seed <= LARGEST_SEED for seed in data):
        raise ConfigError(
            f"{where}: seeds: expected whole numbers from 0 to 2^63 - 1, as in [0, 1, 2], found {brief(data)}"
        )
    if len(set(data)) < len(data):
        raise ConfigError(f"{where}: seeds: {brief(data)} holds a seed twice")
    return tuple(data)


def condition(data: Any, where: str) -> dict[str, list[str]]:
    """Factor → levels, of `factor: level` or `factor: [levels]`; raises ConfigError for anything else."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected factor: level (or a list of levels), found {brief(data)}")
    found = {}
    for factor, levels in data.items():
        at = f"{where}.{factor}"
        found[str(factor)] = [level_name(level, at) for level in (levels if isinstance(levels, list) else [levels])]
        if not found[str(factor)]:
            raise ConfigError(f"{at}: no levels, so that no cell is left; leave the factor out for all of them")
    return found


def _mapping(data: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = {} if data.get(key) is None else data[key]
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: {key}: expected keys and values, found {brief(value)}")
    return value


def _text(data: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = data.get(key, default)
    if value is None:
        raise ConfigError(f"{where}: {key}: missing")
    return text_value(value, f"{where}: {key}")
