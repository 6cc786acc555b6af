"""What a study wants printed: typed tables, figures and claims of its study file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ablative.study.core.typed import field
from ablative.study.syntax.forms import Condition
from ablative.study.syntax.text_width import ONE_COLUMN

FIGURE_KINDS = ("bars", "lines", "heatmap", "curves", "scatter", "effects", "panels", "custom")
PANEL_PICTURES = (
    "grad_cam", "similarity", "segmentation", "fine_tuned_segmentation", "detection",
    "reconstruction", "retrieval", "tsne",
)  # fmt: skip
BY_METRIC = "metric"
"""Value of a figure's `panel`: one panel for each metric instead of one for each level of a factor."""
AGGREGATES = ("mean",)
BETTER = ("default", "higher", "lower", "neither")
SPREADS = ("sd", "ci")
MARKS = ("tested", "best", "none")
"""What is bold in a column: all rows that by a test may be the best, the best mean as printed, or nothing."""
SHADES = ("value", "difference")
EFFECT_KINDS = ("factors", "suite")
FORMATS = ("md", "tex", "csv", "html")
ESTIMANDS = ("these tasks", "tasks like these")
FINDINGS = (
    *("missing", "diverged", "unsynced", "changed-config", "stale", "mixed-code", "dirty-code"),
    *("identical-curves", "inexact-resume"),
)
"""Kinds of reasons why a report is not final."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """How a study's results are printed, where a table does not say otherwise."""

    marks: str = field("tested", choices=MARKS)
    """What is bold: all rows that by a test may be the best of a column, the best mean as printed, or nothing."""
    width: str = field(ONE_COLUMN)
    """Width of the paper's text, which LaTeX tables fit: a length (`5.5in`) or a layout (`study.syntax.text_width`)."""


@dataclass(frozen=True, kw_only=True)
class ColumnConfig:
    """One column of a table: a metric, or the mean of several over tasks."""

    metric: tuple[str, ...] = field()
    """Metric names; `*` matches within a part: `linear_probe/shapes_*/top1`."""
    label: str = field("")
    """Heading of the column."""
    group: str = field("")
    """Header above neighbouring columns of the same group."""
    key: str = field("")
    """Names the column in the keys of its numbers (`demo.table4.clip.map.zs`); its group and label where empty."""
    aggregate: str = field("mean", choices=AGGREGATES)
    """How values of one seed become one number: the mean over the metrics."""
    digits: int | None = field(None, low=0, high=6)
    """Decimals; null: one of metrics that have a unit, and of others as many as their values and seeds ask for."""
    better: str = field("default", choices=BETTER)
    """Which values are the best; by default as the metrics are declared (`study.trainers.Metric`)."""
    reference: dict[str, str] = dataclasses.field(default_factory=dict)
    """Fields of the paper's value to print next to each number: `{protocol: zero-shot, task: ImageNet}`."""


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """The paper's table whose printed values a table shows next to its own numbers."""

    paper: str = field()
    """Name of the paper in `ablate report PAPER --reference`."""
    table: str = field()
    """Its number, in quotes: `"4"`, `15a`."""
    levels: dict[str, dict[str, dict[str, str]]] = dataclasses.field(default_factory=dict)
    """Factor -> level -> fields of the paper's values: `{method: {mae_clip: {method: MAE-CLIP}}}`; a level of a listed
    factor that is not listed itself has no counterpart in the paper."""


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """A table: one row for each combination of levels of the `rows` factors that the cells have."""

    title: str = field("")
    """Caption."""
    rows: tuple[str, ...] = field()
    """Factors, outermost first."""
    columns: tuple[ColumnConfig, ...] = field()
    """Columns, from left to right."""
    where: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict, metadata={"written": Condition})
    """Keep cells with these levels (a cell without the factor stays)."""
    split: str = field("")
    """Factor whose levels repeat the columns side by side (`scale`)."""
    delta: bool = field(False)
    """Also print each value's difference to the study's baseline, with its 95 % interval."""
    relative: bool = field(False)
    """Also print each value over the baseline's."""
    spread: str = field("sd", choices=SPREADS)
    """What is printed after ±: the standard deviation over seeds, or half the mean's 95 % interval."""
    marks: str = field("", choices=("", *MARKS))
    """The rule by which numbers are bold; empty: the study's (`report.marks`)."""
    note: str = field("")
    """Text below the table."""
    reference: ReferenceConfig | None = None
    """The paper's table whose values are printed, too."""


