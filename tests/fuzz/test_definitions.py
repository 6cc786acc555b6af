"""Whatever a study file, a config group, a word or a variable holds: a plan, or one line that says what is wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import running
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mutations import VALUES, mutated_yaml, pick, word
from running import check, settings

TESTS = Path(__file__).parents[1]
CONF = Path(os.environ.get("ABLATE_FUZZ_CONF", TESTS.parent / "trainer" / "clip" / "conf"))
STUDIES = {file.stem: file.read_text() for file in sorted((CONF / "study").glob("*.yaml"))}
GROUPS = ("suite", "suite", "protocol", "data", "model", "objective", "schedule", "runtime", "cluster")
COMMANDS = (("plan",), ("plan",), ("plan", "--json"), ("status", "--json"))
VARIABLES = (
    *("ABLATE_HOME", "ABLATE_DATA", "ABLATE_CONFIG_DIR", "ABLATE_SCHEDULER", "CUDA_VISIBLE_DEVICES", "COLUMNS", "LANG"),
    *("WORLD_SIZE", "RANK", "OMP_NUM_THREADS", "OPTUNA_STORAGE", "MLFLOW_TRACKING_URI", "SLURM_JOB_ID", "TERM", "TZ"),
)
ADDRESSES = (
    "",
    "x",
    "sqlite:///",
    "sqlite:////proc/x.db",
    "http://[",
    "postgresql://a:b@/x",
    "file:///proc",
    "é",
    "://",
)
KEYS = (
    *("seeds", "factors", "factors.scale", "drop", "baseline", "protocols", "tables", "claims", "labels"),
    *("title", "name", "base", "base.model", "design", "applies", "search", "stages", "trainer", "figures"),
    *("effects", "queries", "data", "model", "objective", "schedule", "suite", "cluster", "runtime"),
    *("model.pooling", "model.vision.width", "seed", "schedule.lr", "schedule.steps", "schedule.batch_size"),
    *("data.pairs", "data.path", "data.kind", "runtime.device", "suite.protocols.zero_shot", "suite.datasets"),
    *("suite.groups", "suite.datasets.shapes", "runtime.processes", "cluster.kind", "cluster.jobs"),
    *("cluster.hours", "objective.name", "objective.temperature", "tables.main.rows"),
)


@pytest.fixture(scope="module", autouse=True)
def work() -> Iterator[Path]:
    """A folder with the study of the frozen home, which is planned in a tenth of a second, and a home."""
    folder = Path(tempfile.mkdtemp(prefix="ablate-fuzz-"))
    with tarfile.open(TESTS / "frozen" / "home.tar.gz") as archive:
        members = [member for member in archive.getmembers() if member.name.startswith("config/")]
        archive.extractall(folder, members, filter="data")
    with contextlib.chdir(folder):
        yield folder
    shutil.rmtree(folder)


def options(group: str) -> dict[str, str]:
    """Name → content of the files of a config group; `cluster` is common to all trainers."""
    folder = CONF / group if (CONF / group).exists() else TESTS.parent / "study" / "conf" / group
    return {file.stem: file.read_text() for file in sorted(folder.glob("*.yaml"))}


def written(work: Path, group: str, data: bytes) -> tuple[str, str]:
    """A config folder with this file as option `fuzzed` of a group, and the option that names it."""
    folder = work / "config"
    for old in folder.rglob("fuzzed.yaml"):
        old.unlink()
    (folder / group).mkdir(parents=True, exist_ok=True)
    (folder / group / "fuzzed.yaml").write_bytes(data)
    return "--config-dir", str(folder)


def studies(work: Path) -> dict[str, str]:
    small = next((work / "config" / "study").glob("small.yaml")).read_text()
    return {"small": small, **STUDIES}


@given(data=st.data())
@settings(0.4, 30)
def test_a_study_file(work: Path, data: st.DataObject) -> None:
    found = studies(work)
    # The large studies are drawn seldom: composing their configurations takes seconds.
    name = pick(data.draw, [*["small"] * 30, *found])
    content = mutated_yaml(data.draw, found[name])
    words = (*pick(data.draw, COMMANDS), "fuzzed", *written(work, "study", content))
    check(words, content.decode(errors="replace"), home(work))


@given(data=st.data())
@settings(0.2, 6)
def test_a_config_group(work: Path, data: st.DataObject) -> None:
    group = pick(data.draw, GROUPS)
    found = options(group)
    content = mutated_yaml(data.draw, found[pick(data.draw, found)])
    folder = written(work, group, content)
    choice = "protocols=[fuzzed]" if group == "protocol" else f"{group}=fuzzed"
    check(("plan", "small", choice, *folder), content.decode(errors="replace"), home(work))


@given(data=st.data())
@settings(0.2, 40)
def test_words(work: Path, data: st.DataObject) -> None:
    words = [word(data.draw, KEYS) for _ in range(data.draw(st.integers(1, 2)))]
    words = [text for text in words if not text.startswith("-") and "\x00" not in text]
    check(("plan", "small", *words, *written(work, "study", b"{}")), "", home(work))


@given(data=st.data())
@settings(0.05, 15)
def test_variables(work: Path, data: st.DataObject) -> None:
    name = pick(data.draw, VARIABLES)
    value = pick(data.draw, ADDRESSES if "URI" in name or "STORAGE" in name else [*map(str, VALUES)])
    changed = home(work) | {name: value.replace("\x00", "")}
    command = pick(data.draw, (("plan",), ("status",)))
    check((*command, "small", *written(work, "study", b"{}")), f"{name}={value!r}", changed)


def home(work: Path) -> dict[str, str]:
    return {"ABLATE_HOME": str(work / "home")}


def test_the_mutations_are_of_files_that_are_right(work: Path) -> None:
    """Else every example would end at the first check."""
    assert "small" in studies(work) and len(STUDIES) >= 5
    for text in STUDIES.values():
        assert isinstance(yaml.safe_load(text)["factors"] if "factors" in text else {}, dict)
    kind, shown = running.fault(("plan", "small", *written(work, "study", b"{}")), home(work))
    assert not kind and "small" in shown
