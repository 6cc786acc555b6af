"""The shipped studies run for real, shortened: a slice of `demo` killed with -9 in the middle, slices of others."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from shard_world import encoded, write_shard
from shared import with_store

from ablative.study.core.files import read_json

DEMO = (
    "schedule.steps=24",
    "schedule.warmup_steps=4",
    "seeds=[0]",
    "drop=[{method: [random_init, m3ae, mae, masked_clip]}, {scale: small}, {pooling: [gap, max]}]",
    "claims={}",
    "effects={}",
    "figures={}",
    "runtime.checkpoint_seconds=0.2",
)
OPENART = (
    "schedule.steps=4",
    "schedule.batch_size=16",
    "schedule.warmup_steps=1",
    "objective.local_steps=1",
    "objective.local_batch=8",
    "model.width=32",
    "model.depth=1",
    "factors.scale={5k: {data.pairs: 40}, 108k: {data.pairs: 0}}",
    "drop=[{scale: 5k}, {pooling: [gap, max]}]",
    "suite.datasets.concept.train=60",
    "suite.datasets.coarse.train=60",
    "suite.datasets.openart.test=30",
)
SMALL = (
    "factors.scale={1k: {data.pairs: 20}, 4k: {data.pairs: 40}, 16k: {data.pairs: 80}, 64k: {data.pairs: 150}}",
    *("schedule.steps=2", "schedule.batch_size=8", "schedule.warmup_steps=1"),
    *("objective.local_steps=1", "objective.local_batch=4", "model.depth=1"),
    *("suite.datasets.openart.test=30", "suite.datasets.digits.train=40"),
    *("protocol.linear_probe.epochs=1", "cluster.jobs=1"),
)
CELL = (
    "drop=[{method: mae_clip}, {pooling: gap}, {scale: [1k, 4k, 64k]}]",
    *("seeds=[0]", "factors.weights=null", "applies=null", "search=null", "claims=null", "effects=null"),
    *("figures=null", "tables.cost=null", "tables.poolings=null"),
)
"""One cell of `openart_scaling`, which no search finds."""
MINI_CELL = {
    "scale": "cc",
    "method": "mae_clip",
    "pooling": "max",
    "masking": "similarity",
    "weights": "main",
    "decoder": "d2",
}
"""Of `mae_clip_mini`: the system on which every protocol works, in most of its tables."""
MINI_SETS = (
    "shape",
    "color",
    "texture",
    "count",
    "distance",
    "orientation",
    "location",
    "occluded",
    "clevr",
    "vqa",
    "gqa",
)
MINI = (
    "seeds=[0]",
    "claims=null",
    "drop=[{scale: web}, {method: [mae, m3ae, clip, masked_clip]}, {pooling: [map, gap]}, {masking: random}, "
    "{weights: supplement}, {decoder: d3}]",
    f"baseline={{{', '.join(f'{factor}: {level}' for factor, level in MINI_CELL.items())}}}",
    "schedule.steps=2",
    "schedule.warmup_steps=1",
    "objective.local_steps=1",
    *(f"protocol.{name}.epochs=1" for name in ("linear_probe", "vqa", "finetune")),
    *(f"protocol.{name}.warmup_epochs=0" for name in ("vqa", "finetune")),
    *(f"suite.datasets.shapes_{name}.{split}=40" for name in MINI_SETS for split in ("train", "test")),
    "suite.datasets.digits.train=40",
    "suite.datasets.shapes_object.test=70",
    "suite.datasets.shapes.test=30",
    "cluster.jobs=1",
)


def start(home: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """`ablate` in a process group of its own."""
    program = [sys.executable, "-c", "from ablative.study.cli import main; main()", "--home", str(home), *words]
    return subprocess.Popen(
        program,
        env={**os.environ, **environment},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=600)
    assert process.returncode == 0, text
    return text


def final_metrics(home: Path) -> dict[str, dict[str, float]]:
    """Metrics of every finished task, less what it cost."""
    found = {}
    for path in sorted(home.rglob("record.json")):
        record = read_json(path)
        assert record is not None
        found[record["task_id"]] = {k: v for k, v in record["metrics"].items() if not k.startswith("cost/")}
    return found


def kill_workers(home: Path) -> None:
    """SIGKILL to every process that works in this home: workers, their forked tasks, launchers, shippers."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(home) in words:
                os.kill(int(folder.name), signal.SIGKILL)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_killed_in_the_middle_the_demo_ends_with_the_same_numbers(tmp_path: Path) -> None:
    """Two runs of the demo. For each change, `test_run_real` interrupts a study and goes on with it, `test_train` kills
    a run and compares weights and curve bit by bit, and `test_worker` kills workers and tasks at random."""
    calm, rough = with_store(tmp_path / "calm"), with_store(tmp_path / "rough")
    finish(start(calm, "run", "demo", *DEMO))
    process = start(rough, "run", "demo", *DEMO)
    deadline = time.monotonic() + 120
    while not list(rough.glob("runs/*/checkpoints/last.pt")):
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.05)
    time.sleep(random.uniform(0, 0.5))
    kill_workers(rough)
    process.communicate(timeout=60)
    text = finish(start(rough, "run", "demo", *DEMO))
    assert "Table 4" in text
    assert final_metrics(rough) == final_metrics(calm)
    status = json.loads(finish(start(rough, "status", "demo", *DEMO, "--json")))
    assert set(status["counts"]) == {"completed"}
    tables = [(home / "studies/demo/report/tables/table4.csv").read_text() for home in (calm, rough)]
    assert tables[0] == tables[1]
    assert any(float(row["mean"]) > 0 for row in csv.DictReader(tables[0].splitlines()) if row["mean"])