@dataclass(frozen=True, kw_only=True)
class EffectsConfig:
    """A table of what the grid says as a whole: which factor moves which metric, or how each arm does on a suite."""

    kind: str = field("factors", choices=EFFECT_KINDS)
    """`factors`: main effects and two-way interactions of a full grid; `suite`: mean, interquartile mean and
    probability of improvement of each arm over the tasks of a column."""
    title: str = field("")
    """Caption."""
    factors: tuple[str, ...] = field()
    """The factors of the grid, or whose levels make an arm; cells to which one does not apply are left out."""
    columns: tuple[ColumnConfig, ...] = field()
    """Columns, from left to right."""
    where: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict, metadata={"written": Condition})
    """Keep cells with these levels."""
    note: str = field("")
    """Text below the table."""


@dataclass(frozen=True, kw_only=True)
class QueryColumnConfig:
    """How a column of numbers of a query is printed."""

    label: str = field("")
    """The column's own name where empty."""
    group: str = field("")
    """Header above neighbouring columns of the same group."""
    key: str = field("")
    """Name of the column in the keys of its numbers, as in `ColumnConfig`."""
    digits: int | None = field(None, low=0, high=6)
    """Decimals; null: one."""
    better: str = field("neither", choices=("higher", "lower", "neither"))
    """Which values are the best; their marks follow from it."""


@dataclass(frozen=True, kw_only=True)
class QueryConfig:
    """A table of the user's own: rows of a query. Text columns are labels, and `seed` is averaged over."""

    sql: str = field()
    """Query over the views of `ablate sql STUDY`, or a `FILE.sql` with one (from the working folder)."""
    title: str = field("")
    """Caption."""
    columns: dict[str, QueryColumnConfig] = dataclasses.field(default_factory=dict)
    """Column of the query → how it is printed."""
    marks: str = field("", choices=("", *MARKS))
    """The rule by which numbers are bold, as in `TableConfig`."""
    note: str = field("")
    """Text below the table."""


@dataclass(frozen=True, kw_only=True)
class FigureConfig:
    """A figure over cells (`bars`, `lines`, `heatmap`, `scatter`), over steps (`curves`), of what factors move
    (`effects`), of what models see (`panels`), or a user's own (`custom`)."""

    kind: str = field(choices=FIGURE_KINDS)
    """What is drawn."""
    title: str = field("")
    """Caption."""
    metric: tuple[str, ...] = field(())
    """Averaged over tasks where several match; heatmap: one column each, `@groups` under a head; scatter: x and y."""
    x: str = field("")
    """Factor on the horizontal axis (bars, lines) or down the side (heatmap)."""
    hue: str = field("")
    """Factor whose levels have a colour each."""
    panel: str = field("")
    """Factor whose levels become panels side by side; `metric`: a panel for each metric."""
    where: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict, metadata={"written": Condition})
    """Keep cells with these levels (a cell without the factor stays)."""
    spread: str = field("sd", choices=SPREADS)
    """Whiskers of bars and lines: the standard deviation over seeds, or the mean's 95 % interval."""
    position: str = field("")
    """Lines: key that the levels of x set (`data.pairs`); they make a logarithmic axis, and crossings are noted."""
    shade: str = field("value", choices=SHADES)
    """Heatmap: what is coloured, on one scale for each unit: the values, or their differences to the baseline."""
    groups: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Heatmap: head -> metrics below it; `@groups` in `metric` become such heads by themselves."""
    effects: str = field("")
    """Effects: which of the study's `effects` is drawn."""
    show: str = field("", choices=("", *PANEL_PICTURES))
    """Panels: what tasks of each cell have kept (`study.home.panel_pictures`)."""
    function: str = field("")
    """Custom: `FILE.py:NAME` (from the working folder) or `MODULE:NAME`, called with (figure, frame, color)."""
    sql: str = field("")
    """Custom: query over the views of `ablate sql STUDY`; its rows are the frame (pandas)."""


@dataclass(frozen=True, kw_only=True)
class ClaimConfig:
    """A sentence of a paper as a statement over the results; a report finds it supported, contradicted or neither."""

    statement: str = field()
    """Comparisons of arms: `mae_clip - clip > 0` (the language: `study.spec.claim_grammar`)."""
    metric: tuple[str, ...] = field()
    """The tasks that it is about; differences are averaged over them."""
    where: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict, metadata={"written": Condition})
    """Keep cells with these levels (a cell without the factor stays)."""
    text: str = field("")
    """The sentence; empty: the statement is printed instead."""
    source: str = field("")
    """Where it is said: `section 4.2`."""
    margin: float = field(0.0, low=0)
    """Differences within ± this count as none (in the metric's unit; of percentages, points); `~` needs it."""
    every: bool = field(False)
    """It must hold on every task by itself, not on their mean ("consistently")."""
    estimand: str = field("these tasks", choices=ESTIMANDS)
    """What the interval is about: these tasks (only seeds vary), or tasks like these (the tasks vary)."""
