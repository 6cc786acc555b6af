"""The journal survives torn lines, repeated steps and numbers that JSON does not know."""

from __future__ import annotations

import math
import resource
from pathlib import Path

import pytest

from ablative.study.home.journal import Journal, metric_rows, read


def rows(path: Path) -> list[tuple[str, int, float]]:
    return [(name, step, value) for name, step, value, _ in metric_rows(read(path)[0])]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.params({"a": 1})
    journal.metrics(3, {"loss": 0.5})
    journal.event("completed", seconds=1.5)
    entries, end = read(journal.path)
    assert [entry["kind"] for entry in entries] == ["params", "metrics", "event"]
    assert end == journal.path.stat().st_size
    assert read(journal.path, end) == ([], end)


def test_steps_walked_again_after_a_resume_are_not_reported_twice(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = Journal(path)
    for step in (10, 20, 30):
        first.metrics(step, {"loss": step / 10})
    first.close()
    second = Journal(path)
    for step in (20, 30, 40):
        second.metrics(step, {"loss": step / 10, "late": 1.0})
    assert [(step, value) for name, step, value in rows(path) if name == "loss"] == [(10, 1), (20, 2), (30, 3), (40, 4)]
    assert [step for name, step, _ in rows(path) if name == "late"] == [20, 30, 40]


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_a_torn_last_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.metrics(1, {"loss": 1.0})
    journal.metrics(2, {"loss": 2.0})
    path.write_bytes(path.read_bytes()[:-cut])
    assert rows(path) == [("loss", 1, 1.0)]
    Journal(path).metrics(2, {"loss": 2.0})
    assert rows(path) == [("loss", 1, 1.0), ("loss", 2, 2.0)]


@pytest.mark.parametrize(
    "line",
    [
        '{"t": 1, "kind": "metrics", "step": 1, "values": [1.0]}',
        '{"t": 1, "kind": "tags", "values": 3}',
        '{"t": 1, "kind": "metrics", "step": 1, "values": null}',
        '{"t": 1, "kind": "params", "values": {"a": 2}}',
    ],
)
def test_a_line_with_values_of_another_form_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).metrics(1, {"loss": 1.0})
    path.write_text(f"{line}\n{path.read_text()}")
    assert rows(path) == [("loss", 1, 1.0)]
    assert f"{path}: damaged (1 of 2 lines" in capsys.readouterr().err


def test_nan_and_infinities_come_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.metrics(1, {"a": math.nan, "b": math.inf, "c": -math.inf})
    values = {name: value for name, _, value in rows(journal.path)}
    assert math.isnan(values["a"]) and values["b"] == math.inf and values["c"] == -math.inf


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.metrics(1, {"loss": 1.0})
    size = journal.path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        with pytest.raises(OSError):
            journal.metrics(2, {"loss": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert journal.path.stat().st_size == size
