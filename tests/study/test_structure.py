"""The shape of the code base: import directions, cycles, sizes, and what start-up may import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("study", "trainer", "sweeps", "reports")
PREFIX = "ablative."
MAY_IMPORT = {
    "study": set(),
    "trainer": {"study"},
    "sweeps": {"study", "trainer"},
    "reports": {"study"},
}
NEVER = {
    "study": {"torch", "mlflow", "optuna", "duckdb", "matplotlib"},
    "trainer": {"submitit", "optuna", "duckdb"},
    "sweeps": {"duckdb"},
    "reports": {"torch", "submitit", "mlflow"},
}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Absolute names of the modules that a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    found = imports(path)
    ours = {name.removeprefix(PREFIX).split(".")[0] for name in found if name.startswith(PREFIX)}
    assert not ours & (set(PACKAGES) - MAY_IMPORT[package] - {package})
    assert not {name.split(".")[0] for name in found} & (NEVER[package] | set(PACKAGES))


def test_there_are_no_import_cycles() -> None:
    names = {
        PREFIX + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in FILES
    }
    # `from package import module` needs the module, not what the package's own file imports.
    graph = {}
    for name, path in names.items():
        found = imports(path, top_level_only=True)
        parents = {other.rpartition(".")[0] for other in found if other in names and other.rpartition(".")[0] in found}
        graph[name] = (found & set(names)) - parents - {name}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join([*trail, name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            docstring = ast.get_docstring(node, clean=False)
            length = node.end_lineno - node.lineno + 1 - (len(docstring.splitlines()) if docstring else 0)
            assert length <= 45, f"{node.name}: {length} lines"


def test_every_module_says_what_it_is() -> None:
    assert not [str(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from ablative.study.cli import main; main(['--help'], standalone=False);"
        "heavy = {'torch','mlflow','optuna','duckdb','matplotlib','pandas','numpy','submitit','hydra','rich','yaml'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "doctor" in done.stdout


def test_study_and_its_plan_import_nothing_heavy() -> None:
    program = (
        "import sys; from ablative.study.plan.plan import make_plan; make_plan('demo');"
        "sys.exit(' '.join({'torch','mlflow','optuna','duckdb','matplotlib','pandas','numpy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
