"""A user's repository: jobs run in a copy that holds what git tracks or may track, and see the rest through links."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ablative.study.core.errors import ConfigError
from ablative.study.home.paths import Home
from ablative.study.trainers import Code
from ablative.sweeps.queue import repository, repository_copy


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
