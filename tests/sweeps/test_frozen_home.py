"""A home of version 0.1.0 with finished, diverged, failed, running and queued work is opened, reported and finished."""

from __future__ import annotations

import json
import math
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ablative.study.home.paths import Home

FROZEN = Path(__file__).parents[1] / "frozen"
RUNNING = "1f7806b709aa"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    with tarfile.open(FROZEN / "home.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    # Heartbeats are modification times: the workers of this home died long ago.
    long_ago = time.time() - 3600
    for path in [*tmp_path.glob("home/runs/*/claim"), *tmp_path.glob("home/studies/small/submissions/*/alive")]:
        os.utime(path, (long_ago, long_ago))
    return Home(tmp_path / "home")


@pytest.fixture
def ablate(home: Home, call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Standard output of a command on the study of the home."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return lambda *words: call_ablate(home.root, *words, "--config-dir", str(home.root.parent / "config"))


def numbers(home: Home) -> dict[str, dict[str, float | None]]:
    found = json.loads((home.study("small").report / "numbers.json").read_text())["numbers"]
    return {key: {name: number.get(name) for name in ("value", "sd", "n")} for key, number in found.items()}


def same(left: float | None, right: float | None) -> bool:
    """Equal, but for the rounding of sums whose order is not fixed."""
    return left == right if left is None or right is None else math.isclose(left, right, rel_tol=1e-12, abs_tol=1e-12)


def test_it_is_opened_reported_and_finished(home: Home, ablate: Callable[..., str]) -> None:
    counts = json.loads(ablate("status", "small", "--json"))["counts"]
    assert counts == {"completed": 27, "diverged": 6, "failed": 2, "eligible": 1, "waiting": 6}

    ablate("report", "small")
    stored, found = json.loads((FROZEN / "home_numbers.json").read_text()), numbers(home)
    moved = [
        f"{key} {name}: {value} → {found.get(key, {}).get(name)}"
        for key, values in stored.items()
        for name, value in values.items()
        if not same(value, found.get(key, {}).get(name))
    ]
    assert not moved, "\n".join(moved)
    assert "2/2" in ablate("search", "small", "--status")

    records = {path: path.read_bytes() for path in home.runs.rglob("record.json")}
    assert len(records) == 27 + 6 + 4, "the study's tasks, and those of the search's two trials"
    ablate("retry", "small", "--jobs", "1")
    ablate("run", "small", "--jobs", "1")
    assert json.loads(ablate("status", "small", "--json"))["counts"] == {"completed": 36, "diverged": 6}
    assert all(path.read_bytes() == content for path, content in records.items()), "what is done is not run again"
    entries = [json.loads(line) for line in home.run(RUNNING).journal.read_text().splitlines()]
    assert [entry["attempt"] for entry in entries if entry.get("name") in ("started", "resumed")] == [1, 2]
    steps = [entry["step"] for entry in entries if "train/loss" in entry.get("values", {})]
    assert steps == sorted(set(steps)) and steps[-1] == 40, "no step is reported twice"
    finished = numbers(home)
    complete = [key for key, number in stored.items() if key.startswith("small.main") and number["n"] == 2]
    assert complete and all(same(finished[key]["value"], stored[key]["value"]) for key in complete)
