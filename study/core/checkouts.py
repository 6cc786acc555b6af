"""What git says of a checkout, also of one that another user owns."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REFUSAL = "dubious ownership"


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Outcome of a git command in a folder; its code is 127 where there is no git.

    git refuses a checkout of another user, since its settings may name programs to be run. What is asked about here
    is code that this process imports, which is trust enough. Where git (before 2.38) refuses all the same, that is said
    on standard error: it is no folder without a checkout.
    """
    settings = ("safe.directory=*", "core.fsmonitor=false")
    options = [word for setting in settings for word in ("-c", setting)]
    command = ["git", *options, "-C", str(folder), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "")
    if found.returncode and REFUSAL in found.stderr:
        advice = f"git config --global --add safe.directory {folder}"
        print(
            f"ablate: {folder}: git refuses it, since another user owns it; no commit is known: {advice}",
            file=sys.stderr,
        )
    return found