def icon(picture: Image.Image, content: dict[str, str]) -> dict[str, bytes]:
    """The files of one sample."""
    files = {"webp": encoded(np.array(picture), "WEBP"), "txt": f"a {content['name']}".encode()}
    return {**files, "json": json.dumps(content).encode()}


@pytest.fixture
def icons(tmp_path: Path) -> Path:
    """Shards in the layout of openart: 64×64 WebP, name, concept and coarse class in the JSON."""
    generator = np.random.default_rng(0)
    names = ("cat", "house", "tree", "star")
    for part, count in (("train-000", 90), ("train-001", 60), ("train-007", 40), ("test-000", 50)):
        samples = []
        for number in range(count):
            label = int(generator.integers(4))
            picture = Image.new("RGB", (64, 64), "white")
            box = [8 + 4 * label, 10, 40 + 4 * label, 50]
            ImageDraw.Draw(picture).rectangle(box, fill=(60 * label, 200 - 40 * label, 30))
            content = {"name": f"{names[label]} {number}", "concept": names[label], "coarse": "ab"[label // 2]}
            samples.append(icon(picture, content))
        write_shard(tmp_path / "data" / "openart" / f"openart-{part}.tar.gz", samples)
    return tmp_path / "data"


@pytest.mark.long
def test_a_slice_of_openart(tmp_path: Path, icons: Path) -> None:
    """A study on shards, from data to report; for each change the slice of the mini grid and `test_shards.py` stay."""
    home = with_store(tmp_path / "home")
    text = finish(start(home, "run", "openart", *OPENART, ABLATE_DATA=str(icons)))
    assert "Zero-shot, retrieval and probes" in text
    found = [metrics for metrics in final_metrics(home).values() if "zero_shot/concept/majority" in metrics]
    assert len(found) == 2
    assert all(20 < metrics["zero_shot/concept/majority"] < 50 for metrics in found)
    again = finish(start(home, "plan", "openart", *OPENART, "--json", ABLATE_DATA=str(icons)))
    assert {task["state"] for task in json.loads(again)["tasks"]} == {"completed"}
    # Other content under the same path is other data: nothing of it has been trained.
    new = icon(Image.new("RGB", (64, 64)), {"name": "nothing", "concept": "cat", "coarse": "a"})
    write_shard(icons / "openart" / "openart-train-000.tar.gz", [new] * 50)
    changed = finish(start(home, "plan", "openart", *OPENART, "--json", ABLATE_DATA=str(icons)))
    assert {task["state"] for task in json.loads(changed)["tasks"]} <= {"eligible", "waiting"}


@pytest.mark.long
def test_a_cell_of_the_study_on_real_pairs(
    tmp_path: Path, icons: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole of `openart_scaling` is planned, claims about what its search finds included; one cell of it is run."""
    beside = Path(__file__).parents[2] / "docs" / "studies" / "openart_scaling"
    assert "8 missing" in call_ablate(tmp_path / "home", "plan", str(beside / "pilot.yaml"))
    assert "27 missing" in call_ablate(tmp_path / "home", "plan", str(beside / "map_start.yaml"), "schedule.steps=250")
    monkeypatch.setenv("ABLATE_DATA", str(icons))
    home = with_store(tmp_path / "home")
    data = (f"data.path={icons}/openart/openart-train-00[0-6].tar.gz", *SMALL)
    shown = json.loads(call_ablate(home, "plan", "openart_scaling", *data, "--json"))
    assert len(shown["tasks"]) == 24 * 4 and len(shown["waiting"]) == 8
    call_ablate(home, "run", "openart_scaling", *data, *CELL)
    [row] = csv.DictReader((home / "studies/openart_scaling/report/tables/main.csv").read_text().splitlines()[:2])
    assert row["scale"] == "16k"
    tasks = json.loads(call_ablate(home, "plan", "openart_scaling", *data, *CELL, "--json"))["tasks"]
    assert [task["state"] for task in tasks] == ["completed"] * 4


@pytest.mark.long
def test_a_slice_of_the_mini_grid_has_every_protocol(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    home = with_store(tmp_path / "home")
    call_ablate(home, "run", "mae_clip_mini", *MINI)
    tasks = json.loads(call_ablate(home, "plan", "mae_clip_mini", *MINI, "--json"))["tasks"]
    assert [task["cell"] for task in tasks if task["stage"] == "train"] == [MINI_CELL]
    found = {task["stage"] for task in tasks}
    assert found == {"train", "zero_shot", "linear_probe", "retrieval", "segmentation", "vqa", "finetune", "panels"}
    assert {task["state"] for task in tasks} == {"completed"}
    tables = home / "studies/mae_clip_mini/report/tables"
    for name in ("table4", "table11", "table12", "table13"):
        rows = list(csv.DictReader((tables / f"{name}.csv").read_text().splitlines()))
        assert rows and all(row["mean"] for row in rows), name
    assert {path.stem for path in (home / "studies/mae_clip_mini/report/figures").glob("*.pdf")} == {
        "pooling", "scaling", "probes", "cost", "training", "evidence", "segments", "restored", "found", "embeddings",
    }  # fmt: skip
