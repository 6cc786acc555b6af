"""Environments with the wheel and what some requirements bring, made of the packages of the running environment.

Installing anew would take minutes and an index. Links to the installed distributions, and to no others, are as strict:
a module of a distribution that nothing requires is not there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDERS = ("study", "trainer", "sweeps", "reports")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE: list[str] = PROJECT["dependencies"]
EXTRA: dict[str, list[str]] = PROJECT["optional-dependencies"]


def files() -> list[str]:
    """Files of the checkout that git knows or would add, relative to it."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in listed if (ROOT / name).exists()]


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the checkout, where no earlier build has left anything."""
    for name in files():
        if name.split("/")[0] in (*FOLDERS, "pyproject.toml", "README.md", "LICENSE"):
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    # An isolated build would install setuptools once more, from an index; torch brings it into this environment.
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    pip("wheel", *options, "--wheel-dir", str(folder / "wheel"), str(folder / "source"))
    (wheel,) = (folder / "wheel").iterdir()
    return wheel


def make_environment(folder: Path, wheel: Path, requirements: Iterable[str]) -> Path:
    """A virtual environment with the wheel and all that the requirements bring; returns its interpreter."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for name in closure(requirements):
        distribution = metadata.distribution(name)
        for top in {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(distribution.locate_file(top))))
    pip("--python", str(python), "install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel))
    return python


def closure(requirements: Iterable[str]) -> set[str]:
    """Names of the distributions that requirements bring, directly or through others."""
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                needs = [Requirement(text) for text in metadata.requires(name) or ()]
                waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True)


def in_one_process(python: Path, folder: Path, *commands: Sequence[str]) -> list[str]:
    """What several commands print, of which each has to succeed: what they import is imported once."""
    given = ["-P", "-c", COMMANDS, json.dumps(commands)]
    result = subprocess.run(
        [str(python), *given], cwd=folder, env=_environment(folder), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{result.stdout[-2000:]}{result.stderr[-4000:]}"
    return [str(text) for text in json.loads(result.stdout.splitlines()[-1])]


COMMANDS = """
import contextlib, io, json, sys
from ablative.study.cli import main
printed = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(words, standalone=False)
    assert not code, (words, code, out.getvalue())
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


def ablate(
    python: Path, folder: Path, *words: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a folder, whose `home` is the home; nothing of the caller's paths is inherited."""
    environment = {**_environment(folder), **(variables or {})}
    command = [str(python.parent / "ablate"), *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLFLOW_", "ABLATE_"))}
    return {**kept, "ABLATE_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
