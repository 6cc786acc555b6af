"""The code as it was submitted: jobs import a copy, so that editing while they are queued changes nothing.

Copies are kept under their content's hash (about a megabyte each), so that submissions of the same code share one
and a failure can say which code it happened in. The packages of a trainer that comes from elsewhere are copied, too,
and it is their commit that is written down.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablative.study.core import checkouts, packages
from ablative.study.core.damage import set_aside
from ablative.study.core.errors import ConfigError
from ablative.study.core.files import naming, placing, write_atomic
from ablative.study.home.paths import Home

DIGITS = 16


@dataclass(frozen=True)
class Commit:
    """Version of the code that can change a result."""

    commit: str
    """Empty: it is not in a git checkout (installed from a wheel)."""
    dirty: bool
    """Modified, or with files that git does not know."""
    patch: str
    """Difference to the commit, of this code only; bytes that are no UTF-8 as surrogates."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of the packages."""

    digest: str
    path: Path
    """What `PYTHONPATH` has to begin with."""


def take(home: Home, trained_by: Sequence[str]) -> Snapshot:
    """Copy the packages that this process imports into the home, unless the same copy is there already.

    Args:
        home: the home.
        trained_by: packages of the trainer (`study.trainers.Trainer.packages`), which are copied with this program's.

    Raises:
        ConfigError: one of them is not installed.
        OSError: the home is full or read-only.
    """
    contents = _contents(trained_by)
    digest = _digest(contents)
    target = home.snapshot(digest)
    if os.path.lexists(target) and not _whole(contents, target):
        set_aside(target, "files of it are not as they were copied")
    if not target.exists():
        _copy(contents, target)
    return Snapshot(digest, target)


def current(trained_by: Sequence[str]) -> str:
    """Hash of the packages that this process imports, without copying them."""
    return _digest(_contents(trained_by))


def commit(trained_by: Sequence[str]) -> Commit:
    """Commit, dirty flag and patch of the trainer's packages, as this process imports them.

    Where they lie in several checkouts, the commit is the first one's.
    """
    # A package inside another project's checkout (its virtual environment) is not part of that project.
    places = [place for place in map(_location, trained_by) if _git(place, "ls-files", str(place))]
    if not places:
        return Commit("", False, "")
    return Commit(
        commit=_git(places[0], "rev-parse", "HEAD").strip(),
        dirty=any(_git(place, "status", "--porcelain", "--", str(place)) for place in places),
        patch="".join(_patch(place) for place in places),
    )


def write_patch(path: Path, found: Commit) -> None:
    """Keep what a dirty submission differs in from its commit."""
    if found.patch:
        write_atomic(path, found.patch.encode(errors="surrogateescape"))


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


def _contents(trained_by: Sequence[str]) -> dict[str, bytes]:
    """Every file of the packages, by its path relative to the folder that `PYTHONPATH` has to name; sorted."""
    top = packages.folder(packages.ROOT)
    contents = {str(Path(packages.ROOT, path.name)): path.read_bytes() for path in _files(top)}
    others = [name for name in trained_by if not packages.is_ours(name)]
    if others:
        contents[packages.OTHERS] = json.dumps(others).encode()
    for name in (*packages.PACKAGES, *others):
        place, inside = _location(name), Path(*name.split("."))
        if place.is_file():
            contents[str(inside.parent / place.name)] = place.read_bytes()
        contents.update((str(inside / path.relative_to(place)), path.read_bytes()) for path in _all_files(place, top))
    return dict(sorted(contents.items()))


def _location(package: str) -> Path:
    try:
        return packages.location(package)
    except ModuleNotFoundError:
        raise ConfigError(f"no package named '{package}', which the study's trainer lists in `packages`") from None


def _all_files(place: Path, without: Path) -> Iterator[Path]:
    """Files below a folder, except those of byte code, hidden ones and those of one folder; none below a file."""
    for parent, folders, _ in os.walk(place):
        folders[:] = [
            name
            for name in folders
            if name != "__pycache__" and not name.startswith(".") and Path(parent, name) != without
        ]
        yield from _files(Path(parent))


def _files(folder: Path) -> list[Path]:
    """Files of one folder; an editor's backup or lock file may be gone by the time that it is read."""
    return [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]


def _digest(contents: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, content in contents.items():
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()[:DIGITS]


def _whole(contents: dict[str, bytes], target: Path) -> bool:
    try:
        return all((target / name).read_bytes() == content for name, content in contents.items())
    except OSError:
        return False


def _copy(contents: dict[str, bytes], target: Path) -> None:
    with placing(target) as draft:
        for name, content in contents.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with naming(path):
                path.write_bytes(content)


def _git(place: Path, *arguments: str) -> str:
    """Output of a git command about a folder or a file; empty where there is no git or no checkout."""
    result = checkouts.git(place.parent if place.is_file() else place, *arguments)
    return result.stdout if result.returncode == 0 else ""


def _patch(place: Path) -> str:
    """Difference to the commit, with line endings as files have them."""
    result = checkouts.raw(place.parent if place.is_file() else place, "diff", "HEAD", "--binary", "--", str(place))
    return result.stdout.decode(errors="surrogateescape") if result.returncode == 0 else ""
