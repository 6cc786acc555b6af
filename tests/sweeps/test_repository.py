"""A user's repository: jobs run in a copy that holds what git tracks or may track, and see the rest through links."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from ablative.study.core.errors import ConfigError
from ablative.study.home.paths import Home
from ablative.study.trainers import Code
from ablative.sweeps.queue import repository, repository_copy
from ablative.sweeps.queue.snapshot import Commit
from ablative.trainer.runner import frozen_code


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with ignored data, a program, and names that only a careful reader takes."""
    top = tmp_path / "my project"
    (top / "data").mkdir(parents=True)
    (top / ".gitignore").write_text("*.bin\nruns/\n")
    (top / "data/prepare.py").write_text("")
    (top / "data/train.bin").write_bytes(b"0" * 100)
    (top / "train.py").write_text("rate = 1\n")
    (top / "go.sh").write_text("true\n")
    (top / "go.sh").chmod(0o755)
    (top / "odd\nname é.txt").write_text("")
    (top / "latest").symlink_to("train.py")
    (top / "outside").symlink_to("../elsewhere")
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-q", "-m", "first")
    return top


def test_a_copy_holds_tracked_and_new_files_and_links_what_git_ignores(tmp_path: Path, root: Path) -> None:
    home = Home(root / "ablate_home")
    home.root.mkdir()
    (home.root / "version").write_text("1\n")
    (root / "new.py").write_text("")
    (root / "train.py").write_text("rate = 2\n")
    found = repository.look(Code(root / "data"), home)
    place = repository_copy.take(home, found)
    copy = place.parent
    assert (place.name, copy.name) == ("data", "my project"), "commands start where the study says"
    names = {".gitignore", "data", "go.sh", "latest", "new.py", "odd\nname é.txt", "outside", "train.py"}
    assert {path.name for path in copy.iterdir()} == names
    assert (copy / "train.py").read_text() == "rate = 2\n"
    assert os.access(copy / "go.sh", os.X_OK) and not (copy / "train.py").stat().st_mode & 0o222
    assert (copy / "latest").readlink() == Path("train.py")
    assert (place / "train.bin").readlink() == root / "data/train.bin"
    assert (copy / "outside").readlink() == tmp_path / "elsewhere"
    assert found.not_frozen == ("data/train.bin", "outside")


