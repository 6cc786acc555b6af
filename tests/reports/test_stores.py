"""The same experiment through SQLite, PostgreSQL and an MLflow server gives the same tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import services
import stores

from ablative.reports.build import report
from ablative.reports.store.database_store import open_store
from ablative.reports.store.warehouse import Warehouse
from ablative.study.core.errors import StoreError
from ablative.study.plan.plan import Plan

DUMPS = (
    "select * exclude (mlflow_run_id) from runs order by task_id",
    "select * from results order by all",
    "select * from cost order by all",
)


def dump(uri: str, plan: Plan) -> list[object]:
    with Warehouse(open_store(uri), plan) as warehouse:
        return [*(warehouse.rows(query) for query in DUMPS), warehouse.curves(["train/loss"])]


def test_a_server_tells_the_same_as_its_store(partial: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablative.reports.store.rest_store.PAGE_RUNS", 7)
    monkeypatch.setattr("ablative.reports.store.rest_store.PAGE_POINTS", 2)
    server = services.MlflowServer(f"sqlite:///{partial.home.store}", tmp_path)
    try:
        server.start()
        # as text: NaN is not equal to itself
        assert str(dump(server.uri, partial)) == str(dump(f"sqlite:///{partial.home.store}", partial))
        assert stores.rows_of(open_store(server.uri), "another study") is None
    finally:
        server.kill()
    with pytest.raises(StoreError, match="cannot reach the tracking server http://127"):
        stores.rows_of(open_store(server.uri), "pooled")


def test_postgresql_tells_the_same_as_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = stores.plan_of(tmp_path, overrides=("seeds=[0]",))
    with services.postgres(tmp_path) as uri:
        stores.track(plan, uri.replace("postgresql:", "postgresql+psycopg2:"))
        stores.track(plan, f"sqlite:///{plan.home.store}")
        assert dump(uri.replace("postgresql:", "postgresql+psycopg2:"), plan) == dump(
            f"sqlite:///{plan.home.store}", plan
        )
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        report(plan, tmp_path / "a", ["md"])
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
    report(plan, tmp_path / "b", ["md"])
    assert (tmp_path / "a/tables/main.md").read_bytes() == (tmp_path / "b/tables/main.md").read_bytes()
    with pytest.raises(StoreError) as error:
        stores.rows_of(open_store(f"{uri.rpartition(':')[0]}:1/gone"), "pooled")
    assert "s3cr" not in str(error.value)
