"""Whatever a disk or a person has made of a home's files: states and a report, or one line that names the file."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import Draw, damage, mutated_json, mutated_yaml, pick
from running import check, settings

FROZEN = Path(__file__).parents[1] / "frozen" / "home.tar.gz"
NAMES = (
    *("record.json", "record.json", "journal.jsonl", "config.yaml", "submission.json", "failure.json", "claim"),
    *(
        "small.json",
        "plan.json",
        "tracking.json",
        "search.json",
        "tasks.json",
        "optuna.journal",
        "result.json",
        "version",
    ),
    *("identity", "tokenizer.json", "log.txt", "alive", "shipper"),
)
"""Files that are changed."""
STUDY = ("small", "--config-dir", "config")
READING = (
    *(("status", *STUDY), ("status", *STUDY, "--json"), ("plan", *STUDY), ("search", *STUDY, "--status")),
    *(("logs", "1f7806b709aa"), ("diff", *STUDY, "pooling=map", "pooling=max")),
)
"""Commands that leave a home as it was, but for caches."""
WRITING = (
    ("sql", *STUDY),
    ("sync", *STUDY),
    ("report", *STUDY),
    ("doctor",),
    ("why", *STUDY, "main"),
    ("doctor", "--json"),
)


@pytest.fixture(scope="module")
def frozen() -> Iterator[Path]:
    """The home of version 0.1.0 that ships with the tests: finished, diverged, failed, running and queued work."""
    folder = Path(tempfile.mkdtemp(prefix="ablate-fuzz-"))
    with tarfile.open(FROZEN) as archive:
        archive.extractall(folder, filter="data")
    long_ago = time.time() - 3600
    for path in [*folder.glob("home/runs/*/claim"), *folder.glob("home/studies/small/submissions/*/alive")]:
        os.utime(path, (long_ago, long_ago))
    # What commands add must not change what is drawn.
    inside = [path for path in sorted((folder / "home").rglob("*")) if path.name in NAMES]
    (folder / "files.txt").write_text("\n".join(str(path.relative_to(folder)) for path in inside))
    yield folder
    shutil.rmtree(folder)


@given(data=st.data())
@settings(0.13, 45)
def test_one_file_of_a_home_that_is_read(frozen: Path, data: st.DataObject) -> None:
    file = drawn(data.draw, frozen)
    command, before = pick(data.draw, READING), file.read_bytes()
    file.write_bytes(content := mutated(data.draw, file))
    try:
        call(frozen, command, file, content)
    finally:
        file.write_bytes(before)


@pytest.mark.long
@given(data=st.data())
@settings(0.02, 5)
def test_one_file_of_a_home_that_is_written(frozen: Path, data: st.DataObject) -> None:
    """The report among others, each in a copy of the home. Without it, commands that only read are tried."""
    file = drawn(data.draw, frozen)
    with tempfile.TemporaryDirectory(prefix="ablate-fuzz-") as folder:
        copied = Path(shutil.copytree(frozen, folder, dirs_exist_ok=True)) / file.relative_to(frozen)
        copied.write_bytes(content := mutated(data.draw, file))
        call(Path(folder), pick(data.draw, WRITING), copied, content)


def drawn(draw: Draw, frozen: Path) -> Path:
    """A file of the home: its kind first, so that those of which there are many are not drawn more often."""
    files = [frozen / line for line in (frozen / "files.txt").read_text().splitlines()]
    name = pick(draw, [name for name in NAMES if any(path.name == name for path in files)])
    return pick(draw, [path for path in files if path.name == name])


def call(folder: Path, command: tuple[str, ...], file: Path, content: bytes) -> None:
    """The command in this folder, whose file was given this content."""
    with contextlib.chdir(folder):
        check(command, f"{file}:\n{content[:2000]!r}", {"ABLATE_HOME": str(folder / "home")})


def mutated(draw: Draw, file: Path) -> bytes:
    """The file's content, changed in a way that its format allows, or damaged."""
    if file.suffix == ".yaml":
        return mutated_yaml(draw, file.read_text())
    if file.suffix in (".json", ".jsonl", ".journal"):
        return mutated_json(draw, file.read_bytes())
    return damage(draw, file.read_bytes())
