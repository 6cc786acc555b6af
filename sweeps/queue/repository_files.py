"""Which files of a user's code a copy holds, which it links, and what identifies the content of each."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablative.study.core import checkouts

CACHES = ("__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache")
"""Folders that a job makes again for itself."""
ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")
"""What a Python environment's folder has; outside of git, environments are linked as if git ignored them."""
MIB = 1 << 20
SUBMODULE = "160000"


@dataclass(frozen=True)
class File:
    """A file, or a symbolic link."""

    path: str
    """Relative to the root."""
    size: int
    target: str
    """Where a symbolic link leads, as it is written; empty: it is none."""
    tracked: bool
    """git knows it."""
    mode: int
    modified: int
    """When, in nanoseconds."""
    content: str
    """Hash of the content: git's where git says that the file is unmodified, which reads nothing; else made alike."""

    @property
    def line(self) -> bytes:
        """What a hash over files takes of it. With filters of git (line endings, LFS) equal hashes differ in size."""
        kind = "link" if self.target else "program" if self.mode & stat.S_IXUSR else "file"
        return os.fsencode(f"{self.path}\0{kind}\0{self.size}\0{self.content or self.target}\0")


@dataclass
class Found:
    """What lies in a root."""

    files: list[File] = field(default_factory=list)
    linked: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Listing:
    """Paths of one git repository, relative to its top."""

    known: Mapping[str, str]
    """Tracked file → git's hash of its content; empty where the file may differ from that."""
    unknown: Sequence[str]
    ignored: Sequence[str]
    nested: Sequence[str]
    """Folders of submodules and of other repositories inside."""


def found_in(root: Path, home: Path, data: tuple[str, ...]) -> Found:
    """Files and links of a root, without those of the home; all real paths.

    Args:
        root: top of a git repository, or any folder.
        home: the home's folder.
        data: patterns of what is linked in any case.
    """
    found = Found()
    versioned = os.path.lexists(root / ".git") and checkouts.root(root) is not None
    _add(found, root, "", home, _listing(root, home) if versioned else None, data)
    # A link to a folder holds all that is below it.
    found.linked = {each for each in found.linked if not any(above in found.linked for above in _above(each))}
    return found


def _add(found: Found, root: Path, prefix: str, home: Path, listing: _Listing | None, data: tuple[str, ...]) -> None:
    """What lies below `prefix`, which is empty or ends with a slash."""
    if listing is None:
        listing = _walked(root / prefix, home)
    for path, content in [*listing.known.items(), *((path, "") for path in listing.unknown)]:
        whole = prefix + path
        if part := fitting(whole, data):
            found.linked.add(part)
        elif file := _file(root, whole, path in listing.known, content):
            found.files.append(file)
    for path in listing.ignored:
        if _is_wanted(root / prefix / path, home):
            found.linked.add(prefix + path.rstrip("/"))
    for path in listing.nested:
        whole = prefix + path.rstrip("/") + "/"
        if part := fitting(whole.rstrip("/"), data):
            found.linked.add(part)
        elif os.path.lexists(root / whole / ".git") and not _within(root / whole, home):
            _add(found, root, whole, home, _listing(root / whole, home), data)


def _listing(top: Path, home: Path) -> _Listing:
    """What git says of a repository; it walks over all that is not ignored, but not over the home."""
    known, nested, inside = {}, [], _within(home, top)
    for entry in checkouts.names(top, "ls-files", "-z", "--stage", "-v"):
        facts, _, path = entry.partition("\t")
        tag, mode, content, stage = facts.split(" ")
        if mode == SUBMODULE:
            nested.append(path)
        elif not (inside and _within(os.path.join(top, path), home)):
            # Another tag or stage: git was asked not to look at the file, or it is in a merge.
            known[path] = content if tag == "H" and stage == "0" else ""
    for path in checkouts.names(top, "diff-files", "-z", "--name-only"):
        if path in known:
            known[path] = ""
    away = ["-x", "/" + _escaped(os.path.relpath(home, top)) + "/"] if inside else []
    unknown = checkouts.names(top, "ls-files", "-z", "--others", "--exclude-standard", *away)
    ignored = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory", *away)
    nested += [path for path in unknown if path.endswith("/")]
    return _Listing(known, [path for path in unknown if not path.endswith("/")], checkouts.names(top, *ignored), nested)


