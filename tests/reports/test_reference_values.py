"""A paper's printed values beside a study's own: found by level and column, named as the paper's, else refused."""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import Any

import pytest

from ablative.reports.reference.comparison import with_reference
from ablative.reports.stats.summary import Summary
from ablative.reports.store.warehouse import cell_key
from ablative.reports.tables.html_table import render_html
from ablative.reports.tables.renderers import plain, render_csv, render_markdown
from ablative.reports.tables.tables import Column, Entry, Row, Table
from ablative.study.core.errors import ConfigError
from ablative.study.core.typed import build
from ablative.study.plan.outputs.layout import table_layout
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.spec.outputs import TableConfig

CONFIG: dict[str, Any] = {
    "rows": ["method", "pooling"],
    "columns": [
        {"metric": "zero_shot/a/top1", "label": "ZS", "reference": {"protocol": "zero-shot", "task": "ImageNet"}},
        {"metric": "linear_probe/a/top1", "label": "LP"},
    ],
    "reference": {
        "paper": "mae_clip",
        "table": "4",
        "levels": {
            "method": {"clip": {"method": "CLIP"}, "mae_clip": {"method": "MAE-CLIP"}},
            "pooling": {"map": {"pooling": "MAP"}, "gap": {"pooling": "GAP"}},
        },
    },
}
COLUMNS = tuple(
    Column(label=label, group="", split="", digits=1, metrics=("zero_shot/a/top1",), ranked=True)
    for label in ("ZS", "LP")
)


def table(*cells: dict[str, str]) -> Table:
    rows = tuple(
        Row(tuple(cell.values()), tuple(Entry(cell_key(cell), Summary(2, 50.0, 1.0), 2) for _ in COLUMNS))
        for cell in cells
    )
    return Table("t", "T", ("method", "pooling"), "", COLUMNS, rows, ("ours",))


def config(**changes: Any) -> TableConfig:
    return build(TableConfig, {**CONFIG, "reference": {**CONFIG["reference"], **changes}})


CELLS = (
    {"method": "clip", "pooling": "map"},
    {"method": "mae_clip", "pooling": "gap"},
    {"method": "random_init", "pooling": "gap"},
    {"method": "mae_clip", "pooling": "max"},
)


def test_the_values_of_the_papers_table_4() -> None:
    found = with_reference(table(*CELLS), config())
    values = [[entry.reference_value for entry in row.entries] for row in found.rows]
    # No counterpart: a method or a pooling that is not mapped, and a column without a reference.
    assert values == [[29.7, None], [33.5, None], [None, None], [None, None]]


def test_nobody_takes_the_papers_numbers_for_ours() -> None:
    found = with_reference(table(*CELLS), config())
    note = "[…]: not ours, but printed in MAE-CLIP, Table 4: pretrained on CC (32 epochs), evaluated on ImageNet."
    assert found.notes == ("ours", note)
    assert "| clip | map | 50.0 ± 1.0 [29.7] | 50.0 ± 1.0 |" in render_markdown(found)
    assert plain(found.rows[1].entries[0], COLUMNS[0]) == "50.0 ± 1.0 [33.5]"
    assert "[29.7]" in render_html(found)
    rows = list(csv.DictReader(io.StringIO(render_csv(found))))
    assert [row["beside"] for row in rows] == ["29.7", "", "33.5", "", "", "", "", ""]


def test_beside_a_gap() -> None:
    missing = table(CELLS[0])
    entries = (Entry(cell_key(CELLS[0]), None, 2, missing="failed"), *missing.rows[0].entries[1:])
    found = with_reference(dataclasses.replace(missing, rows=(Row(("clip", "map"), entries),)), config())
    assert plain(found.rows[0].entries[0], COLUMNS[0]) == "failed [29.7]"
    assert "[29.7]" in render_html(found)


def test_a_factor_that_does_not_apply_narrows_nothing() -> None:
    levels = {"method": {"m3ae": {"method": "M3AE"}}, "pooling": {"map": {"pooling": "MAP"}}}
    probe = [{"metric": "linear_probe/a/top1", "reference": {"protocol": "linear-probe"}}] * 2
    declared = {**CONFIG, "columns": probe, "reference": {"paper": "mae_clip", "table": "1", "levels": levels}}
    found = with_reference(table({"method": "m3ae"}), build(TableConfig, declared))
    assert found.rows[0].entries[0].reference_value == 52.5


def test_without_a_reference_nothing_changes() -> None:
    plain_config = build(TableConfig, {key: value for key, value in CONFIG.items() if key != "reference"})
    assert with_reference(table(*CELLS), plain_config) == table(*CELLS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paper": "mae-clip"}, "unknown paper 'mae-clip'; did you mean 'mae_clip'"),
        ({"table": "44"}, "unknown table '44'; did you mean '4'"),
        ({"levels": {"method": {"clip": {"method": "CLAP"}}}}, "unknown method 'CLAP'; did you mean 'CLIP'"),
        ({"levels": {"method": {"clip": {"metod": "CLIP"}}}}, "unknown field 'metod'; did you mean 'method'"),
        ({"levels": {}}, "means 6 printed values"),
    ],
)
def test_mistakes_are_one_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_reference(table(*CELLS), config(**changes))


def laid_out(plan: Plan, name: str) -> Table:
    """A table of a plan without its numbers."""
    config = plan.study.tables[name]
    columns = tuple(
        Column(label=column.label, group="", split="", digits=column.digits, metrics=column.metric, ranked=True)
        for column in config.columns
    )
    rows = tuple(
        Row(levels, tuple(Entry(cell_key(cell[""]), None, 1, missing="eligible") for _ in columns))
        for levels, cell in table_layout(name, config, plan.study.factors, plan.cells).items()
    )
    return Table(name, name, config.rows, "", columns, rows, ())


COUNTS = {
    # Table 1 has two dashes; Table 9 prints CLIP in brackets.
    "mae_clip_cc": {
        "table1": 6, "table2": 72, "table3": 12, "table4": 24, "table9": 10, "table11": 72, "table12": 18,
        "table13": 10,
    },
    # M3AE has no zero-shot, and 15a and 15b no CLIP with MAP.
    "mae_clip_web": {"table14": 108, "table15a": 9, "table15b": 15, "table10": 24, "table11": 72},
    "mae_clip": {
        "table1": 6, "table2": 72, "table3": 12, "table4": 24, "table9": 10, "table11": 144, "table12": 18,
        "table13": 10, "table14": 108, "table15a": 9, "table15b": 15, "table10": 24,
    },
    # Tables 3 and 4: stage 2, SimCLR and MAE have no joint space. Tables 7 and 8 are whole.
    "maskclip": {
        "table1": 25, "table1_cost": 10, "table2": 12, "table3": 15, "table4": 45, "table5": 130, "table6": 60,
        "table7": 14, "table8": 21,
    },
    # DeiT has no probe.
    "maskclip_published": {"table4": 14},
}  # fmt: skip


@pytest.mark.parametrize("study", COUNTS)
def test_the_shipped_studies_of_the_paper_have_its_values(study: str) -> None:
    plan = make_plan(study)
    counts = {}
    for name, config in plan.study.tables.items():
        if config.reference is None:
            continue
        found = with_reference(laid_out(plan, name), config)
        counts[name] = sum(entry.reference_value is not None for row in found.rows for entry in row.entries)
    assert {name: count for name, count in counts.items() if count} == COUNTS[study]
