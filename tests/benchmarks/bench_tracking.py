"""What tracking costs: rows shipped a second into each kind of store, CPU for each metric, and looking for news.

    python tests/benchmarks/bench_tracking.py [TASKS] [STEPS]

By default 10 tasks of 100 steps × 8 metrics, which takes about a minute. PostgreSQL and an MLflow server are
started for it where they are installed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ablative.study.home.journal import Journal
from ablative.study.home.paths import Home
from ablative.sweeps.tracking import store
from ablative.sweeps.tracking.cursor import pending
from ablative.sweeps.tracking.sync import ship

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "sweeps")]

from services import MlflowServer, postgres  # noqa: E402 (the tests' own helpers lie beside them)
from tracking_world import pretraining, write_journal, write_record  # noqa: E402

WIDTH = 8


@contextlib.contextmanager
def stores(folder: Path) -> Iterator[dict[str, str]]:
    """URI of each kind of store; empty for the default one."""
    home = Home(folder / "behind the server")
    store.prepare(home, "bench")
    server = MlflowServer(f"sqlite:///{home.store}", folder)
    server.start()
    found = {"sqlite": "", "server on sqlite": server.uri}
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        if list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
            found["postgresql"] = stack.enter_context(postgres(folder))
        yield found


def bench_store(name: str, uri: str, home: Home, tasks: int, steps: int) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = uri or f"sqlite:///{home.store}"
    sources = [pretraining(number) for number in range(tasks)]
    for source in sources:
        write_journal(home, source, steps, WIDTH)
        write_record(home, source)
    began = time.perf_counter()
    store.prepare(home, "bench")
    print(f"{name:18} open      {time.perf_counter() - began:8.2f} s")
    for label, again in (("ship", False), ("again", True)):
        wall, cpu = time.perf_counter(), time.process_time()
        shipped = ship(sources, "bench", home, again=again)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert shipped.tasks == tasks and not shipped.errors, shipped
        rows = shipped.metrics
        print(
            f"{name:18} {label:9} {wall:8.2f} s  {rows / wall:8.0f} rows/s  "
            f"{1e6 * cpu / rows:6.0f} µs CPU/row  {1000 * wall / tasks:6.0f} ms/task"
        )
    began = time.perf_counter()
    assert pending(sources, "bench", home) == 0
    print(f"{name:18} pending   {1e6 * (time.perf_counter() - began) / tasks:8.0f} µs/task")


def bench_pending(folder: Path, tasks: int = 10_000) -> None:
    """`pending` of 10,000 shipped tasks: cursors copied from one that was really shipped."""
    home = Home(folder / "many")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home.store}"
    sources = [pretraining(number) for number in range(tasks)]
    write_journal(home, sources[0], steps=2)
    ship(sources[:1], "bench", home)
    journal = sources[0].paths(home).journal.read_bytes()
    cursor = sources[0].paths(home).shipped("bench").read_text()
    for source in sources[1:]:
        paths = source.paths(home)
        paths.shipped("bench").parent.mkdir(parents=True)
        paths.journal.write_bytes(journal)
        paths.shipped("bench").write_text(cursor)
    wall, cpu = time.perf_counter(), time.process_time()
    pending(sources, "bench", home)
    print(f"pending of {tasks} tasks: {time.perf_counter() - wall:.2f} s, {time.process_time() - cpu:.2f} s CPU")


def bench_journal(folder: Path, steps: int = 20_000) -> None:
    """What the training step itself pays: one line of JSON."""
    journal = Journal(folder / "journal.jsonl")
    values = {f"train/{i}": i / 3 for i in range(WIDTH)}
    cpu = time.process_time()
    for step in range(steps):
        journal.metrics(step, values)
    print(f"journal: {1e6 * (time.process_time() - cpu) / steps / WIDTH:.1f} µs CPU/row in the training process")
    journal.close()


def main() -> None:
    tasks, steps = (int(word) for word in (*sys.argv[1:], "10", "100")[:2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench_journal(folder)
        bench_pending(folder)
        with stores(folder) as found:
            for label, uri in found.items():
                bench_store(label, uri, Home(folder / label), tasks, steps)


if __name__ == "__main__":
    main()
