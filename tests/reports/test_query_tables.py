"""Tables of the user's own SQL: numbers by hand, marks as in other tables, everywhere that tables are, and mistakes."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import stores
import yaml
from missing import program

from ablative.reports.build import ReportOptions, report
from ablative.reports.declared import one_number
from ablative.reports.provenance.findings import NotFinalError
from ablative.reports.provenance.numbers import unfolded
from ablative.study.core.errors import ConfigError
from ablative.study.core.typed import build
from ablative.study.plan.plan import Plan
from ablative.study.spec.outputs import QueryConfig

METRIC = "zero_shot/shapes_shape/top1"
BY_SEED = f"""
    select cell->>'method' as method, cell->>'pooling' as pooling, seed, run_id, commit, value as shape, -value as error
    from results
    where metric = '{METRIC}' and cell->>'scale' = 'small'
    order by method, pooling desc, seed
"""


def with_query(plan: Plan, **query: Any) -> Plan:
    study = dataclasses.replace(plan.study, queries={"mine": build(QueryConfig, query, "queries.mine")})
    return dataclasses.replace(plan, study=study)


def values(plan: Plan) -> list[float]:
    """The first row's numbers from the declared table."""
    return [source.value for source in stores.one_table(plan, "main").rows[0].entries[0].sources]


def test_seeds_become_mean_spread_and_marks(full: Plan) -> None:
    better = {"shape": {"better": "higher", "label": "Shape", "digits": 2}, "error": {"better": "lower", "digits": 2}}
    table = stores.one_table(with_query(full, sql=BY_SEED, columns=better, note="Own."), "mine")
    assert table.factors == ("method", "pooling") and [column.label for column in table.columns] == ["Shape", "error"]
    assert [row.name for row in table.rows] == ["clip, map", "clip, gap", "mae_clip, map", "mae_clip, gap"]
    own, entry = values(full), table.rows[0].entries[0]
    assert entry.literal == f"{mean(own):.2f} ± {stdev(own):.2f}"
    assert [source.value for source in entry.sources] == own and all(source.run_id for source in entry.sources)
    # The same ranking by a number and by its negative.
    best = [[entry.best for entry in row.entries] for row in table.rows]
    assert all(a == b for a, b in best) and {a for a, _ in best} == {True, False}
    assert table.notes[0] == "Own." and table.notes[1].startswith("Mean ± sample standard deviation over seeds (n = 3)")


def test_without_seeds_a_row_is_a_row(full: Plan) -> None:
    sql = "select cell->>'method' as method, count(*) as n, null::double as nothing from results group by 1 order by 1"
    table = stores.one_table(with_query(full, sql=sql, columns={"n": {"digits": 0}}), "mine")
    assert [row.levels for row in table.rows] == [("clip",), ("mae",), ("mae_clip",)]
    assert table.rows[0].entries[0].literal.isdecimal() and table.rows[0].entries[1].missing == "–"
    assert not any(entry.best for row in table.rows for entry in row.entries)
    assert table.notes == ("–: does not exist.", "Rows of a query of the study.")
    assert stores.one_table(with_query(full, sql="select 'a' as name, 1.5 as x where false"), "mine").rows == ()


def test_it_is_everywhere_that_tables_are(full: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program("pdflatex")
    monkeypatch.chdir(tmp_path)
    Path("mine.sql").write_text(BY_SEED)
    plan = with_query(full, sql="mine.sql", title="My <own>", columns={"shape": {"better": "higher", "key": "shape"}})
    found = report(plan, tmp_path / "out", ("md", "tex", "csv", "html", "pdf"))
    assert not found.left_out and (tmp_path / "out/tables.pdf").exists()
    for suffix in ("md", "tex", "csv", "html", "json"):
        assert (tmp_path / f"out/tables/mine.{suffix}").exists()
    page = (tmp_path / "out/index.html").read_text()
    assert "My &lt;own&gt;" in page and "select cell-\\u003e\\u003e'method'" in page
    number = unfolded(json.loads((tmp_path / "out/numbers.json").read_text()), "pooled.mine.clip.map.shape")
    assert number["parts"]["value"] == f"{mean(values(full)):.1f}" and number["query"] == BY_SEED
    assert [run["seed"] for run in number["runs"]] == [0, 1, 2]
    answer, _ = one_number(plan, "mine", "clip, map", "shape")
    assert answer.query == BY_SEED


def test_the_example_in_the_documentation(full: Plan) -> None:
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    [line] = re.findall(r"^queries: (.*)$", text, re.MULTILINE)
    table = stores.one_table(with_query(full, **yaml.safe_load(line)["cost"]), "mine")
    assert [row.name for row in table.rows] == ["clip", "mae", "mae_clip"]
    assert table.rows[0].entries[0].literal == "1.000 ± 0.000" and table.rows[0].entries[0].summary.n == 3  # type: ignore[union-attr]


def test_nobody_knows_what_a_query_reads_so_all_must_be_there(partial: Plan, tmp_path: Path) -> None:
    study = dataclasses.replace(partial.study, tables={}, effects={}, figures={})
    plan = with_query(dataclasses.replace(partial, study=study), sql="select 'a' as name, 1 as x")
    with pytest.raises(NotFinalError) as caught:
        report(plan, tmp_path, ("md",), ReportOptions(final=True))
    assert "table mine" in next(finding for finding in caught.value.findings if finding.kind == "missing").places


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"sql": "select sedd from results"}, r'queries\.mine\.sql: Binder Error: .*"sedd"'),
        ({"sql": "create table x as select 1"}, r"queries\.mine\.sql: expected one select"),
        ({"sql": "nowhere.sql"}, r"queries\.mine\.sql: cannot read nowhere\.sql"),
        ({"sql": "select 'a' as name"}, r"queries\.mine: the query has no column of numbers \(found: name\)"),
        ({"sql": "select 'a' as name, 1 as x, [2] as y"}, r"column 'y': \[2\] is neither text nor a number"),
        ({"sql": "select 1 as value", "columns": {"valeu": {}}}, r"unknown column 'valeu'; did you mean 'value'\?"),
        ({"sql": "select 'a' as n, 1 as x union all select 'a', 2"}, r"two rows of a; select `seed` too"),
        ({"sql": "select 0 as seed, 1 as x union all select 0, 2"}, r"two rows of no labels, seed 0; average them"),
    ],
)
def test_mistakes_are_one_clear_error(full: Plan, query: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stores.one_table(with_query(full, **query), "mine")