def _walked(top: Path, home: Path) -> _Listing:
    """What lies in a folder that is no git repository, as if git ignored environments and caches."""
    unknown: list[str] = []
    ignored: list[str] = []
    nested: list[str] = []
    for parent, folders, names in os.walk(top):
        place = os.path.relpath(parent, top)
        inside = "" if place == "." else place + "/"
        kept = []
        for name in folders:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                unknown.append(inside + name)
            elif os.path.lexists(os.path.join(path, ".git")):
                nested.append(inside + name)
            elif name == "node_modules" or any(os.path.lexists(os.path.join(path, mark)) for mark in ENVIRONMENTS):
                ignored.append(inside + name)
            elif name not in CACHES and not _within(Path(path), home):
                kept.append(name)
        folders[:] = kept
        unknown += [inside + name for name in names if not name.endswith(".pyc")]
    return _Listing({}, unknown, ignored, nested)


def _file(root: Path, path: str, tracked: bool, content: str) -> File | None:
    """None: it is gone, or it is neither a file nor a link."""
    place = os.path.join(root, path)
    try:
        state = os.lstat(place)
        target = os.readlink(place) if stat.S_ISLNK(state.st_mode) else ""
        if not target and not stat.S_ISREG(state.st_mode):
            return None
        content = "" if target else content or _hash(place, state.st_size)
    except FileNotFoundError:
        return None
    return File(path, state.st_size, target, tracked, stat.S_IMODE(state.st_mode), state.st_mtime_ns, content)


def _hash(place: str, size: int) -> str:
    """git's hash of a file's content, as far as no filter changes it."""
    total = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with open(place, "rb") as file:
        while part := file.read(1 << 20):
            total.update(part)
    return total.hexdigest()


def fits(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether the path or the name of a file, or of a folder around it, fits one of the patterns."""
    return bool(patterns) and _compiled(patterns).fullmatch(path) is not None


def fitting(path: str, patterns: tuple[str, ...]) -> str:
    """The file, or the outermost folder around it, that `fits`; empty: none does."""
    if not fits(path, patterns):
        return ""
    return next(whole for whole in [*reversed(_above(path)), path] if fits(whole, patterns))


@functools.cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for all of them: that of each is asked of 20,000 files."""
    found = []
    for pattern in patterns:
        plain = pattern.removeprefix("./")
        anywhere = "/" not in plain.rstrip("/") or plain.startswith("**/")
        expression = fnmatch.translate(plain.removeprefix("**/").strip("/"))[:-2]
        found.append(f"(?s:.*/)?{expression}" if anywhere else expression)
    return re.compile(f"(?:{'|'.join(found)})(?s:/.*)?")


def leads_out(root: Path, file: File) -> bool:
    """Whether a symbolic link leads out of the root."""
    return bool(file.target) and not _within(destination(root, file), root)


def destination(root: Path, file: File) -> Path:
    """Where a symbolic link leads."""
    return Path(os.path.normpath(root / Path(file.path).parent / file.target))


def _above(path: str) -> list[str]:
    """Folders around a path, the nearest first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _is_wanted(path: Path, home: Path) -> bool:
    return path.name not in CACHES and path.suffix != ".pyc" and not _within(path, home)


def _within(path: Path | str, folder: Path) -> bool:
    return str(path) == str(folder) or str(path).startswith(f"{folder}{os.sep}")


def _escaped(path: str) -> str:
    """A path as a pattern of git's that fits it alone."""
    return re.sub(r"([\\*?\[\] !#])", r"\\\1", path)
