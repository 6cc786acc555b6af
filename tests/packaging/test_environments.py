"""The wheel: its files, the core in an environment without torch, and a researcher's own packages of the same names."""

from __future__ import annotations

import ast
import json
import re
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from environments import CORE, EXTRA, FOLDERS, ROOT, ablate, build_wheel, files, in_one_process, make_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from shard_world import sample, write_shard

from ablative.study.core.extras import EXTRAS, install_command, sentence

FROZEN_HOME = ROOT / "tests" / "frozen" / "home.tar.gz"
NAMESPACE = "study/namespace/"
STUDY = """
name: own
base: {model: frozen, data: shapes, schedule: frozen, suite: frozen}
seeds: [0]
factors: {method: {clip: {objective: clip}}}
baseline: {method: clip}
protocols: [zero_shot]
tables: {main: {rows: [method], columns: [{label: shape, metric: zero_shot/shapes_shape/top1}]}}
search:
  parameters: {schedule.lr: {low: 1.0e-4, high: 1.0e-2, log: true}}
  objective: {metric: zero_shot/shapes_color/top1, direction: maximize}
  per: [method]
  sampler: {name: random}
  budget: {trials: 1}
"""
SHARDS = """
name: packed
base: {model: frozen, schedule: frozen, suite: frozen}
seeds: [0]
factors: {method: {clip: {objective: clip}, mae: {objective: mae}}}
baseline: {method: clip}
protocols: [zero_shot]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Interpreter of an environment as `pip install .` leaves it: without torch and tokenizers."""
    return make_environment(tmp_path_factory.mktemp("core"), wheel, CORE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with the frozen home and its config folder."""
    with tarfile.open(FROZEN_HOME) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def done(python: Path, folder: Path, *words: str, **variables: str) -> str:
    """Standard output of a command that has to succeed."""
    result = ablate(python, folder, *words, variables=variables)
    assert result.returncode == 0, f"{words}: {result.stdout}{result.stderr}"
    return result.stdout


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    ours = [name for name in files() if name.split("/")[0] in FOLDERS and not name.endswith(".md")]
    assert found == {f"ablative/{name.removeprefix(NAMESPACE)}" for name in ours}
    assert {"ablative/__init__.py", "ablative/py.typed"} <= found


def test_every_import_is_declared_and_extras_name_their_modules() -> None:
    distributions = metadata.packages_distributions()
    declared = {
        extra: {canonicalize_name(Requirement(text).name) for text in requirements}
        for extra, requirements in {"core": CORE, **EXTRA}.items()
    }
    for extra, described in EXTRAS.items():
        owners = {canonicalize_name(name) for module in described.modules for name in distributions[module]}
        assert owners == declared[extra], extra
    allowed = declared["core"] | set().union(*(declared[extra] for extra in EXTRAS))
    undeclared = {
        f"{name}: {module}"
        for name in files()
        if name.split("/")[0] in FOLDERS and name.endswith(".py")
        for module in imported(ROOT / name) - sys.stdlib_module_names - {"ablative"}
        if not {canonicalize_name(owner) for owner in distributions.get(module, ())} & allowed
    }
    assert not undeclared


def imported(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, in functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_the_core_plans_checks_data_and_shows_states_without_torch(core: Path, folder: Path) -> None:
    write_shard(folder / "pairs" / "00000.tar", [sample(number) for number in range(24)])
    (folder / "config" / "data").mkdir()
    (folder / "config" / "data" / "pairs.yaml").write_text("name: pairs\nkind: shards\npath: pairs\npairs: 16\n")
    (folder / "config" / "study" / "packed.yaml").write_text(SHARDS.replace("{model", "{data: pairs, model"))
    own = ("--config-dir", "config")

    plan, packed, checked, listed, status, doctor = in_one_process(
        core,
        folder,
        ("plan", "demo"),
        ("plan", "packed", *own, "--json"),
        ("data", "check", "pairs"),
        ("list",),
        ("status", "packed", *own),
        ("doctor",),
    )
    assert "guessed from FLOPs" in re.sub(r"\s+", " ", plan)
    assert len(json.loads(packed)["tasks"]) == 3, "two runs, and an evaluation of the one with a text tower"
    assert "24" in checked and "demo" in listed and "eligible" in status
    assert install_command("clip") in doctor


def test_the_core_reports_without_torch(core: Path, folder: Path) -> None:
    words = ("small", "--config-dir", "config")
    place = ("main", "method=clip,pooling=map", "shape")
    asked = ("sql", *words, "select count(*) from runs")
    commands = (("sync", *words), ("report", *words), ("why", "small", *place, *words[1:]), asked)
    *_, why, rows = in_one_process(core, folder, *commands)
    assert "runs" in why and rows


@pytest.mark.parametrize("command", ["run", "submit", "search"])
def test_without_the_training_extra_nothing_is_submitted_to_this_machine(
    core: Path, folder: Path, command: str
) -> None:
    (folder / "config" / "study" / "own.yaml").write_text(STUDY)
    result = ablate(core, folder, command, "own", "schedule.steps=4", "--config-dir", "config")
    assert (result.returncode, result.stderr) == (1, f"ablate: {sentence('clip')}\n")
    assert not list((folder / "home").glob("studies/own*/submissions/*"))


@pytest.mark.parametrize(
    ("installed", "commands"),
    [
        ("wheel", ("run",)),
        pytest.param("wheel", ("run", "search"), marks=pytest.mark.long),
        pytest.param("editable", ("run", "search"), marks=pytest.mark.long),
    ],
    ids=["wheel", "wheel-search", "editable"],
)
def test_a_researchers_packages_of_the_same_names_are_never_imported(
    installed: str, commands: tuple[str, ...], wheel: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without the long ones: a search starts workers as a run does; it is seen in `tests/sweeps/test_search.py`."""
    python = Path(sys.executable)
    if installed == "wheel":
        python = make_environment(tmp_path_factory.mktemp("full"), wheel, [*CORE, *EXTRA["clip"]])
    for name in ("trainer.py", "sweeps.py", "study/__init__.py", "reports/__init__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("raise RuntimeError('a module of the researcher')\n")
    (folder / "config" / "study" / "own.yaml").write_text(STUDY)
    words = ("own", "schedule.steps=4", "--config-dir", "config")
    # What they start plans, trains, uploads and reports.
    for command in commands:
        done(python, folder, command, *words, "--jobs", "1", PYTHONPATH=".")
    counts = json.loads(done(python, folder, "status", *words, "--json", PYTHONPATH="."))["counts"]
    assert counts == {"completed": 2}
    numbers = json.loads((folder / "home" / "studies" / "own" / "report" / "numbers.json").read_text())["numbers"]
    assert any(key.startswith("own.main") for key in numbers)
