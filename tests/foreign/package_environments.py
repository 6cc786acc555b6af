"""Virtual environments of foreign packages, each built once by pip and kept between runs of the tests."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from missing import missing

KEPT = Path(__file__).parents[2] / ".foreign"
"""Git ignores it."""
OPERATORS = Path(__file__).parent / "missing_operators.py"
TORCH = "torch==2.13.0"


def environment(name: str, packages: Sequence[str], alone: Sequence[str] = ()) -> Path:
    """The interpreter of an environment with these packages; skips the test where pip cannot install them.

    Args:
        name: of its folder.
        packages: with their versions.
        alone: those that are installed without what they depend on, since that would bring other builds of torch.
    """
    wanted = "\n".join([sys.version, *packages, "--no-deps", *alone])
    folder = KEPT / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    KEPT.mkdir(exist_ok=True)
    with (KEPT / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            _install(python, packages)
            if alone:
                _install(python, ["--no-deps", *alone])
                _declare_operators(python)
            (folder / "complete").write_text(wanted)
    return python


def _install(python: Path, words: Sequence[str]) -> None:
    command = [str(python), "-m", "pip", "install", "-q", "--no-compile", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
        missing(f"pip cannot install {' '.join(words)}: {errors[-1] if errors else done.stderr[-300:]}")


def _declare_operators(python: Path) -> None:
    """torchvision has no build for this torch's CPU build: two of its operators are declared before it is imported."""
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    (site / OPERATORS.name).write_text(OPERATORS.read_text())
    (site / "missing_operators.pth").write_text("import missing_operators\n")
