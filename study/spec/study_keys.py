"""Keys of every study file, with their types and meanings; a trainer adds keys (`study.trainers.Trainer.keys`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ablative.study.core.typed import field
from ablative.study.spec.design import DESIGNS
from ablative.study.spec.outputs import (
    ClaimConfig,
    EffectsConfig,
    FigureConfig,
    QueryConfig,
    ReportConfig,
    TableConfig,
)
from ablative.study.spec.search import SearchConfig
from ablative.study.syntax.forms import Condition, Level, Text
from ablative.study.syntax.source_keys import SourceKeys


@dataclass(frozen=True, kw_only=True)
class StudyKeys:
    """A study file. `parse_study` reads it; this class says what there is to write."""

    name: Text = field()
    """Name of the study: of its folder in the home, its MLflow experiment, and the keys of its numbers. It may hold
    letters, digits, `_`, `-` and `.`."""
    title: Text = field("")
    """Heading of plan and page; empty: the name."""
    trainer: Text = field("")
    """What runs the tasks (`ablate list trainers`); empty: `program` where the file has `stages`, `results` where it
    has results and no training code, else `clip`."""
    base: dict[str, Text] = field(None)
    """Config group → option that every run starts from: `{model: tiny, data: shapes}` (`ablate list GROUP`)."""
    seeds: list[int] = field((0,), low=0)
    """Seeds of the runs of each cell."""
    design: Text = field("product", choices=DESIGNS)
    """Which combinations of levels are cells: all, or those around the baseline."""
    factors: dict[str, Annotated[object, "{level: {key: value}}"]] = field(None)
    """Factor → its levels, each with the overrides that it means: `{pooling: {map: {model.pooling: map}}}`; short forms
    are `{pooling: {key: model.pooling, levels: [map, gap]}}` and `{model.pooling: [map, gap]}`."""
    applies: dict[str, Condition] = field(None)
    """Factor → condition without which it does not exist, so that the cells collapse."""
    drop: list[Condition] = field(None)
    """Conditions; cells that fulfil one of them are not run."""
    baseline: dict[str, Level] = field(None)
    """Factor → level of the cell that others are compared with."""
    report: ReportConfig = field(None)
    """How results are printed, where a table does not say otherwise."""
    tables: dict[str, TableConfig] = field(None)
    """Tables of the report, by name."""
    effects: dict[str, EffectsConfig] = field(None)
    """Tables of what the grid says as a whole, by name."""
    queries: dict[str, QueryConfig] = field(None)
    """Tables that are SQL queries, by name."""
    figures: dict[str, FigureConfig] = field(None)
    """Figures of the report, by name."""
    claims: dict[str, ClaimConfig] = field(None)
    """Sentences of the paper that the report judges, by name."""
    labels: dict[str, object] = field(None)
    """What is printed in place of names: `{factors: …, levels: …, metrics: …, columns: …, units: …, axes: …}`; the name
    of a factor means the labels of its levels. A label is a text or `{text: λ, latex: $\\\\lambda$}`."""
    search: SearchConfig = field(None)
    """What is tuned, for what goal and with which budget."""
    results: SourceKeys | list[SourceKeys] = field(None)
    """Where results lie that exist already, and what their columns mean."""
    homes: Text | list[Text] = field(None)
    """Other homes, whose finished tasks count where this one lacks them."""
