"""`ablate run` over the real trainer: interrupted, gone on with, tracked and reported."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from fakes import wait_for

from ablative.study.core.files import read_json
from ablative.study.home.journal import metric_rows, read
from ablative.study.home.paths import Home

STUDY = """\
name: real
title: One small run, for a test
base: {model: tiny, data: shapes, schedule: demo}
seeds: [0]
factors:
  method: {clip: {objective: clip}, mae_clip: {objective: mae_clip}}
applies: {}
drop: [{method: mae_clip}]
baseline: {method: clip}
protocols: [zero_shot]
"""
SMALL = (
    "schedule.steps=150",
    "schedule.batch_size=16",
    "objective.local_batch=8",
    "data.pairs=200",
    "runtime.log_every=1",
    "suite.datasets.shapes_shape.test=60",
    "suite.protocols.zero_shot=[shapes_shape]",
)


def test_interrupted_and_run_again_it_trains_evaluates_tracks_and_reports(tmp_path: Path) -> None:
    (tmp_path / "config" / "study").mkdir(parents=True)
    (tmp_path / "config" / "study" / "real.yaml").write_text(STUDY)
    home = Home(tmp_path / "home")
    command = [sys.executable, "-c", "from ablative.study.cli import main; main()", "run", "real", *SMALL]
    command += ["--config-dir", str(tmp_path / "config"), "--jobs", "1"]
    environment = {**os.environ, "ABLATE_HOME": str(home.root), "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)

    first = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: steps_reported(home) > 5, 120)
    first.send_signal(signal.SIGINT)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 130, errors
    (run_id,) = (path.name for path in home.runs.iterdir())
    run = home.run(run_id)
    failure = read_json(run.failure)
    assert failure is not None and failure["cause"] == "interrupted"
    assert run.checkpoint.exists() and not run.record.exists() and not run.lease.exists()

    second = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=200, check=False)
    assert second.returncode == 0, second.stderr
    record = read_json(run.record)
    assert record is not None and (record["state"], record["attempts"]) == ("completed", 2)
    assert record["environment"]["command"].startswith("ablate run real")
    rows = Counter((name, step) for name, step, _, _ in metric_rows(read(run.journal)[0]))
    assert set(rows.values()) == {1}, "no step is reported twice"
    assert max(step for _, step in rows) == 150
    assert (home.study("real").report / "index.html").exists()
    assert tracked(home) == [("evaluate", "completed"), ("pretrain", "completed")]


def steps_reported(home: Home) -> int:
    """Largest step in the only run's journal."""
    journals = list(home.root.glob("runs/*/journal.jsonl"))
    return max((step for path in journals for _, step, _, _ in metric_rows(read(path)[0])), default=0)


def tracked(home: Home) -> list[tuple[str, str]]:
    """(kind, state) of every MLflow run."""
    query = """
        select kind.value, state.value from tags kind join tags state using (run_uuid)
        where kind.key = 'ablate.kind' and state.key = 'ablate.state' order by 1
    """
    with closing(sqlite3.connect(home.store)) as store:
        return list(store.execute(query))
