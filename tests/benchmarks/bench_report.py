"""`ablate report` against `mlflow.search_runs` and pandas, side by side on one store.

    python tests/benchmarks/bench_report.py            # the command as typed, 10,000 runs, next to theirs; the page
    python tests/benchmarks/bench_report.py 2000       # store → tables alone, in one process, both
    python tests/benchmarks/bench_report.py 10000

The command writes all formats, and its page is opened in Chromium where that is installed. Of the part in one process:
a run has 20 params and 30 metrics, half of the runs measure what the others trained. Ours reads the store, builds five
tables of 50 rows and 31 columns (mean, deviation, n, state and runs of each number) and renders them; `--all` makes it
one table of 1,000 rows, `--formats` says in what they are rendered. Theirs computes mean, deviation and n of every
metric and cell, and renders nothing; "ablate, numbers alone" does the same and no more. Imports are excluded, each is
the best of three processes (theirs of one), memory is the process's peak.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from ablative.study import installed_trainers
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, Task, make_plan
from ablative.study.spec.cluster import ClusterConfig
from ablative.study.spec.study_file import parse_study
from ablative.study.trainers import Metric

FACTORS = {"scale": 4, "method": 10, "pooling": 5, "masking": 5}
"""Factor → levels: 1,000 cells; seeds make up the number of runs."""
METRICS = [f"probe/task{i:02d}/top1" for i in range(30)]

TESTS = Path(__file__).resolve().parents[1]

NAMES = {"theirs": "mlflow.search_runs", "numbers": "ablate, numbers alone", "ours": "ablate, report"}


def synthetic_plan(root: Path, runs: int, everything: bool = False, configs: Mapping[str, Any] | None = None) -> Plan:
    """A plan of `runs` tasks, half of them trainings; all of a stage with the same configuration, or with none."""
    factors = {
        factor: {f"{factor}{i}": {f"x.{factor}": i} for i in range(levels)} for factor, levels in FACTORS.items()
    }
    columns = [{"label": name, "metric": name} for name in METRICS] + [{"label": "mean", "metric": "probe/*/top1"}]
    tables = {
        f"masking{i}": {
            "rows": ["method", "pooling"],
            "columns": columns,
            "where": {"masking": f"masking{i}", "scale": "scale0"},
        }
        for i in range(FACTORS["masking"])
    }
    if everything:
        tables = {"all": {"rows": list(FACTORS), "columns": columns}}
    baseline = {factor: f"{factor}0" for factor in FACTORS}
    seeds = max(runs // 2000, 1)
    study = parse_study(
        {"name": "bench", "factors": factors, "baseline": baseline, "seeds": list(range(seeds)),
         "tables": tables}, "bench",
    )  # fmt: skip
    cells = study.design.cells()[: runs // 2 // seeds]
    tasks: list[Any] = []
    for stage in ("train", "probe"):
        for i, (cell, seed) in enumerate((cell, seed) for cell in cells for seed in study.seeds):
            run_id = f"{i:012x}"
            task_id, needs = (run_id, ()) if stage == "train" else (f"e{i:011x}", (run_id,))
            stages = ("train",) * len(needs)
            tasks.append(Task(task_id, stage, run_id, seed, (cell,), needs, needs, stages, (configs or {}).get(stage)))
    declared = {name: Metric(name, "probe", "%", "higher", 0.0, 100.0) for name in METRICS}
    local = ClusterConfig(name="local")
    trainer = installed_trainers.trainer("clip")
    return Plan(study, tuple(cells), tuple(tasks), declared, Home(root), local, trainer, asked="bench")


def fill(plan: Plan) -> None:
    """Write the plan's tasks into a new MLflow store, in bulk."""
    from ablative.sweeps.tracking.store import prepare

    experiment = prepare(plan.home, plan.study.name)
    rng = random.Random(0)
    runs, tags, params, metrics = [], [], [], []
    for i, task in enumerate(plan.tasks):
        uuid = f"{i:032x}"
        runs.append((uuid, task.name, "UNKNOWN", "", "", "me", "FINISHED", 1, 2, "", "active", "", experiment.id))
        own = {
            "task_id": task.task_id, "run_id": task.run_id, "stage": task.stage, "seed": task.seed, "dirty": 0,
            "cells": json.dumps(task.cells), "commit": "c" * 40, "state": "completed",
        }  # fmt: skip
        tags += [(uuid, f"ablate.{name}", str(value)) for name, value in own.items()]
        cell = {**task.cells[0], "seed": str(task.seed)}
        params += [(uuid, name, value) for name, value in cell.items()]
        params += [(uuid, f"model.option{k}", str(k)) for k in range(20 - len(cell))]
        names = [name for name, metric in plan.declared.items() if metric.stage == task.stage]
        names = names if task.needs else [f"train/quantity{k}" for k in range(30)]
        metrics += [(uuid, name, rng.uniform(0, 100), 1, 0, 0) for name in names]
    with sqlite3.connect(plan.home.store) as store:
        store.executemany(
            "insert into runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,"
            f" end_time, source_version, lifecycle_stage, artifact_uri, experiment_id) values ({','.join('?' * 13)})",
            runs,
        )
        store.executemany("insert into tags (run_uuid, key, value) values (?, ?, ?)", tags)
        store.executemany("insert into params (run_uuid, key, value) values (?, ?, ?)", params)
        for table in ("latest_metrics", "metrics"):
            columns = "run_uuid, key, value, timestamp, step, is_nan"
            store.executemany(f"insert into {table} ({columns}) values (?, ?, ?, ?, ?, ?)", metrics)
    store.close()