def test_equal_code_has_one_copy_however_git_knows_it(root: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    first = repository.look(Code(root), home)
    repository_copy.take(home, first)
    (root / "train.py").write_text("rate = 1\n")  # the same, with another time
    (root / "data/more.bin").write_bytes(b"1")
    second = repository.look(Code(root), home)
    assert second.key == first.key and not second.commit().dirty
    assert (repository_copy.take(home, second) / "data/more.bin").exists(), "links follow what has come"
    git(root, "update-index", "--assume-unchanged", "train.py")
    (root / "train.py").write_text("rate = 3\n")
    assert repository.look(Code(root), home).digest != first.digest
    (root / "train.py").write_text("rate = 1\n")
    (home.repository(first.key) / root.name / "go.sh").unlink()
    repository_copy.take(home, repository.look(Code(root), home))
    assert (home.repository(first.key) / root.name / "go.sh").exists(), "a copy that was damaged is made again"
    assert [path.name for path in home.repositories.glob("*.damaged")] == [f"{first.key}.damaged"]


def test_what_is_too_large_is_named_and_can_be_linked(root: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    (root / "images").mkdir()
    (root / "images/all.npy").write_bytes(b"0" * 3_000_000)
    with pytest.raises(
        ConfigError, match=r"2\.9 MiB .*, 1 MiB at most; the largest: images/all.npy \(2\.9 MiB\).*ignore"
    ):
        repository.look(Code(root, largest_mib=1), home)
    assert "images" in repository.look(Code(root, largest_mib=1, data=("images/",)), home).linked
    assert repository.look(Code(root, largest_mib=1, data=("*.npy",)), home).linked[1] == "images/all.npy"


PROJECT = """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "mylib"
version = "1"
[tool.setuptools]
packages = ["mylib", "mylib.inner"]
package-dir = {mylib = "code/lib"}
"""
FIRST_FINDER = """
import importlib.util, sys
class First:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, {path!r}) if name == "built" else None
sys.meta_path.insert(0, First)
"""
ASK = """
import importlib, json, sys
names = ["mylib", "mylib.inner.deep", "extra", "built", "beside"]
print(json.dumps({name: [importlib.import_module(name).V, importlib.import_module(name).__file__] for name in names}))
import own_site
"""


def environment(folder: Path) -> Path:
    """A Python environment that also has the packages of this one; returns its folder of packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "parents.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return site


def test_installed_packages_of_the_repository_are_imported_from_the_copy(tmp_path: Path, root: Path) -> None:
    site = environment(tmp_path / "env")
    python = tmp_path / "env/bin/python"
    for name in ("code/lib/__init__.py", "code/lib/inner/deep.py", "src/extra.py", "built.py", "beside.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("V = 'submitted'\n")
    (root / "code/lib/inner/__init__.py").write_text("")
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "main.py").write_text(ASK)
    install = ["install", "-q", "--no-build-isolation", "--no-deps", "--no-index", "-e", str(root)]
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", *install], check=True)
    # As other builders install: a path through a link, and a finder before all others.
    (tmp_path / "other name").symlink_to(root)
    (site / "extra.pth").write_text(f"{tmp_path}/other name/src\n")
    (site / "first.py").write_text(FIRST_FINDER.format(path=str(root / "built.py")))
    (site / "first.pth").write_text("import first\n")
    (site / "sitecustomize.py").write_text(
        "import sys, types\nsys.modules['own_site'] = types.ModuleType('own_site')\n"
    )

    home = Home(tmp_path / "home")
    found = repository.look(Code(root), home)
    place = repository_copy.take(home, found)
    for path in root.rglob("*.py"):
        path.write_text(path.read_text().replace("submitted", "edited"))
    where = {**os.environ, **repository_copy.variables(home, found), "PYTHONSAFEPATH": "1", "PYTHONPATH": "given"}
    done = subprocess.run(
        [python, "main.py"], cwd=place, env=frozen_code.variables(where), check=True, capture_output=True, text=True
    )
    modules = json.loads(done.stdout)
    assert {value for value, _ in modules.values()} == {"submitted"}, modules
    assert all(Path(file).is_relative_to(place) for _, file in modules.values()), modules


def copied(folder: Path, home: Home) -> tuple[repository.Repository, set[str]]:
    """A folder's repository, and the paths in its copy (links without what they lead to)."""
    found = repository.look(Code(folder), home)
    place = repository_copy.take(home, found)
    files = [path for path in place.rglob("*") if path.is_symlink() or path.is_file()]
    return found, {str(path.relative_to(place)) for path in files}


def test_submodules_worktrees_and_repositories_of_other_users(root: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/core.py").write_text("")
    git(tmp_path / "lib", "init", "-q")
    git(tmp_path / "lib", "add", ".")
    git(tmp_path / "lib", "commit", "-q", "-m", "lib")
    git(root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tmp_path / "lib"), "sub/lib")
    git(root, "commit", "-q", "-m", "with a submodule")
    (root / "sub/lib/new.py").write_text("")
    found, names = copied(root, home)
    assert {"sub/lib/core.py", "sub/lib/new.py"} <= names and found.commit().dirty

    git(root, "worktree", "add", "-q", str(tmp_path / "tree"), "HEAD~1")
    found, names = copied(tmp_path / "tree", home)
    assert "train.py" in names and found.commit().commit == git(root, "rev-parse", "HEAD~1").strip()
    assert not found.commit().dirty
    if os.getuid() == 0:
        os.chown(tmp_path / "tree", 12345, 12345)
        assert repository.look(Code(tmp_path / "tree"), home).commit() == found.commit()


def test_folders_without_git_and_repositories_without_a_commit(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, plain = Home(tmp_path / "home"), tmp_path / "plain"
    for name in ("env/pyvenv.cfg", "env/lib/big.py", "__pycache__/a.pyc", "pkg/a.py"):
        (plain / name).parent.mkdir(parents=True, exist_ok=True)
        (plain / name).write_text("")
    root.rename(plain / "inner")
    found, names = copied(plain, home)
    assert {"env", "pkg/a.py", "inner/train.py", "inner/data/train.bin"} <= names
    assert not any("__pycache__" in name or ".git/" in name or name.startswith("env/") for name in names)
    assert found.commit() == Commit("", False, "") and not found.versioned

    git(plain, "init", "-q")
    found, names = copied(plain / "pkg", home)
    assert names == {"a.py"} and found.root == plain and found.commit() == Commit("", True, "")
    # A home directory whose settings are in a repository: a project below it has nothing to do with that.
    monkeypatch.setenv("HOME", str(plain))
    assert repository.look(Code(plain / "pkg"), home).root == plain / "pkg"


def test_what_git_filters_is_copied_as_it_is_on_disk(root: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    (root / ".gitattributes").write_text("*.pt filter=short\n*.txt text eol=crlf\n")
    git(root, "config", "filter.short.clean", "head -c 3")
    git(root, "config", "filter.short.smudge", "cat")
    (root / "weights.pt").write_text("abcdefgh")
    (root / "lines.txt").write_bytes(b"a\r\nb\r\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "filtered")
    first, names = copied(root, home)
    assert not first.commit().dirty and {"weights.pt", "lines.txt"} <= names
    assert (first.place(home) / "weights.pt").read_text() == "abcdefgh"
    (root / "weights.pt").unlink()
    git(root, "checkout", "-q", "weights.pt")  # the pointer alone, as without git-lfs
    second, _ = copied(root, home)
    assert second.digest != first.digest and (second.place(home) / "weights.pt").read_text() == "abc"
