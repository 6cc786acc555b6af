"""docs/extending.md is run: its blocks are applied to a copy of the packages, its commands are executed in order."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkouts import copy_packages, python
from extending import FENCED, PAGE, SECTIONS, blocks, commands
from installed import install
from scipy.stats import rankdata
from shared import with_store

from ablative.study.home.paths import Home

REPOSITORY = Path(__file__).parents[2]
MOST_FILES = {
    "A pooling": 2,
    "An objective": 2,
    "A protocol": 2,
    "A kind of evaluation set": 2,
    "A kind of table": 2,
    "An executor": 1,
    "A trainer": 2,
}
"""Section → most files of code that its example touches; the trainer's second is the program that it runs."""
SCHEDULER = {
    "qsub": """
        while [ $# -gt 1 ]; do [ "$1" = -o ] && log=$2; shift; done
        touch "$FAKE_PBS/$$"
        setsid sh -c 'sh "$0"; rm "$1"' "$1" "$FAKE_PBS/$$" > "$log" 2>&1 < /dev/null &
        echo $$
    """,
    "qstat": '[ -e "$FAKE_PBS/$1" ] || exit 35',
}
"""Commands of a scheduler that starts each job at once."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy of the packages in `checkout`, and the user's working folder in `work`."""
    folder = tmp_path_factory.mktemp("extending")
    copy_packages(folder / "checkout")
    for block in blocks():
        block.apply(folder / "checkout", folder / "work")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    """What `extended.py` prints."""
    work = folder / "work"
    draw_shades(work / "shades")
    path = [str(folder / "checkout"), *(str(declare(work / name)) for name in ("pbs", "fits"))]
    for name, text in SCHEDULER.items():
        script = folder / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
    (folder / "queue").mkdir()
    variables = {
        "ABLATE_HOME": str(with_store(folder / "home")),
        "FAKE_PBS": str(folder / "queue"),
        "PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(path),
    }
    words = [str(Path(__file__).with_name("extended.py")), json.dumps(commands())]
    done = python(folder / "checkout", *words, variables=variables, folder=work, seconds=500)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def draw_shades(folder: Path) -> None:
    """Dark and light images with the lists of the page's evaluation set."""
    from PIL import Image

    folder.mkdir()
    for split, count in {"train": 8, "test": 4}.items():
        lines = []
        for i in range(count):
            Image.new("RGB", (12, 8), (200 * (i % 2),) * 3).save(folder / f"{split}{i}.png")
            lines.append(f"{split}{i}.png,{('dark', 'light')[i % 2]}\n")
        (folder / f"{split}.csv").write_text("".join(lines))


def declare(folder: Path) -> Path:
    """Entry points of a distribution of the page, as installing it would declare them; returns its folder."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    [(group, points)] = project["entry-points"].items()
    return install(folder, project["name"], points, group)


def code_files(section: str) -> set[str]:
    return {block.path for block in blocks(SECTIONS[section]) if block.path.endswith(".py")}


def test_every_block_says_where_it_belongs() -> None:
    shown = [content for language, content in FENCED.findall(PAGE) if language != "bash"]
    assert shown == [block.text for block in blocks()] and len(shown) > 20


@pytest.mark.parametrize("section", SECTIONS)
def test_an_example_touches_few_files_of_code(section: str) -> None:
    assert 0 < len(code_files(section)) <= MOST_FILES[section]
    assert commands(SECTIONS[section])


def test_the_code_is_as_the_repository_wants_it(folder: Path) -> None:
    paths = {block.place_in(folder / "checkout", folder / "work") for block in blocks() if block.path.endswith(".py")}
    config = str(REPOSITORY / "pyproject.toml")
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", config, *map(str, sorted(paths))]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_every_command_does_what_the_page_says(found: dict[str, Any], folder: Path) -> None:
    for words, (code, printed) in zip(commands(), found["commands"], strict=True):
        assert code == 0, f"{words}\n{printed}"
    pooling, objective, protocol, sets, _, run, status, *_, why = (printed for _, printed in found["commands"])
    assert "soft_max" in pooling and "9 tasks" in pooling
    assert "objective.name: clip → sigmoid" in objective
    assert "7 tasks" in protocol and "9 tasks" in sets
    assert "submitted 9 tasks to 1 worker" in run and "9 completed" in status
    assert "check/error" in why and "n = 2 of 2 seeds" in why


def test_the_new_kind_of_table_prints_mean_ranks(found: dict[str, Any], folder: Path) -> None:
    home = Home(folder / "home")
    runs = {f"{row['objective']}, {row['pooling']}": row["runs"] for row in table(folder, "mine", "main")}
    scores = []
    for run_id in runs.values():
        records = [json.loads(path.read_text()) for path in home.run(run_id).root.glob("evaluations/*/record.json")]
        metrics = {name: value for record in records for name, value in record["metrics"].items()}
        scores.append([metrics[name] for name in ("zero_shot/shape/top1", "knn/shape/top1", "knn/shades/top1")])
    expected = rankdata(-np.array(scores), axis=0).mean(axis=1)
    assert {row["arm"]: float(row["mean"]) for row in table(folder, "mine", "ranked")} == pytest.approx(
        dict(zip(runs, expected.tolist(), strict=True))
    )


def test_the_trainer_leaves_a_report(found: dict[str, Any], folder: Path) -> None:
    report = folder / "home" / "studies" / "fits" / "report"
    [claim] = json.loads((report / "claims.json").read_text())
    assert claim["verdict"] == "supported"
    rows = {(row["degree"], row["column"]): row for row in table(folder, "fits", "main")}
    assert float(rows["cubic", "fresh"]["mean"]) < 0.05 < float(rows["line", "fresh"]["mean"])
    assert rows["cubic", "fitted"]["n"] == "2"


def table(folder: Path, study: str, name: str) -> list[dict[str, str]]:
    """Rows of a table of a report."""
    with (folder / "home" / "studies" / study / "report" / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_soft_maximum_by_hand(found: dict[str, Any]) -> None:
    one, both = found["pooled"]
    assert one == [pytest.approx([0.0, 1.0], abs=1e-6)]
    assert both == [pytest.approx([math.log(2), 5 + math.log((1 + math.exp(-4)) / 2)], rel=1e-6)]


def test_the_sigmoid_loss_agrees_with_its_definition(found: dict[str, Any]) -> None:
    losses = found["losses"]
    assert losses["whole"] == pytest.approx(losses["pairs"], rel=1e-5)
    assert losses["shared"] == pytest.approx(losses["whole"], rel=1e-5)


def test_nearest_neighbours_by_hand(found: dict[str, Any]) -> None:
    assert found["neighbours"] == {"top1": pytest.approx(200 / 3), "per_class": pytest.approx(75)}


def test_a_set_of_listed_files(found: dict[str, Any]) -> None:
    assert found["listed"] == {
        "classes": ["dark", "light"],
        "labels": [0, 1] * 4,
        "brightness": [0, 200] * 4,
        "moved": True,
    }
