"""A checkout whose files a test may edit, and Python that imports the packages from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ablative.study.core.packages import PACKAGES, ROOT, folder


def copy_packages(target: Path) -> Path:
    """Copy the packages below `target`, which is then what `PYTHONPATH` has to name; returns it."""
    ignore = shutil.ignore_patterns("__pycache__", "namespace")
    for package in PACKAGES:
        shutil.copytree(folder(package), target.joinpath(*package.split(".")), ignore=ignore)
    shutil.copy(folder(ROOT) / "__init__.py", target / ROOT)
    return target


def python(
    checkout: Path,
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
    seconds: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run Python with the checkout first on its path, before the editable installation; it may take so many seconds."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1", **(variables or {})}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
    )


def output(checkout: Path, code: str) -> str:
    """Standard output of code that imports the packages from the checkout."""
    done = python(checkout, "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
