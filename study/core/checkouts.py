"""What git says of a checkout, also of one that another user owns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REFUSAL = "dubious ownership"


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Outcome of a git command in a folder; its code is 127 where there is no git. See `raw`."""
    found = raw(folder, *arguments)
    texts = (part.decode(errors="replace").replace("\r\n", "\n") for part in (found.stdout, found.stderr))
    return subprocess.CompletedProcess(found.args, found.returncode, *texts)


def raw(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Outcome of a git command in a folder, in bytes, which names of files and patches are.

    git refuses a checkout of another user, since its settings may name programs to be run. What is asked about here
    is code that this user runs, which is trust enough. Where git (before 2.38) refuses all the same, that is said
    on standard error: it is no folder without a checkout.
    """
    settings = ("safe.directory=*", "core.fsmonitor=false")
    options = [word for setting in settings for word in ("-c", setting)]
    # Locks are for commands that the user types: a lock of ours would make one of those fail.
    command = ["git", "--no-optional-locks", *options, "-C", str(folder), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, b"", b"")
    if found.returncode and REFUSAL.encode() in found.stderr:
        advice = f"git config --global --add safe.directory {folder}"
        print(
            f"ablate: {folder}: git refuses it, since another user owns it; no commit is known: {advice}",
            file=sys.stderr,
        )
    return found


def names(folder: Path, *arguments: str) -> list[str]:
    """What a git command with `-z` lists, in any characters that a file system allows; nothing where it fails."""
    found = raw(folder, *arguments)
    return [os.fsdecode(name) for name in found.stdout.split(b"\0") if name] if found.returncode == 0 else []


def root(folder: Path) -> Path | None:
    """Top folder of the checkout that holds a folder; None: there is none, or it has nothing to do with the folder.

    A home directory that is itself a repository of settings does not own the projects below it.
    """
    found = raw(folder, "rev-parse", "--show-toplevel")
    if found.returncode or not found.stdout.strip():
        return None
    top = Path(os.fsdecode(found.stdout.removesuffix(b"\n")))
    if os.path.samefile(top, folder) or raw(folder, "ls-files", "--error-unmatch", "--", ".").returncode == 0:
        return top
    ignored = raw(folder, "check-ignore", "-q", ".").returncode == 0
    hidden = raw(top, "config", "status.showUntrackedFiles").stdout.strip() == b"no"
    return None if ignored or hidden or os.path.realpath(top) == os.path.realpath(Path.home()) else top
