"""Shards indexed by the jobs of a real SLURM: one that is killed loses one shard, and the same command goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import HERE, wait_for
from shard_world import config, write_shards
from slurm_world import SECONDS, slurm

from ablative.study.cli import main
from ablative.study.home.paths import Home
from ablative.sweeps.queue import manifest
from ablative.sweeps.slurm import squeue
from ablative.sweeps.upkeep.disposable import disposable
from ablative.trainer.clip.data.fingerprints import fingerprint
from ablative.trainer.clip.data.indexing import ENTRIES
from ablative.trainer.clip.data.shards.shard_index import cache_name

SLOW = '''"""Indexing that is met in the middle: a shard whose name is in `held` waits."""
import time
from pathlib import Path
from ablative.trainer.clip.data.indexing import by_content as real

def by_content(shard, home):
    path = Path(shard)
    with (path.parent / "begun").open("a") as file:
        file.write(path.name + "\\n")
    while (path.parent / f"{path.name}.held").exists():
        time.sleep(0.05)
    real(shard, home)
'''
WORDS = ("cluster=slurm", "cluster.partition=cpu", "cluster.memory_gib=0.5")
Index = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, world: Path, tmp_path: Path) -> Iterator[None]:
    """Jobs find the slow indexing, and leave nothing behind for the next test."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "slow_indexing.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'code'}:{HERE}")
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(ENTRIES, ("content", False), "slow_indexing:by_content")
    yield
    slurm("scancel", "--user", str(os.getuid()), "--quiet")
    wait_for(lambda: not slurm("squeue", "--noheader"), SECONDS)


@pytest.fixture
def index(capsys: pytest.CaptureFixture[str]) -> Index:
    def called(folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        squeue.invalidate_cache()
        assert main(["data", "index", str(folder), *words, "--json"], standalone=False) == code
        captured = capsys.readouterr()
        return {**json.loads(captured.out), "said": captured.err}

    return called


def begun(folder: Path) -> list[str]:
    path = folder / "begun"
    return path.read_text().split() if path.exists() else []


def pid_of_first() -> int:
    """Process of the element that has the first shard."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            first = b"SLURM_ARRAY_TASK_ID=0\0" in (process / "environ").read_bytes()
            if first and b"ablative.sweeps.worklist.element" in words and b"srun" not in words[0]:
                found.append(int(process.name))
    assert len(found) == 1, found
    return found[0]


@pytest.mark.long
def test_a_killed_element_loses_one_shard_and_the_same_command_hands_over_the_rest(
    tmp_path: Path, index: Index
) -> None:
    """Without it: tests/trainer/test_indexing.py has processes of this machine share the shards."""
    home, folder = Home(tmp_path / "home"), write_shards(tmp_path / "s", shards=7, each=6)
    (folder / "00004.tar.held").touch()
    made = index(folder, "--jobs", "2", *WORDS)
    assert (made["shards"], made["indexed"], made["queued"], made["submitted"]) == (7, 0, 0, 2)
    # The first element has shards 0, 2, 4 and 6, the other the rest.
    wait_for(lambda: {"00004.tar", "00005.tar"} <= set(begun(folder)), SECONDS)
    (array,) = next(manifest.submissions_of(home.worklist("index-content")))[1].arrays
    assert [[Path(item).name for item in own] for own in array.elements] == [
        ["00000.tar", "00002.tar", "00004.tar", "00006.tar"],
        ["00001.tar", "00003.tar", "00005.tar"],
    ]
    assert not disposable(home, "snapshots").paths
    wait_for(lambda: slurm("squeue", "--noheader", "--array").count("\n") == 1, SECONDS)
    # What jobs have is not dealt out again.
    busy = index(folder, "--jobs", "2", *WORDS)
    assert (busy["indexed"], busy["queued"], busy["submitted"]) == (5, 2, 0)
    os.kill(pid_of_first(), signal.SIGKILL)
    wait_for(lambda: not slurm("squeue", "--noheader"), SECONDS)
    (folder / "00004.tar.held").unlink()
    again = index(folder, "--jobs", "2", *WORDS)
    assert (again["indexed"], again["queued"], again["submitted"]) == (5, 0, 2)
    wait_for(lambda: not slurm("squeue", "--noheader"), SECONDS)
    assert begun(folder).count("00004.tar") == 2 and len(begun(folder)) == 8
    done = index(folder)
    assert (done["indexed"], done["unusable"], done["samples"]) == (7, [], 42)
    same_as_one_process(tmp_path, folder, home, done["fingerprint"])
    made = index(folder, "--images", "--jobs", "2", *WORDS)
    assert (made["indexed"], made["submitted"]) == (0, 2)
    wait_for(lambda: not slurm("squeue", "--noheader"), SECONDS)
    assert index(folder, "--images", "--jobs", "2", *WORDS)["indexed"] == 7
    assert len(list((home.cache / "images").glob("*.npy"))) == 7


def same_as_one_process(tmp_path: Path, folder: Path, home: Home, found: str) -> None:
    """The plan reads the jobs' indexes, which are to the byte those of one process."""
    alone = Home(tmp_path / "alone")
    assert fingerprint(config(folder), home) == found == fingerprint(config(folder), alone)
    for path in folder.glob("*.tar"):
        name = f"{cache_name(path)}.npz"
        ours, theirs = (one.cache / "shards" / name for one in (home, alone))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.long
def test_a_warned_element_is_requeued_and_a_broken_shard_is_named(tmp_path: Path, index: Index) -> None:
    """Without it: tests/sweeps/test_slurm.py has elements of studies warned and requeued by the same functions."""
    folder = write_shards(tmp_path / "s", shards=3, each=4)
    (folder / "00001.tar").write_bytes(b"no archive" * 200)
    (folder / "00000.tar.held").touch()
    assert index(folder, "--jobs", "1", *WORDS)["submitted"] == 1
    wait_for(lambda: begun(folder) == ["00000.tar"], SECONDS)
    job = slurm("squeue", "--noheader", "--array", "--format=%i").strip()
    slurm("scancel", "--signal=USR2", job)
    (folder / "00000.tar.held").unlink()
    wait_for(lambda: slurm("squeue", "--noheader", "--array", "--Format=RestartCnt").strip() == "1", SECONDS)
    assert begun(folder) == ["00000.tar"]
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now+2")
    wait_for(lambda: not slurm("squeue", "--noheader"), SECONDS)
    assert begun(folder) == [*["00000.tar"] * 2, "00001.tar", "00002.tar"]
    again = index(folder, "--jobs", "1", *WORDS)
    assert (again["indexed"], again["submitted"]) == (2, 1)
    assert "an earlier job said: " in again["said"] and "00001.tar: not a tar archive" in again["said"]
    slurm("scancel", "--user", str(os.getuid()))
    wait_for(lambda: not slurm("squeue", "--noheader"), SECONDS)
    shutil.rmtree(tmp_path / "home" / "worklists")
    named = index(folder, code=1)
    assert len(named["unusable"]) == 1 and "00001.tar: not a tar archive" in named["unusable"][0]
