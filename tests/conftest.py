"""Lies here so that pytest puts this folder on the import path: several tests share its helpers."""

import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("study", "trainer", "sweeps", "reports")

# A shell starts background jobs with Ctrl-C ignored, and every process below would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Several tests run side by side, each with processes of its own: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# `python -m pytest` puts the repository's root on the path, where `import study` would find the folder; installed, the
# packages are `ablative.study`, …, and a forgotten prefix must fail here as it would there.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


def pytest_sessionfinish() -> None:
    """Fail the run when a module was imported under the name of its folder."""
    found = sorted(set(FOLDERS) & set(sys.modules))
    assert not found, f"imported without `ablative.`: {', '.join(found)}"
