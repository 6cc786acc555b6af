"""The examples: every study is planned; those on one script are run in one home, whose runs they share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ON_THE_SCRIPT = ("claims", "figure", "sql_table")
"""Their cells are among those of `claims`."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(EXAMPLES, tmp_path_factory.mktemp("examples") / "examples"))


def python(folder: Path, script: str, home: Path | None = None) -> str:
    variables = {**os.environ, **({"ABLATE_HOME": str(home)} if home else {})}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_folder_is_listed() -> None:
    text = (EXAMPLES / "README.md").read_text()
    assert all(f"| `{path.name}` |" in text for path in EXAMPLES.iterdir() if path.is_dir())


@pytest.mark.parametrize(
    ("name", "cells"), [("one_at_a_time", 5), ("search", 4), ("claims", 4), ("sql_table", 2), ("figure", 2)]
)
def test_studies_of_a_script_are_planned(
    name: str, cells: int, folder: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / name)
    assert f"{cells} cells, " in call_ablate(folder / "planned", "plan", "study.yaml")


def test_studies_of_the_shipped_trainer_are_planned(
    folder: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "labelled_images")
    python(folder / "labelled_images", "make_images.py")
    assert "2 cells, 4 runs" in call_ablate(folder / "planned", "plan", "photos", "--config-dir", "my")
    monkeypatch.chdir(folder / "own_shards")
    python(folder / "own_shards", "make_captions.py")
    call_ablate(folder / "planned", "data", "pack", "captions.csv", "--out", "shards")
    assert "2 cells, 2 runs" in call_ablate(folder / "planned", "plan", "shards", "--config-dir", "my")


def test_results_from_mlflow(folder: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "mlflow_results")
    python(folder / "mlflow_results", "make_runs.py")
    assert "8 of 8 runs" in call_ablate(folder / "existing", "plan", "study.yaml")
    call_ablate(folder / "existing", "report", "study.yaml", "--format", "md")
    assert "clip" in (folder / "existing" / "studies" / "mlflow_results" / "report" / "tables" / "main.md").read_text()


@pytest.mark.long
def test_studies_of_a_script_are_run(
    folder: Path, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, the script and its reports are run by tests of `examples/command`; not these outputs of them."""
    home = folder / "home"
    for name in ON_THE_SCRIPT:
        monkeypatch.chdir(folder / name)
        call_ablate(home, "run", "study.yaml")
    assert len(list((home / "runs").iterdir())) == 8, "the studies share their runs"
    assert (home / "studies" / "figure" / "report" / "figures" / "losses.pdf").exists()
    assert "wide_is_better" in python(folder / "dataframes", "frames.py", home)
