"""The code as it was submitted: jobs import a copy, so that editing while they are queued changes nothing.

Copies are kept under their content's hash (about a megabyte each), so that submissions of the same code share one
and a failure can say which code it happened in.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ablative.study.core import packages
from ablative.study.core.files import write_atomic
from ablative.study.home.paths import Home

DIGITS = 16


@dataclass(frozen=True)
class Commit:
    """Where the packages stand in version control."""

    commit: str
    """Empty: the packages are not in a git checkout (installed from a wheel)."""
    dirty: bool
    """Modified, or with files that git does not know."""
    patch: str
    """Difference to the commit, of the packages only."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of the packages."""

    digest: str
    path: Path
    """What `PYTHONPATH` has to begin with."""


def take(home: Home) -> Snapshot:
    """Copy the packages that this process imports into the home, unless the same copy is there already.

    Raises OSError when the home is full or read-only.
    """
    contents = _contents()
    digest = _digest(contents)
    target = home.snapshot(digest)
    if not target.exists():
        _copy(contents, target)
    return Snapshot(digest, target)


def current() -> str:
    """Hash of the packages that this process imports, without copying them."""
    return _digest(_contents())


def commit() -> Commit:
    """Commit, dirty flag and patch of the packages that this process imports."""
    folders = [packages.folder(name) for name in packages.PACKAGES]
    # A package inside another project's checkout (its virtual environment) is not part of that project.
    if not _git(folders[0], "ls-files", "."):
        return Commit("", False, "")
    names = [str(folder) for folder in folders]
    return Commit(
        commit=_git(folders[0], "rev-parse", "HEAD").strip(),
        dirty=bool(_git(folders[0], "status", "--porcelain", "--", *names)),
        patch=_git(folders[0], "diff", "HEAD", "--binary", "--", *names),
    )


def write_patch(path: Path, found: Commit) -> None:
    """Keep what a dirty submission differs in from its commit."""
    if found.patch:
        write_atomic(path, found.patch)


def environment(home: Home, digest: str, found: Commit) -> dict[str, str]:
    """Variables under which a job imports the snapshot and knows which code it is."""
    path = [str(home.snapshot(digest)), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        "PYTHONPATH": os.pathsep.join(path),
        # `python -m` puts the current folder first: in a checkout, that would be the code being edited.
        "PYTHONSAFEPATH": "1",
        "ABLATE_HOME": str(home.root),
        "ABLATE_SNAPSHOT": digest,
        "ABLATE_COMMIT": found.commit,
        "ABLATE_DIRTY": "1" if found.dirty else "0",
    }


def require(home: Home) -> None:
    """Have every module of a job come from the snapshot that it was submitted with; elsewhere, do nothing.

    Raises:
        ImportError: a module came from elsewhere.
    """
    digest = os.environ.get("ABLATE_SNAPSHOT")
    packages.require_snapshot(home.snapshot(digest) if digest else None)


def _contents() -> dict[str, bytes]:
    """Every file of the packages, by its path relative to the folder that `PYTHONPATH` has to name; sorted."""
    top = packages.folder(packages.ROOT)
    contents = {str(Path(packages.ROOT, path.name)): path.read_bytes() for path in _files(top)}
    for name in packages.PACKAGES:
        folder = packages.folder(name)
        for parent, folders, _ in os.walk(folder):
            folders[:] = [item for item in folders if item != "__pycache__" and Path(parent, item) != top]
            inside = Path(*name.split("."), Path(parent).relative_to(folder))
            contents.update({str(inside / path.name): path.read_bytes() for path in _files(Path(parent))})
    return dict(sorted(contents.items()))


def _files(folder: Path) -> list[Path]:
    """Files of one folder; an editor's backup or lock file may be gone by the time that it is read."""
    return [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]


def _digest(contents: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, content in contents.items():
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()[:DIGITS]


def _copy(contents: dict[str, bytes], target: Path) -> None:
    """Write the files into a hidden folder and rename it: a snapshot that can be seen is complete."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        for name, content in contents.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            draft.rename(target)
        except OSError:
            # Another submission was quicker.
            if not target.exists():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _git(folder: Path, *arguments: str) -> str:
    """Output of a git command; empty where there is no git or no checkout."""
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError:
        return ""
    return result.stdout if result.returncode == 0 else ""
