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
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def contents(frozen: Path) -> dict[str, bytes]:
    """Files that are changed, as they were before any command, which may mend or add some: draws go by these."""
    files = [path for path in sorted((frozen / "home").rglob("*")) if path.name in NAMES]
    return {str(path.relative_to(frozen)): path.read_bytes() for path in files}


@given(data=st.data())
@settings(0.145, 45)
def test_one_file_of_a_home_that_is_read(frozen: Path, contents: dict[str, bytes], data: st.DataObject) -> None:
    name = drawn(data.draw, contents)
    command, content = pick(data.draw, READING), mutated(data.draw, name, contents[name])
    (frozen / name).write_bytes(content)
    try:
        call(frozen, command, name, content)
    finally:
        (frozen / name).write_bytes(contents[name])


@pytest.mark.long
@given(data=st.data())
@settings(0.005, 5)
def test_one_file_of_a_home_that_is_written(frozen: Path, contents: dict[str, bytes], data: st.DataObject) -> None:
    """The report among others, each in a copy of the home. Without it, commands that only read are tried."""
    name = drawn(data.draw, contents)
    command, content = pick(data.draw, WRITING), mutated(data.draw, name, contents[name])
    with tempfile.TemporaryDirectory(prefix="ablate-fuzz-") as folder:
        shutil.copytree(frozen, folder, dirs_exist_ok=True)
        Path(folder, name).write_bytes(content)
        call(Path(folder), command, name, content)


def drawn(draw: Draw, contents: dict[str, bytes]) -> str:
    """A file of the home: its kind first, so that those of which there are many are not drawn more often."""
    name = pick(draw, [name for name in NAMES if any(Path(file).name == name for file in contents)])
    return pick(draw, [file for file in contents if Path(file).name == name])


def call(folder: Path, command: tuple[str, ...], name: str, content: bytes) -> None:
    """The command in this folder, whose file was given this content."""
    with contextlib.chdir(folder):
        check(command, f"{name}:\n{content[:2000]!r}", {"ABLATE_HOME": str(folder / "home")})


def mutated(draw: Draw, name: str, content: bytes) -> bytes:
    """The file's content, changed in a way that its format allows, or damaged."""
    if name.endswith(".yaml"):
        return mutated_yaml(draw, content.decode())
    if name.endswith((".json", ".jsonl", ".journal")):
        return mutated_json(draw, content)
    return damage(draw, content)
