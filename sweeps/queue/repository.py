"""A user's code as it lies on disk: the files that jobs get a copy of, what is linked into it, and its commit.

A git repository counts as a whole, with its submodules: files that git tracks and files that it neither tracks nor
ignores, as they are on disk. What git ignores (data, environments, outputs) is linked, and named as not frozen.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ablative.study.core import checkouts
from ablative.study.core.errors import ConfigError
from ablative.study.core.plurals import counted
from ablative.study.home.paths import Home
from ablative.study.trainers import Code
from ablative.sweeps.queue.repository_files import MIB, File, fits, found_in, leads_out
from ablative.sweeps.queue.snapshot import DIGITS, Commit

MOST_LINKS = 20_000
"""So many files that git ignores one by one are linked at most."""
MOST_PATCHED = 100
"""So many files that git does not know are part of a patch at most."""
LARGEST_PATCHED = 1 << 20
"""Bytes of such a file, at most."""
_STUDY = re.compile(rb"^name\s*:", re.MULTILINE), re.compile(rb"^(factors|stages|results|search)\s*:", re.MULTILINE)


@dataclass(frozen=True)
class Repository:
    """What a copy of it holds."""

    root: Path
    """Top folder: of the git repository, else the one that was named."""
    folder: str
    """Where commands start, relative to it."""
    versioned: bool
    """It is a git repository."""
    files: tuple[File, ...]
    linked: tuple[str, ...]
    """Files and folders that a copy has links to; relative to the root."""
    outside: tuple[str, ...]
    """Symbolic links of it that lead out of it."""
    home: str = ""
    """The home, relative to the root, where it lies inside: no part of the code, even if it was committed."""
    source: tuple[str, ...] = field(default=(), repr=False)
    """Patterns of the files that count as code (`study.trainers.Code.source`)."""

    @cached_property
    def digest(self) -> str:
        """Hash of names and contents: equal for equal code, wherever it lies."""
        return _hashed(self.files)

    @cached_property
    def sources(self) -> str:
        """Hash of the files that count as code."""
        return _hashed(each for each in self.files if self._is_source(each.path))

    @property
    def key(self) -> str:
        """Name of its copy: links lead to one place, so equal code of two places has two copies."""
        return f"{self.digest}-{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:6]}"

    def place(self, home: Home) -> Path:
        """Where commands start in its copy."""
        return home.repository(self.key) / self.root.name / self.folder

    @property
    def not_frozen(self) -> tuple[str, ...]:
        """What jobs see as it is when they run, and not as it was submitted."""
        return tuple(sorted({*self.linked, *self.outside}))

    def commit(self) -> Commit:
        """Commit, whether files that count as code differ from it, and how all files do, those that git lacks too."""
        if not self.versioned:
            return Commit("", False, "")
        head = checkouts.git(self.root, "rev-parse", "--verify", "-q", "HEAD").stdout.strip()
        if not head:
            return Commit("", True, "")
        unknown = [each for each in self.files if not each.tracked]
        where = ("--", ".", *([f":(exclude,top,literal){self.home}"] if self.home else []))
        options = ("diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color")
        changes = checkouts.raw(self.root, *options, "--submodule=diff", "HEAD", *where).stdout
        small = [each.path for each in unknown if each.size <= LARGEST_PATCHED][:MOST_PATCHED]
        added = [checkouts.raw(self.root, *options, "--no-index", "--", os.devnull, path).stdout for path in small]
        patch = b"".join([changes, *added]).decode(errors="surrogateescape")
        changed = checkouts.names(self.root, "diff", "-z", "--name-only", "HEAD", *where) if changes else []
        dirty = any(map(self._is_source, [*changed, *(each.path for each in unknown)]))
        return Commit(head, dirty, patch)

    @cached_property
    def _patterns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Patterns of files that count as code, and patterns of those among them that do not."""
        wanted = tuple(pattern for pattern in self.source if not pattern.startswith("!"))
        return wanted, tuple(pattern[1:] for pattern in self.source if pattern.startswith("!"))

    def _is_source(self, path: str) -> bool:
        """Whether a file counts as code; a submodule's folder does."""
        wanted, unwanted = self._patterns
        place = self.root / path
        if fits(path, unwanted) or not (fits(path, wanted) or place.is_dir()):
            return False
        return not (path.endswith((".yaml", ".yml")) and _defines_a_study(place))


def look(code: Code, home: Home) -> Repository:
    """The repository that the code lies in, as it is on disk.

    Raises:
        ConfigError: there is no such folder, or it holds more than a copy may.
    """
    if not code.folder.is_dir():
        raise ConfigError(f"code: no folder {code.folder}")
    folder = Path(os.path.realpath(code.folder))
    top = checkouts.root(folder)
    root = Path(os.path.realpath(top)) if top else folder
    kept_out = Path(os.path.realpath(home.root))
    if kept_out == root:
        raise ConfigError(f"the home {home.root} is the code's own folder; use another, such as {root}/ablate_home")
    found = found_in(root, kept_out, tuple(code.data))
    if len(found.linked) > MOST_LINKS:
        raise ConfigError(
            f"code: {root}: git ignores {len(found.linked):,} files one by one, such as {min(found.linked)}; have it "
            f"ignore their folder, or name that in `link` of the study's `code`"
        )
    _check_size(root, found.files, code.largest_mib)
    files, links = tuple(sorted(found.files, key=lambda each: each.path)), tuple(sorted(found.linked))
    outside = tuple(each.path for each in files if leads_out(root, each))
    inside = os.path.relpath(kept_out, root) if root in kept_out.parents else ""
    start = os.path.relpath(folder, root)
    return Repository(root, start, top is not None, files, links, outside, inside, code.source)


def _check_size(root: Path, files: Sequence[File], largest_mib: float) -> None:
    total = sum(each.size for each in files)
    if total <= largest_mib * MIB:
        return
    most = sorted(files, key=lambda each: -each.size)[:3]
    folders: Counter[str] = Counter()
    for each in files:
        folders[each.path.partition("/")[0] + "/" if "/" in each.path else "."] += each.size
    folder, size = folders.most_common(1)[0]
    largest = ", ".join(f"{each.path} ({each.size / MIB:,.1f} MiB)" for each in most)
    raise ConfigError(
        f"code: {root}: {counted(len(files), 'file')} of {total / MIB:,.1f} MiB would be copied for the jobs, "
        f"{largest_mib:g} MiB at most; the largest: {largest}; most is in {folder} ({size / MIB:,.1f} MiB). Have git "
        f"ignore what is no code (.gitignore: it is linked, not copied), name it in `link` of the study's `code`, or "
        f"set `largest` there"
    )


def _defines_a_study(path: Path) -> bool:
    """Whether a YAML file is a study: what it says of runs is in their ids, and its tables change no result."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return all(pattern.search(content) for pattern in _STUDY)


def _hashed(files: Iterable[File]) -> str:
    total = hashlib.sha256()
    for each in files:
        total.update(each.line)
    return total.hexdigest()[:DIGITS]
