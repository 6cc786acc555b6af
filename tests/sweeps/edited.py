"""A checkout of the source whose jobs wait until it has been edited, and then say which version they found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fakes import write_study

from ablative.study.core.packages import PACKAGES, ROOT, folder
from ablative.study.home.paths import Home

ISOLATED = """
import json
import time


def execute(job):
    root = job.paths.root
    (root / "begun").touch()
    while not (job.home.root / "go").exists():
        time.sleep(0.01)
    from ablative.trainer.isolated_version import VERSION

    (root / "draft").write_text(json.dumps({"state": "completed", "seconds": VERSION}))
    (root / "draft").rename(root / "record.json")
"""
VERSION = 1.0


def copy_packages(target: Path) -> None:
    """Copy the packages below `target`, which is then what `PYTHONPATH` has to name."""
    ignore = shutil.ignore_patterns("__pycache__", "namespace")
    for package in PACKAGES:
        shutil.copytree(folder(package), target.joinpath(*package.split(".")), ignore=ignore)
    shutil.copy(folder(ROOT) / "__init__.py", target / ROOT)


def submit_checkout(root: Path, home: Home, *words: str) -> Path:
    """Copy the source, submit its `tiny` study from there, and return the copy."""
    checkout = root / "checkout"
    copy_packages(checkout)
    (checkout / "ablative" / "trainer" / "isolated.py").write_text(ISOLATED)
    (checkout / "ablative" / "trainer" / "isolated_version.py").write_text(f"VERSION = {VERSION}\n")
    write_study(root / "config")
    code = (
        "from ablative.study.plan.plan import make_plan\nfrom ablative.sweeps.submission.submit import Code, submit\n"
        "import ablative.sweeps\n"
        f"assert ablative.sweeps.__file__.startswith({str(checkout)!r})\n"
        f"plan = make_plan('tiny', {list(words)!r}, config_dir={str(root / 'config')!r})\n"
        "submit(plan, 1, Code('ablative.trainer.isolated:execute', ''))"
    )
    environment = {**os.environ, "PYTHONPATH": str(checkout), "ABLATE_HOME": str(home.root)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=checkout, env=environment)
    return checkout


def edit(checkout: Path, home: Home) -> None:
    """Break what the jobs were submitted with, change what they will import, and let them go on."""
    (checkout / "ablative" / "trainer" / "isolated_version.py").write_text("VERSION = 2.0\n")
    for name in ("study", "sweeps"):
        (checkout / "ablative" / name / "__init__.py").write_text("raise RuntimeError('edited')\n")
    (home.root / "go").touch()
