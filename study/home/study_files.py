"""Which study file a home's study is: two files of one name would mix their results in one folder and experiment."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ablative.study.core.checkouts import git
from ablative.study.core.errors import ConfigError
from ablative.study.core.files import read_json, write_json
from ablative.study.home.paths import Home

YAML = (".yaml", ".yml")
SHAPE = {"file": str, "shipped": bool, "content": str}


def remember(home: Home, study: str, where: str, shipped: Path | None) -> None:
    """Keep which file the study is.

    Args:
        home: the home.
        study: the study's name.
        where: its file.
        shipped: folder of the trainer's own studies, which are the same everywhere.
    """
    path = home.study(study).origin
    try:
        now = _origin(where, shipped)
    except FileNotFoundError:
        return  # removed or renamed since the plan was made: what was kept before still says where it was
    if read_json(path, SHAPE) != now:
        write_json(path, now)


def check_file(home: Home, study: str, where: str, shipped: Path | None) -> None:
    """Raise ConfigError where another file of that name was run or reported in this home and is still there.

    The arguments are those of `remember`.
    """
    stored, now = read_json(home.study(study).origin, SHAPE), _origin(where, shipped)
    if stored is None or any(stored[key] == now[key] for key in ("file", "content")):
        return  # renamed, perhaps, or a copy
    if stored["shipped"] and now["shipped"]:
        return
    file = Path(where).absolute()
    for other in _candidates(Path(stored["file"])):
        if other.resolve() != file.resolve() and _is_named(other, study) and not _same(other, file):
            raise ConfigError(
                f"{where}: the study '{study}' of the home {home.root} is that of {other}; give one of the two files "
                "another `name:`, or use another home (--home)"
            )


def _origin(where: str, shipped: Path | None) -> dict[str, str | bool]:
    file = Path(where).absolute()
    return {
        "file": str(file),
        "shipped": shipped is not None and file.is_relative_to(shipped),
        "content": hashlib.sha256(file.read_bytes()).hexdigest(),
    }


def _candidates(file: Path) -> list[Path]:
    """The file, or where it is gone those of its folder: it may have been renamed."""
    if file.is_file():
        return [file]
    return sorted(each for each in file.parent.glob("*") if each.suffix in YAML and each.is_file())


def _is_named(file: Path, study: str) -> bool:
    text = file.read_text(encoding="utf-8", errors="replace")
    return bool(re.search(rf"^[\"']?name[\"']?\s*:\s*([\"']?){re.escape(study)}\1\s*(#.*)?$", text, re.MULTILINE))


def _same(one: Path, other: Path) -> bool:
    """One file of a repository in two checkouts of it."""
    places = [_place(file) for file in (one, other)]
    return None not in places and places[0] == places[1]


def _place(file: Path) -> tuple[str, str] | None:
    """First commits of the repository that a file is in, and its path there; None outside of one."""
    root = git(file.parent, "rev-parse", "--show-toplevel")
    first = git(file.parent, "rev-list", "--max-parents=0", "HEAD")
    if root.returncode or first.returncode:
        return None
    return first.stdout, str(file.resolve().relative_to(Path(root.stdout.strip()).resolve()))