def ours(plan: Plan, formats: list[str]) -> Callable[[], object]:
    import adbc_driver_sqlite
    import duckdb
    import scipy.special

    from ablative.reports.build import report

    del adbc_driver_sqlite, duckdb, scipy
    # The figures' and the page's share is not measured: they draw, which depends on what is drawn.
    return lambda: report(plan, plan.home.root / "report", formats)


def numbers(plan: Plan) -> Callable[[], object]:
    """What theirs computes: the warehouse with its checks, and one query over it."""
    ours(plan, [])
    from ablative.reports.store.results import open_warehouse

    query = "select cell, metric, avg(value), stddev_samp(value), count(*) from results where metric like '%/%/%'"

    def run() -> object:
        with open_warehouse(plan) as warehouse:
            return warehouse.rows(f"{query} group by all")

    return run


def theirs(plan: Plan) -> Callable[[], object]:
    import warnings

    import mlflow
    import numpy  # noqa: F401
    import pandas

    warnings.simplefilter("ignore")
    mlflow.set_tracking_uri(f"sqlite:///{plan.home.store}")

    def run() -> object:
        frame = mlflow.search_runs(experiment_names=["bench"], max_results=50_000)
        frame = frame[frame["tags.ablate.stage"] == "probe"]
        groups = frame.groupby([f"params.{factor}" for factor in FACTORS])
        return groups[[f"metrics.{name}" for name in METRICS]].agg(["mean", "std", "count"])

    assert pandas
    return run


def command_study(folder: Path, everything: bool) -> Plan:
    """A study of the shipped trainer with 1,000 cells, two seeds and five stages, as a file that the command reads."""
    factors = {
        "lr": {f"lr{i}": {"schedule.lr": 1e-4 * (i + 1)} for i in range(10)},
        "pairs": {f"p{i}": {"data.pairs": 1000 + i} for i in range(10)},
        "seen": {f"s{i}": {"schedule.steps": 100 + i} for i in range(10)},
    }
    content: dict[str, Any] = {
        "name": "bench", "factors": factors, "seeds": [0, 1],
        "base": {"model": "tiny", "data": "shapes", "schedule": "demo"},
        "protocols": ["zero_shot", "linear_probe", "retrieval", "segmentation"],
    }  # fmt: skip
    path = folder / "study" / "bench.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    names = list(make_plan("bench", (), str(folder), Home(folder / "home")).declared)
    metrics = [name for name in names if name.partition("/")[0] in content["protocols"]][:31]
    columns = [{"label": name.replace("/", " "), "metric": name} for name in metrics]
    one = {"all": {"rows": list(factors), "columns": columns}}
    five = {f"t{i}": {"rows": ["lr", "pairs"], "columns": columns, "where": {"seen": f"s{i}",
            "lr": [f"lr{k}" for k in range(5)]}} for i in range(5)}  # fmt: skip
    path.write_text(json.dumps({**content, "tables": one if everything else five}))
    return make_plan("bench", (), str(folder), Home(folder / "home"))


COMMAND = """
import atexit, sys
from pathlib import Path
from ablative.study.cli import main
def peak():
    text = Path("/proc/self/status").read_text()
    print(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1], file=sys.stderr)
atexit.register(peak)
main()
"""


def command(folder: Path, everything: bool) -> dict[str, Any]:
    """CPU seconds, memory and bytes of `ablate report` as typed, the planning and all imports among them."""
    plan = command_study(folder, everything)
    words = ["report", "bench", "--config-dir", str(folder)]
    words += [word for each in ("md", "tex", "csv", "html") for word in ("--format", each)]
    environment = {**os.environ, "ABLATE_HOME": str(folder / "home")}
    best: dict[str, Any] = {"cpu": float("inf")}
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *words], check=True, env=environment, capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = min(best, {"cpu": cpu, "mib": int(done.stderr.split()[-1]) / 1024}, key=itemgetter("cpu"))
    written = plan.home.study("bench").report
    page = written / "index.html"
    return best | {"html": page.stat().st_size, "opened": opened(page)}


