"""The shape of the code base: import directions, cycles, sizes, and what start-up may import."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("study", "trainer", "sweeps", "reports")
PREFIX = "ablative."
MAY_IMPORT = {
    "study": set(),
    "trainer": {"study"},
    "sweeps": {"study"},
    "reports": {"study"},
}
NEVER = {
    "study": {"torch", "mlflow", "optuna", "duckdb", "matplotlib"},
    "trainer": {"submitit", "optuna", "duckdb", "mlflow", "matplotlib"},
    "sweeps": {"duckdb", "torch", "matplotlib"},
    "reports": {"torch", "submitit", "mlflow"},
}
REGISTRY = ("study/core/registry.py", "study/trainer_names.py")
"""The files that may name modules of every package, as strings; the second alone those of `trainer.clip`."""
MODULES_IN_A_FOLDER = 14
LINES_IN_A_FILE = 400
LINES_IN_A_FUNCTION = 45
FILES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if path.parent != ROOT / "study" / "namespace"
)
_STRING = re.compile(r"ablative(?:\.\w+)+")


def module_name(path: Path) -> str:
    return PREFIX + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


@functools.cache
def trees() -> dict[Path, ast.Module]:
    """Parsed when a test asks: every process of the tests collects this file, and one runs it."""
    return {path: ast.parse(path.read_text()) for path in FILES}


@functools.cache
def imports(path: Path) -> set[str]:
    """Absolute names of all that a file imports, inside functions and for type checkers too."""
    found: set[str] = set()
    for node in ast.walk(trees()[path]):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
    return found


@functools.cache
def named(path: Path) -> set[str]:
    """Modules of ours that a file names in strings, such as "ablative.study.cli:main" (docstrings do not count)."""
    docstrings = {
        id(node.value)
        for parent in ast.walk(trees()[path])
        if isinstance(parent, ast.Module | ast.ClassDef | ast.FunctionDef)
        for node in parent.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    texts = [
        node.value
        for node in ast.walk(trees()[path])
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    return {match.group() for text in texts for match in _STRING.finditer(text) if match.group() in MODULES}


@functools.cache
def modules_used(path: Path) -> set[str]:
    """Modules of ours that a file needs: `from package import module` needs the module, not the package's own file."""
    found = imports(path) & set(MODULES)
    parents = {name.rpartition(".")[0] for name in found if name.rpartition(".")[0] in imports(path)}
    own = set() if str(path.relative_to(ROOT)) in REGISTRY else named(path)
    return ((found - parents) | own) - {module_name(path)}


@functools.cache
def room(name: str) -> str:
    """What is drawn as one place: a folder without folders in it, else the module itself."""
    path = MODULES[name]
    folders = [child for child in path.parent.iterdir() if child.is_dir() and any(child.glob("*.py"))]
    return name if folders else module_name(path.parent / "__init__.py")


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle of the graph as a trail of names; empty where there is none."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if found := visit(other, [*trail, name]):
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        if found := visit(name, []):
            return found
    return []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    used = {name.removeprefix(PREFIX).split(".")[0] for name in modules_used(path)}
    assert not used - MAY_IMPORT[package] - {package}
    assert not {name.split(".")[0] for name in imports(path)} & (NEVER[package] | set(PACKAGES))
    assert "ablative.study.namespace" not in imports(path)


def test_nobody_but_the_registry_of_trainers_names_the_shipped_one() -> None:
    shipped = "ablative.trainer.clip"
    for path in FILES:
        if not path.is_relative_to(ROOT / "trainer" / "clip") and str(path.relative_to(ROOT)) != REGISTRY[1]:
            assert not [name for name in imports(path) | named(path) if f"{name}.".startswith(f"{shipped}.")], path


def test_the_trainer_interface_knows_no_trainer() -> None:
    tree = trees()[ROOT / "study" / "trainers.py"]
    interface = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Trainer")
    words = {
        word
        for part in interface.body
        for node in ast.walk(part)
        for text in (
            [node.name, *(argument.arg for argument in (*node.args.args, *node.args.kwonlyargs))]
            if isinstance(node, ast.FunctionDef)
            else [node.id]
            if isinstance(node, ast.Name)
            else [str(node.value)]
            if isinstance(node, ast.Constant)
            else []
        )
        for word in re.findall("[a-z]+", text.lower())
    }
    assert not words & {"image", "images", "text", "texts", "objective", "batch", "protocol", "protocols", "percent"}


def test_what_runs_a_task_of_any_trainer_needs_no_torch() -> None:
    left = [name for name, path in MODULES.items() if path.is_relative_to(ROOT / "trainer" / "runner")]
    seen: set[str] = set()
    while left:
        name = left.pop()
        assert not {"torch", "numpy"} & {used.split(".")[0] for used in imports(MODULES[name])}, name
        seen.add(name)
        left += modules_used(MODULES[name]) - seen


def test_there_are_no_import_cycles_between_files() -> None:
    assert not find_cycle({name: modules_used(path) for name, path in MODULES.items()})


def test_there_are_no_import_cycles_between_rooms() -> None:
    graph: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        graph.setdefault(room(name), set()).update({room(other) for other in modules_used(path)} - {room(name)})
    assert not find_cycle(graph)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_IN_A_FILE
    for node in ast.walk(trees()[path]):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            docstring = ast.get_docstring(node, clean=False)
            length = node.end_lineno - node.lineno + 1 - (len(docstring.splitlines()) if docstring else 0)
            assert length <= LINES_IN_A_FUNCTION, f"{node.name}: {length} lines"


def test_folders_stay_small_and_say_what_they_are() -> None:
    for folder in sorted({path.parent for path in FILES}):
        name = folder.relative_to(ROOT)
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= MODULES_IN_A_FOLDER, f"{name}: {len(modules)} modules"
        docstring = ast.get_docstring(trees().get(folder / "__init__.py", ast.Module([], []))) or ""
        assert len(docstring.splitlines()) >= 3 and re.search(r"\bimports?\b", docstring), f"{name}: {docstring!r}"


def test_every_module_says_what_it_is() -> None:
    assert not [str(path) for path, tree in trees().items() if not ast.get_docstring(tree)]


def test_the_client_is_python_3_8_and_needs_nothing() -> None:
    text = (ROOT / "study" / "namespace" / "__init__.py").read_text()
    tree = ast.parse(text, feature_version=(3, 8))
    roots = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in ([alias.name for alias in getattr(node, "names", [])] if isinstance(node, ast.Import) else [])
    }
    roots |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert roots <= sys.stdlib_module_names


def test_every_package_is_listed_for_installation() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    known = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "--", *PACKAGES],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    folders = {Path(name).parent for name in known if name.endswith(".py") and (ROOT / name).exists()}
    folders.remove(Path("study", "namespace"))
    assert listed == sorted({"ablative", *(PREFIX + ".".join(folder.parts) for folder in folders)})


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
        "heavy = {'torch','mlflow','optuna','duckdb','matplotlib','pandas','numpy'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_loader_processes_import_no_torch() -> None:
    program = (
        "import sys, ablative.trainer.clip.data.pairs.workers, ablative.trainer.clip.data.world.shapes,"
        "ablative.trainer.clip.data.shards.shards; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
