"""Documentation agrees with the repository: links resolve, and the architecture page names every room."""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_structure import MODULES, PREFIX, modules_used, trees

from ablative.trainer.program.configurations import KEYS
from ablative.trainer.program.definition import KEYS as STAGE_KEYS
from ablative.trainer.program.definition import LAUNCHERS
from ablative.trainer.program.metrics.sources import KINDS as METRIC_KINDS
from ablative.trainer.program.metrics.sources import TAKES
from ablative.trainer.program.words import STYLES

ROOT = Path(__file__).parents[2]
PACKAGES = ("study", "trainer", "sweeps", "reports")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target and not target.startswith("reference/"):  # that the site's build makes, and checks
            assert (page.parent / target).exists(), target


def test_a_published_study_is_the_shipped_one() -> None:
    """Its page prints no path of a machine, and is small enough to be sent."""
    for page in (ROOT / "docs" / "studies").glob("*/index.md"):
        name = page.parent.name
        shipped = ROOT / "trainer" / "clip" / "conf" / "study" / f"{name}.yaml"
        assert (page.parent / f"{name}.yaml").read_text() == shipped.read_text()
        report = (page.parent / "report.html").read_text()
        assert name in report and "/tmp/" not in report and len(report) < 3e6


def test_the_architecture_page_names_every_room_and_no_other() -> None:
    rooms = (
        {
            ".".join(path.parent.relative_to(ROOT).parts)
            for package in PACKAGES
            for path in (ROOT / package).rglob("*/__init__.py")
        }
        - set(PACKAGES)
        - {"study.namespace"}
    )
    assert set(re.findall(r"^\| `([\w.]+)` \|", ARCHITECTURE, re.MULTILINE)) == rooms
    assert set(re.findall(r"^### `(\w+)`", ARCHITECTURE, re.MULTILINE)) == set(PACKAGES)


def folder_of(module: str) -> str:
    return ".".join(MODULES[module].parent.relative_to(ROOT).parts)


def within(name: str, folders: set[str]) -> bool:
    return any(name == folder or name.startswith(folder + ".") for folder in folders)


def names(text: str) -> tuple[set[str], set[str]]:
    """What a sentence or a cell of the table allows, and what of that it excepts."""
    allowed, *denied = re.split(r"\b(?:but|neither)\b", text, maxsplit=1)
    return set(re.findall(r"`([\w.]+)`", allowed)), set(re.findall(r"`([\w.]+)`", "".join(denied)))


ON_THE_PAGE = {
    room: names(text) for room, text in re.findall(r"^\| `([\w.]+)` \| .* \| (.*) \|$", ARCHITECTURE, re.MULTILINE)
}


def in_the_docstring(room: str) -> tuple[set[str], set[str]]:
    text = ast.get_docstring(trees()[MODULES[PREFIX + room]]) or ""
    found = re.search(r"^It (?:may import|imports) (.*)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{room}/__init__.py does not say what it may import"
    return names(found.group(1))


@pytest.mark.parametrize("room", [*PACKAGES, *ON_THE_PAGE])
def test_rooms_import_what_their_docstring_and_the_architecture_page_say_and_no_more(room: str) -> None:
    allowed, denied = in_the_docstring(room)
    assert ON_THE_PAGE.get(room, (allowed, denied)) == (allowed, denied), "the page says otherwise"
    for module, path in MODULES.items():
        for other in modules_used(path) if folder_of(module) == room else ():
            name = other.removeprefix(PREFIX)
            # A package's own name leads to its folder: its `__init__.py` has nothing to import.
            permitted = within(name, {room, *allowed}) and not within(name, denied)
            assert permitted or name in PACKAGES, f"{room} may not import {name}, but {module} does"


def test_the_files_of_packages_have_nothing_to_import() -> None:
    for package in PACKAGES:  # `reports` imports what Python code asks of it when that is asked
        body = trees()[MODULES[PREFIX + package]].body
        assert len(body) == 1 or package == "reports", package


def test_the_architecture_page_names_modules_that_exist() -> None:
    for name in re.findall(r"\b(?:study|trainer|sweeps|reports)(?:\.[a-z_]+)+", ARCHITECTURE):
        path = ROOT.joinpath(*name.split("."))
        assert path.is_dir() or path.with_suffix(".py").exists() or name.endswith(".py"), name


def test_the_guide_to_contributing_names_targets_and_folders_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([\w-]+)`", text):
        assert f"\n{target}:" in makefile, target
    for name in re.findall(r"`?(tests/[\w/.]*)", text):
        assert (ROOT / name).exists(), name


README = (ROOT / "README.md").read_text()
OWN_CODE = (ROOT / "docs" / "own_code.md").read_text()


def test_the_page_on_own_code_runs(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", OWN_CODE, re.MULTILINE | re.DOTALL)
    first, everything = (text for language, text in blocks if language == "yaml")
    # README begins with the same study, and further commands on it.
    assert first in README
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "examples" / "command", folder)
    (folder / "study.yaml").write_text(first)
    commands = next(text for language, text in blocks if language == "bash").splitlines()
    with contextlib.chdir(folder):
        shown = [call_ablate(tmp_path / "home", *line.partition("#")[0].split()[1:]) for line in commands]
        assert "2 cells, 4 runs, 4 tasks" in shown[0] and "4/4 done" in shown[1]
        [block] = re.findall(r"```bash\n(ablate try study.yaml.*?)```", README, re.DOTALL)
        tried, again, why = (
            call_ablate(tmp_path / "home", *shlex.split(line, True)[1:]) for line in block.splitlines()
        )
        assert "every declared metric and output was there" in tried and "4/4 done" in again and "seed 1" in why
        (folder / "tools").mkdir()
        for name in ("prepare.py", "tools/probe.py"):
            (folder / name).write_text("")
        (folder / "study.yaml").write_text(everything)
        [plan] = re.findall(r"`ablate (plan study.yaml [^`]+)`", OWN_CODE)
        assert "4 cells" in call_ablate(tmp_path / "home", *plan.split())
    program = next(text for language, text in blocks if language == "python")
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines() == ["step 1: accuracy 0.5", "step 2: accuracy 0.6"]


def test_the_page_on_own_code_names_every_key() -> None:
    for key in {*KEYS, *STAGE_KEYS, *METRIC_KINDS, *TAKES, *LAUNCHERS, *STYLES[1:]}:
        assert re.search(rf"\b{key}\b", OWN_CODE), key


def test_the_example_of_an_executor_is_the_one_that_the_guide_to_extending_runs() -> None:
    guide = (ROOT / "docs" / "extending.md").read_text()
    for name in ("pbs_executor.py", "pyproject.toml", "cluster/pbs.yaml"):
        assert f"\n{(ROOT / 'examples' / 'pbs' / name).read_text()}```" in guide, name