def opened(path: Path) -> str:
    """What Chromium says of a page that it opens, in words; empty where it is not installed."""
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        return ""
    sys.path += [str(TESTS), str(TESTS / "reports")]
    from browser import page

    when = "[...performance.getEntriesByType('paint').map(each => each.startTime), "
    when += "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd]"
    with page() as tab:
        tab.send("Performance.enable", timeDomain="threadTicks")
        tab.go(f"file://{path}")
        busy = {each["name"]: each["value"] for each in tab.send("Performance.getMetrics")["metrics"]}["TaskDuration"]
        first, *_, loaded = tab.value(when)
    return f"; opened by Chromium in {busy:.1f} s CPU: first paint {first / 1e3:.1f} s, all read {loaded / 1e3:.1f} s"


def commands() -> None:
    """`ablate report` of 10,000 tasks, next to what `mlflow.search_runs` and pandas need for the same store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(command_study(folder, False))
        shown = {
            "five tables of 50 rows (target 1.5 s)": command(folder, False),
            "one table of 1,000 rows (target 3 s, 350 MiB)": command(folder, True),
        }
        for what, row in shown.items():
            megabytes = row["html"] / 1e6
            costs = f"{row['cpu']:.1f} s CPU, {row['mib']:.0f} MiB"
            print(f"ablate report, {what}: {costs}, page of {megabytes:.1f} MB{row['opened']}")
        code = (
            "import mlflow, resource; "
            f"mlflow.set_tracking_uri('sqlite:///{folder / 'home' / 'mlflow.db'}'); "
            "frame = mlflow.search_runs(experiment_names=['bench'], max_results=50_000); "
            "metrics = [name for name in frame if name.startswith('metrics.')]; "
            "frame.groupby('tags.ablate.cells')[metrics].agg(['mean', 'std', 'count']); "
            "print(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        theirs = float(done.stdout.split()[-1])
        ratios = ", ".join(f"{theirs / row['cpu']:.0f} ×" for row in shown.values())
        print(f"mlflow.search_runs and pandas, no table: {theirs:.1f} s CPU, {ratios} as long")


def peak_mib() -> float:
    """Peak memory of this program (Linux). `getrusage` would count what its parent held when it forked."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def measure(words: argparse.Namespace) -> None:
    """In a process of its own: wall and CPU seconds of the work, and the process's peak memory."""
    # What a table's numbers rest on is told with `tex` and `html` alone.
    told = {"tex", "html"} & set(words.formats)
    configs = {"probe" if task.needs else "train": task.config for task in make_plan("demo").tasks} if told else None
    plan = synthetic_plan(words.root, words.runs, words.all, configs)
    makers = {
        "ours": lambda: ours(plan, words.formats),
        "numbers": lambda: numbers(plan),
        "theirs": lambda: theirs(plan),
    }
    work = makers[words.who]()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"who": words.who, "runs": words.runs, "wall": wall, "cpu": cpu, "mib": peak_mib()}))


def compare(runs: int, who: list[str], options: list[str]) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        fill(synthetic_plan(Path(folder), runs))
        for each in who:
            command = [sys.executable, __file__, str(runs), "--who", each, "--root", folder, *options]
            repeats = 1 if each == "theirs" else 3
            done = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(repeats)]
            yield min((json.loads(one.stdout.splitlines()[-1]) for one in done), key=itemgetter("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=int, nargs="?")
    parser.add_argument("--formats", nargs="*", default=["md"])
    parser.add_argument("--all", action="store_true", help="one table of every cell")
    parser.add_argument("--who")
    parser.add_argument("--root", type=Path)
    words = parser.parse_args()
    if not words.runs:
        commands()
        return
    if words.who:
        measure(words)
        return
    options = ["--formats", *words.formats, *(["--all"] if words.all else [])]
    found = list(compare(words.runs, list(NAMES), options))
    for row in found:
        figures = f"{row['wall']:6.2f} s  CPU {row['cpu']:6.2f} s  {row['mib']:6.0f} MiB"
        print(f"{NAMES[row['who']]:22} {row['runs']:6} runs  {figures}")
    cpu = {row["who"]: row["cpu"] for row in found}
    print(
        f"ratios of CPU at {found[0]['runs']} runs: numbers alone {cpu['theirs'] / cpu['numbers']:.0f} ×, "
        f"report {cpu['theirs'] / cpu['ours']:.0f} ×"
    )


if __name__ == "__main__":
    main()
