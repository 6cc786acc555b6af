"""Snapshots: queued work runs the code as it was submitted, and says which that was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from edited import copy_packages
from fakes import SOURCE

from ablative.study.home.paths import Home
from ablative.sweeps.queue import snapshot

IMPORTS = (
    "from ablative.study.core.packages import PACKAGES\nfrom ablative.study.home.paths import home\n"
    "from ablative.sweeps.queue import snapshot\n"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy of this project in a git repository of its own, with everything committed."""
    root = tmp_path / "checkout"
    copy_packages(root)
    (root / ".gitignore").write_text("__pycache__/\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "all")
    yield root


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout


def ask(folder: Path, home: Path, code: str) -> str:
    """Output of Python code that imports the packages from `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1", "ABLATE_HOME": str(home)}
    command = [
        sys.executable,
        "-c",
        IMPORTS + code,
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def take(checkout: Path, home: Path) -> str:
    return ask(checkout, home, "print(snapshot.take(home(), PACKAGES[:2]).digest)")


def test_a_snapshot_holds_the_packages_and_is_found_by_its_content(tmp_path: Path, checkout: Path) -> None:
    home = tmp_path / "home"
    first = take(checkout, home)
    folder = Home(home).snapshot(first)
    assert [path.name for path in folder.iterdir()] == ["ablative"]
    names = sorted(path.name for path in (folder / "ablative").iterdir())
    assert names == ["__init__.py", "reports", "study", "sweeps", "trainer"]
    assert not (folder / "ablative/study/namespace").exists()
    assert (folder / "ablative" / "study" / "conf" / "config.yaml").read_bytes() == (
        SOURCE / "study/conf/config.yaml"
    ).read_bytes()
    assert take(checkout, home) == first, "the same code, the same snapshot"
    (checkout / "ablative/trainer" / "extra.py").write_text("")
    second = take(checkout, home)
    assert second != first
    assert {path.name for path in Home(home).snapshots.iterdir()} == {first, second}


def test_code_that_runs_from_a_snapshot_is_that_snapshot(tmp_path: Path, checkout: Path) -> None:
    home = tmp_path / "home"
    digest = take(checkout, home)
    folder = Home(home).snapshot(digest)
    assert ask(folder, home, "print(snapshot.__file__)") == str(folder / "ablative/sweeps/queue/snapshot.py")
    # Byte code that Python adds does not count.
    assert ask(folder, home, "print(snapshot.current(PACKAGES[:2]))") == digest


def test_commit_dirty_flag_and_patch(tmp_path: Path, checkout: Path) -> None:
    code = "found = snapshot.commit(PACKAGES[:2]); print(found.commit, found.dirty, len(found.patch))"
    head = git(checkout, "rev-parse", "HEAD").strip()
    assert ask(checkout, tmp_path, code) == f"{head} False 0"
    (checkout / "notes.txt").write_text("not code of ours")
    assert ask(checkout, tmp_path, code) == f"{head} False 0"
    (checkout / "ablative/trainer" / "extra.py").write_text("")
    assert ask(checkout, tmp_path, code) == f"{head} True 0", "a new file is dirty, and in the snapshot"
    (checkout / "ablative/study/core" / "errors.py").write_text(
        "# edited\n" + (checkout / "ablative/study/core" / "errors.py").read_text()
    )
    assert "+# edited" in ask(checkout, tmp_path, "print(snapshot.commit(PACKAGES[:2]).patch)")


def test_the_commit_is_that_of_the_trainers_own_code(tmp_path: Path, checkout: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "own_trainer.py").write_text("")
    git(own, "init", "-q")
    git(own, "add", ".")
    git(own, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "all")
    code = f"import sys; sys.path.append({str(own)!r}); found = snapshot.commit(['own_trainer'])\n"
    code += "print(found.commit, found.dirty, found.patch)"
    (checkout / "ablative/trainer" / "extra.py").write_text("")
    head = git(own, "rev-parse", "HEAD").strip()
    assert ask(checkout, tmp_path, code) == f"{head} False"
    (own / "own_trainer.py").write_text("EDITED = True\n")
    assert "+EDITED = True" in ask(checkout, tmp_path, code)


def test_packages_in_a_virtual_environment_of_another_project_have_no_commit(tmp_path: Path, checkout: Path) -> None:
    (checkout / ".gitignore").write_text("venv/\n")
    shutil.copytree(checkout / "ablative", checkout / "venv" / "ablative")
    code = "found = snapshot.commit(PACKAGES[:2]); print(repr(found.commit), found.dirty)"
    assert ask(checkout / "venv", tmp_path, code) == "'' False"


def test_two_submissions_at_once_share_one_snapshot(tmp_path: Path, checkout: Path) -> None:
    home = tmp_path / "home"
    code = "print(snapshot.take(home(), PACKAGES[:2]).digest)"
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1", "ABLATE_HOME": str(home)}
    command = [
        sys.executable,
        "-c",
        IMPORTS + code,
    ]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) for _ in range(4)]
    digests = {process.communicate()[0].strip() for process in running}
    assert len(digests) == 1 and [path.name for path in Home(home).snapshots.iterdir()] == [*digests]


def test_the_jobs_environment_puts_the_snapshot_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    found = snapshot.environment(Home(tmp_path), "abc", snapshot.Commit("c0ffee", True, ""))
    assert found["PYTHONPATH"] == f"{tmp_path}/snapshots/abc{os.pathsep}/mine"
    assert (found["PYTHONSAFEPATH"], found["ABLATE_COMMIT"], found["ABLATE_DIRTY"]) == ("1", "c0ffee", "1")
