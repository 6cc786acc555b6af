"""Fifty jobs that start at once, tracked by MLflow's server on PostgreSQL as the README starts it.

    python tests/benchmarks/bench_tracking_server.py [JOBS] [STEPS]

By default 50 jobs, each with a run of 200 steps × 4 metrics and an evaluation; then as many again while the server is
killed half-way and started again. Each job is a process that ships as a worker's shipper does. Two or three minutes.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ablative.study.home.paths import Home

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "sweeps")]

from services import MlflowServer, postgres, wait_until  # noqa: E402 (the tests' own helpers lie beside them)
from tracking_world import (  # noqa: E402
    assert_shipped,
    evaluation,
    pretraining,
    query,
    rush,
    store_rows,
    write_journal,
    write_record,
)


def bench(study: str, home: Home, server: MlflowServer, database: str, jobs: int, steps: int, kill: bool) -> None:
    """Print how long it takes until everything is in the store; fails when a row is lost or doubled."""
    # Tasks of their own: a task's runs are counted over all studies.
    first = jobs if kill else 0
    tasks = [[run, evaluation(run, number)] for number in range(first, first + jobs) for run in [pretraining(number)]]
    for run, score in tasks:
        write_journal(home, run, steps)
        write_journal(home, score, 1)
        write_record(home, run)
    start, outbox = rush(home, study, tasks)
    began = time.time()
    start.set()
    if kill:
        wait_until(lambda: sum(store_rows(database, study).values()) > 2 * jobs * steps, 300, "half of the rows")
        server.kill()
        server.start()
    connections = query(database, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")[0][0]
    answers = [outbox.get() for _ in tasks]
    seconds = sorted(when - began for _, when in answers)
    assert_shipped(database, study, home, [source for sources in tasks for source in sources])
    rows = sum(store_rows(database, study).values())
    shipped = sum(whole for whole, _ in answers)
    print(
        f"{study:12} {shipped} of {jobs} jobs shipped all: {rows} rows, none lost or doubled; {rows / seconds[-1]:.0f} "
        f"rows/s, a job {statistics.median(seconds):.1f} s, the last {seconds[-1]:.1f} s; {connections} connections"
    )


def main() -> None:
    jobs, steps = (int(word) for word in (*sys.argv[1:], *("50", "200")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as name, postgres(Path(name)) as database:
        folder = Path(name)
        uri = database.replace("postgresql://", "postgresql+psycopg2://")
        server = MlflowServer(uri, folder, "--workers 4")
        began = time.time()
        server.start()
        print(f"mlflow server, 4 workers: answers after {time.time() - began:.1f} s")
        os.environ["MLFLOW_TRACKING_URI"] = server.uri
        try:
            for study, kill in (("undisturbed", False), ("killed", True)):
                bench(study, Home(folder / study), server, database, jobs, steps, kill)
        finally:
            server.kill()


if __name__ == "__main__":
    main()
