"""The copy of a user's repository that jobs run in, so that editing while they are queued changes nothing.

Equal code of one place shares one copy, which later submissions find by its hash. Its files are read-only: what a
program writes belongs into its output folder, and a copy that a job changed would be other code than it says. Its
folders are not, since many programs leave caches and logs where they are started.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from pathlib import Path

from ablative.study.core.damage import Shape, set_aside
from ablative.study.core.errors import AblateError
from ablative.study.core.files import naming, placing, read_json, write_json
from ablative.study.home.paths import Home
from ablative.sweeps.queue.repository import Repository
from ablative.sweeps.queue.repository_files import MIB, File, destination, leads_out

AT_ONCE = 8
"""Files that are copied at a time."""
READ_ONLY = 0o555
FACTS = "copy.json"
"""File of a copy's folder: each file's size and time."""
IMPORTS = "imports"
"""Folder in a copy's folder that `PYTHONPATH` has to begin with; it holds `import_redirect.py`."""
SHAPE: Shape = {str: [int]}


def take(home: Home, repository: Repository) -> Path:
    """Copy a repository into the home, unless the same copy is there already. Returns where commands start.

    Raises:
        AblateError: a file changed meanwhile.
        OSError: the home is full or read-only.
    """
    target = home.repository(repository.key)
    if os.path.lexists(target) and not _whole(target, repository):
        set_aside(target, "files of it are not as they were copied")
    if not target.exists():
        _copy(repository, target)
    _link(repository, target / repository.root.name)
    return repository.place(home)


def variables(home: Home, repository: Repository) -> dict[str, str]:
    """Variables by which a job finds its copy (`trainer.runner.frozen_code` and `import_redirect.py` read them)."""
    return {
        "ABLATE_CODE": str(repository.place(home)),
        "ABLATE_CODE_COPY": str(home.repository(repository.key) / repository.root.name),
        "ABLATE_CODE_LIVE": str(repository.root),
        "ABLATE_CODE_IMPORTS": str(home.repository(repository.key) / IMPORTS),
        "ABLATE_SOURCES": repository.sources,
    }


def _whole(target: Path, repository: Repository) -> bool:
    """Whether the files are as they were copied, by size and time."""
    times: dict[str, list[int]] | None = read_json(target / FACTS, SHAPE)
    if times is None or not (target / IMPORTS / "sitecustomize.py").exists():
        return False
    try:
        for name, (size, modified) in times.items():
            state = os.lstat(target / repository.root.name / name)
            if (state.st_size, state.st_mtime_ns) != (size, modified):
                return False
    except OSError:
        return False
    return len(times) == sum(not each.target for each in repository.files)


def _copy(repository: Repository, target: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor  # a plan names the copy, and makes none

    with placing(target) as draft:
        top = draft / repository.root.name
        (draft / IMPORTS).mkdir()
        top.mkdir()
        shutil.copyfile(Path(__file__).with_name("import_redirect.py"), draft / IMPORTS / "sitecustomize.py")
        for folder in sorted({os.path.dirname(each.path) for each in repository.files}):
            os.makedirs(top / folder, exist_ok=True)
        copy = functools.partial(_copy_file, repository.root, top, target / repository.root.name)
        # A file server answers many at once as fast as one.
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(copy, repository.files):
                pass
        times = {each.path: [each.size, each.modified] for each in repository.files if not each.target}
        write_json(draft / FACTS, times)


def _copy_file(root: Path, top: Path, final: Path, file: File) -> None:
    """Copy one file or symbolic link; `final` is what `top` will be called."""
    source, target = os.path.join(root, file.path), os.path.join(top, file.path)
    if file.target:
        place = file.target
        if leads_out(root, file):
            place = str(destination(root, file))
        elif os.path.isabs(place):
            place = str(final / destination(root, file).relative_to(root))
        os.symlink(place, target)
        return
    try:
        with open(source, "rb") as given, naming(Path(target)), open(target, "wb") as copy:
            shutil.copyfileobj(given, copy, MIB)
            state = os.fstat(given.fileno())
    except FileNotFoundError:
        state = None
    if state is None or (state.st_size, state.st_mtime_ns) != (file.size, file.modified):
        raise AblateError(f"{source} changed while it was copied for the jobs; nothing was submitted, so try again")
    os.utime(target, ns=(file.modified, file.modified))
    os.chmod(target, file.mode & READ_ONLY)


def _link(repository: Repository, top: Path) -> None:
    """Link what is not copied, and what of it has come since the copy was made."""
    for name in repository.linked:
        source, target = repository.root / name, top / name
        if target.is_symlink():
            continue
        if target.exists():
            print(f"ablate: jobs use {target}, which a job made, and not {source}; move one of them", file=sys.stderr)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.symlink_to(source)
        except FileExistsError:
            continue
