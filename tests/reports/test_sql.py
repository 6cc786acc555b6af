"""`ablate sql`: the views explain themselves, a query prints as table, CSV and JSON, Parquet holds every row."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from ablative.reports import results
from ablative.reports.sql_cli import print_rows
from ablative.reports.store.factor_columns import factors_sql
from ablative.reports.store.queries import ask, export, views
from ablative.reports.store.results import open_warehouse
from ablative.study.cli import main
from ablative.study.core.errors import ConfigError
from ablative.study.plan.plan import Plan

VIEWS = ["runs", "results", "cost", "trials", "declared_metrics", "results_by_factor", "curves"]


def test_every_column_of_every_view_is_listed(full: Plan) -> None:
    with open_warehouse(full) as warehouse:
        found = views(warehouse)
        assert [row[0] for row in found.rows if row[0]] == VIEWS
        assert all(row[3] for row in found.rows if row[0])
        columns = [row[1] for row in found.rows]
        assert {"run_id", "metric", "value", "cell", "gpu_hours"} <= set(columns)


def test_a_query_and_its_mistakes(full: Plan) -> None:
    with open_warehouse(full) as warehouse:
        answer = ask(warehouse, "select count(*) as n, min(seed) as first from results")
        assert answer.names == ["n", "first"]
        assert answer.rows == warehouse.rows("select count(*), min(seed) from results") and answer.rows[0][0] > 0
        with pytest.raises(ConfigError, match=r'query: .*sedd.*"seed"'):
            ask(warehouse, "select sedd from results")
        with pytest.raises(ConfigError, match="query: Permission Error"):
            ask(warehouse, "copy results to 'results.csv'")


def test_sql_parquet_and_python_have_the_same_column_for_each_factor(full: Plan, tmp_path: Path) -> None:
    frame = results("pooled", config_dir=full.home.root.parent / "conf", home=full.home.root)
    with open_warehouse(full) as warehouse:
        assert "results_by_factor" not in warehouse.views, "built where it is asked for"
        asked = ask(warehouse, "select * from results_by_factor")
        assert asked.names == list(frame.columns) and sum(map(len, asked.rows)) == frame.size
        rows = {tuple(None if value != value else value for value in row) for row in frame.itertuples(index=False)}
        assert set(asked.rows) == rows and None in {row[2] for row in rows}
        export(warehouse, tmp_path)
        assert pq.read_table(tmp_path / "results_by_factor.parquet").column_names == asked.names
        columns = factors_sql(["a\"b'c", "Seed", "lr", "LR"])
        cell = json.dumps({"a\"b'c": "x", "Seed": "y", "LR": "z"}).replace("'", "''")
        found = ask(warehouse, f"select {columns} 1 as seed from (select '{cell}'::json as cell) results")
        assert found.names == ["a\"b'c", "Seed_factor", "lr", "LR_factor", "seed"]
        assert found.rows == [("x", "y", None, "z", 1)]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_is_no_wider_than_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["run_id", "metric", "value", "cell", *(f"factor_{i}" for i in range(8))]
    rows = [("0123456789ab", "zero_shot/shapes_object/top1", 12.345678901234567, '{"method":"clip"}', *("large",) * 8)]
    for name, value in (("COLUMNS", str(width)), ("FORCE_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
    print_rows(names, rows)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= width and "12.345678901234567" in "\n".join(lines)


def test_a_file_has_a_line_for_each_row_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(["a", "b"], [("x" * 900, 1), ("y", 2)])
    assert any("x" * 900 in line and line.rstrip().endswith("1") for line in capsys.readouterr().out.splitlines())


def test_curves_are_there_when_asked_for(full: Plan) -> None:
    with open_warehouse(full) as warehouse:
        assert "curves" not in warehouse.views, "large, so not read without need"
        answer = ask(warehouse, "select metric, count(*) as points from curves group by metric order by metric")
        assert answer.rows and all(points > 1 for metric, points in answer.rows if metric.startswith("train/"))
        assert (
            warehouse.curves(["train/loss"])
            == [row for row in ask(warehouse, _FINITE).rows if row[2] == "train/loss"]
            != []
        )
        path = warehouse.save()
        with duckdb.connect(str(path), read_only=True) as saved:
            [(points,)] = saved.sql("select count(*) from curves").fetchall()
            assert points == sum(count for _, count in answer.rows)


def test_parquet_holds_every_row_and_is_the_same_again(full: Plan, tmp_path: Path) -> None:
    with open_warehouse(full) as warehouse:
        paths, again = export(warehouse, tmp_path / "a"), export(warehouse, tmp_path / "b")
        assert [path.name for path in paths] == [f"{name}.parquet" for name in VIEWS]
        for path, other in zip(paths, again, strict=True):
            [(rows,)] = warehouse.rows(f"select count(*) from {path.stem}")
            # This study searches nothing.
            assert pq.read_table(path).num_rows == rows and bool(rows) == (path.stem != "trials")
            assert path.read_bytes() == other.read_bytes()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    query = "select 1 as one, 'a,b' as text, null as nothing, 'nan'::double as wrong"

    def run(*words: str) -> str:
        assert main(["sql", "demo", *words], standalone=False) == 0
        return capsys.readouterr().out

    assert "one" in run(query) and "a,b" in run(query)
    assert json.loads(run(query, "--json")) == [{"one": 1, "text": "a,b", "nothing": None, "wrong": None}]
    rows = list(csv.reader(io.StringIO(run(query, "--csv", "seeds=[0]"))))
    assert rows == [["one", "text", "nothing", "wrong"], ["1", "a,b", "", "nan"]]
    assert "results" in run("--parquet", str(tmp_path / "out"))
    assert (tmp_path / "out" / "results.parquet").exists()
    assert (tmp_path / "home" / "studies" / "demo" / "warehouse.duckdb").exists()
    assert main(["sql", "demo", "select x", "--config-dir", str(tmp_path)], standalone=False) == 2
    assert "query:" in capsys.readouterr().err


_FINITE = """
    select cell, seed, metric, step, value from curves where isfinite(value) order by cell, seed, metric, step
"""
