"""A checkout of the source whose jobs wait until it has been edited, and then say which version they found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fakes import SOURCE, write_study

from study.paths import Home
from sweeps.failures import OWN_PACKAGES

ISOLATED = '''
import json
import time


class Interrupted(Exception):
    """Never raised."""


def execute(kind, root, home, stop):
    (root / "begun").touch()
    while not (home.root / "go").exists():
        time.sleep(0.01)
    from trainer.isolated_version import VERSION

    (root / "draft").write_text(json.dumps({"state": "completed", "seconds": VERSION}))
    (root / "draft").rename(root / "record.json")
'''
VERSION = 1.0


def submit_checkout(folder: Path, home: Home, *words: str) -> Path:
    """Copy the source, submit its `tiny` study from there, and return the copy."""
    checkout = folder / "checkout"
    for name in OWN_PACKAGES:
        shutil.copytree(SOURCE / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "trainer" / "isolated.py").write_text(ISOLATED)
    (checkout / "trainer" / "isolated_version.py").write_text(f"VERSION = {VERSION}\n")
    write_study(folder / "config")
    code = (
        "from study.plan import make_plan; from sweeps.submit import Code, submit; import sweeps\n"
        f"assert sweeps.__file__.startswith({str(checkout)!r})\n"
        f"plan = make_plan('tiny', {list(words)!r}, config_dir={str(folder / 'config')!r})\n"
        "submit(plan, 1, Code('trainer.isolated:execute', ''))"
    )
    environment = {**os.environ, "PYTHONPATH": str(checkout), "ABLATE_HOME": str(home.root)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=checkout, env=environment)
    return checkout


def edit(checkout: Path, home: Home) -> None:
    """Break what the jobs were submitted with, change what they will import, and let them go on."""
    (checkout / "trainer" / "isolated_version.py").write_text("VERSION = 2.0\n")
    for name in ("study", "sweeps"):
        (checkout / name / "__init__.py").write_text("raise RuntimeError('edited')\n")
    (home.root / "go").touch()
