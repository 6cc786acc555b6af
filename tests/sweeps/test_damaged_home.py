"""One damaged file of a home is named, and costs no more than the task that it belongs to."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_frozen_home import FROZEN

from ablative.study.core import checkouts
from ablative.study.core.damage import misfit, shape_of
from ablative.study.core.files import naming, write_json
from ablative.study.home.journal import Journal, read
from ablative.study.home.paths import Home
from ablative.study.home.sharing import follow_group, new_file_mode
from ablative.sweeps.queue import leases, manifest
from ablative.sweeps.queue.manifest import Array
from ablative.sweeps.tracking.cursor import journal_start, read_cursor, read_target
from ablative.sweeps.upkeep import checks
from ablative.sweeps.upkeep.disposable import KINDS, disposable, free

COUNTS = {"completed": 27, "diverged": 6, "failed": 2, "eligible": 1, "waiting": 6}
RUN, EVALUATION = "runs/0bdafbe5cb2f", "runs/0bdafbe5cb2f/evaluations/b0d000444e64"
BEGUN = "runs/1f7806b709aa"
FILES = {
    f"{RUN}/record.json": {**COUNTS, "completed": 26, "eligible": 2},
    f"{EVALUATION}/record.json": {**COUNTS, "completed": 26, "eligible": 2},
    "runs/e819939d7101/failure.json": {**COUNTS, "failed": 1, "eligible": 2},
    f"{BEGUN}/claim": COUNTS,
    f"{RUN}/journal.jsonl": COUNTS,
    f"{BEGUN}/journal.jsonl": COUNTS,
    f"{RUN}/config.yaml": COUNTS,
    f"{RUN}/shipped/small.json": COUNTS,
    "studies/small/plan.json": COUNTS,
    "studies/small/tracking.json": COUNTS,
    "studies/small/submissions/20261128-204552-6bf87b/submission.json": COUNTS,
    "studies/small/search/*/trials/1/tasks.json": COUNTS,
    "studies/small/search/*/result.json": COUNTS,
    "identity": COUNTS,
    "version": COUNTS,
}
"""File of the frozen home → states of the study's tasks when it is damaged."""
UNSEEN = ("claim", "identity", "version", "small.json", "tracking.json")
"""Files that mend themselves, so that `ablate doctor` does not look for them."""
WAYS: tuple[Callable[[bytes], bytes] | None, ...] = (
    lambda content: b"",
    lambda content: content[: len(content) // 2],
    lambda content: b"\x80\x00\xff\n" * 20,
    lambda content: b"[]\n",
    lambda content: b'{"state": 3, "cause": [], "kind": "metrics", "tasks": {"a": 1}, "cell": 2, "t": 1}\n',
    None,
)
"""What is left of a file's content; None: a folder lies in its place."""

Ablate = Callable[..., str]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("damaged")
    with tarfile.open(FROZEN / "home.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    long_ago = time.time() - 3600
    for path in [*folder.glob("home/runs/*/claim"), *folder.glob("home/studies/small/submissions/*/alive")]:
        os.utime(path, (long_ago, long_ago))
    return Home(folder / "home")


@pytest.fixture
def home(frozen: Home, tmp_path: Path) -> Home:
    shutil.copytree(frozen.root.parent, tmp_path, dirs_exist_ok=True)
    return Home(tmp_path / "home")


@pytest.fixture
def ablate(call_ablate: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return lambda home, *words: call_ablate(home.root, *words, "--config-dir", str(home.root.parent / "config"))


def damage(path: Path, way: Callable[[bytes], bytes] | None) -> None:
    content, status = path.read_bytes(), path.stat()
    if way is None:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(way(content))
    # That of a lease is its heartbeat.
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("number", range(len(FILES)), ids=list(FILES))
def test_a_damaged_file_is_named_and_costs_one_task(
    number: int, home: Home, ablate: Ablate, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern, counts = list(FILES.items())[number]
    [path] = home.root.glob(pattern)
    whole = path.with_name("whole")
    shutil.copy2(path, whole)
    # Each file in three ways, and each way with many files.
    for way in (WAYS[(number + offset) % len(WAYS)] for offset in (0, 2, 5)):
        damage(path, way)
        assert json.loads(ablate(home, "status", "small", "--json"))["counts"] == counts
        task = home.run(Path(RUN).name)
        read_cursor(task, "small"), read_target("small", home)
        broken, text = checks.damage(home)
        harmless = (path.name == "journal.jsonl" and way in WAYS[:2]) or (path.name == "config.yaml" and way is WAYS[1])
        expected = path.name not in UNSEEN and not harmless and not (path.name == "tasks.json" and way is WAYS[3])
        assert (broken and str(path) in text) == expected, text
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        for copy in path.parent.glob(f"{path.name}.damaged*"):
            shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
        shutil.copy2(whole, path)


@pytest.mark.long
def test_what_is_damaged_is_done_again(home: Home, ablate: Ablate) -> None:
    """Without it, that workers set damaged files aside is tested by no command."""
    kept = {path: path.read_bytes() for path in home.runs.rglob("record.json")}
    lost = "runs/0ecf7d575664"
    ways = dict(zip((f"{lost}/record.json", f"{EVALUATION}/record.json", f"{lost}/config.yaml"), WAYS, strict=False))
    ways |= {"runs/e819939d7101/failure.json": WAYS[3], "version": WAYS[2], f"{BEGUN}/claim": WAYS[4]}
    ways |= {"runs/e819939d7101/log.txt": None, f"{BEGUN}/checkpoints/last.pt": WAYS[1]}
    # Its run has no final weights any more, and is trained again for it.
    orphan = next(
        path
        for path in sorted(home.runs.glob("*/evaluations/*/record.json"))
        if not home.run(path.parts[-4]).model.exists() and path.parts[-4] != Path(lost).name
    )
    ways[str(orphan.relative_to(home.root))] = None
    for name, way in ways.items():
        damage(home.root / name, way)
    with (home.root / "runs/e819939d7101/journal.jsonl").open("ab") as file:
        file.write(b'\x80 no entry\n{"t": 1}\n')
    ablate(home, "run", "small", "--jobs", "1")
    assert json.loads(ablate(home, "status", "small", "--json"))["counts"] == {"completed": 36, "diverged": 6}
    again = {path for path, content in kept.items() if path.read_bytes() != content}
    expected = {name for name in ways if name.endswith("record.json")} | {f"runs/{orphan.parts[-4]}/record.json"}
    assert {str(path.relative_to(home.root)) for path in again} == expected
    assert not checks.damage(home)[0]
    free(disposable(home, "damaged"))
    assert not disposable(home, "damaged").paths and not list(home.root.rglob("*.damaged*"))


def test_a_failure_without_fields_that_older_versions_do_not_write(home: Home, ablate: Ablate) -> None:
    path = home.runs / "e819939d7101" / "failure.json"
    whole = json.loads(path.read_text())
    trace = "Traceback (most recent call last):\n  …\nZeroDivisionError: a step of 0\n"
    shown = {"message": "ran out of patience", "type": "ZeroDivisionError", "traceback": "division by zero"}
    for field, line in (("type", "ran out of patience"), ("message", "ZeroDivisionError"), (None, "a step of 0")):
        content = {"cause": whole["cause"], **{name: text for name, text in shown.items() if name != field}}
        path.write_text(json.dumps(content if field else {"cause": "code", "traceback": trace}))
        assert line in ablate(home, "status", "small")


def test_another_study_does_not_notice(home: Home, ablate: Ablate) -> None:
    """Prices are taken from the records of all runs of a home."""
    for path in sorted(home.runs.rglob("record.json"))[:3]:
        path.write_text(path.read_text()[:100])
    for path in sorted(home.runs.rglob("journal.jsonl"))[:3]:
        path.write_bytes(b"\x80\n")
    assert json.loads(ablate(home, "plan", "small", "seeds=[7]", "--json"))["tasks"]
    ablate(home, "cancel", "small", "--all")


def test_a_journal_that_begins_damaged_replaces_nothing_in_the_store(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for content in (b"\x80\n", b"[]\n", b'{"kind": "event"}\n', b"garbage without an end"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path}: damaged from its first line on"):
            journal_start(path)
    path.write_bytes(b'{"t": 1, "kind": "event", "na')
    assert journal_start(path).identity == "", "it is being written"


def test_a_journal_is_continued_without_its_damaged_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.metrics(1, {"loss": float("nan")})
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(
        whole + b'[]\n{"t": 1, "kind": "metrics", "step": "x", "values": {}}\n' + whole.replace(b"1,", b"2,")
    )
    journal = Journal(path)
    journal.metrics(1, {"loss": 5.0})
    journal.metrics(3, {"loss": 4.0})
    journal.close()
    assert [entry["step"] for entry in read(path)[0]] == [1, 2, 3]
    assert path.with_name("journal.jsonl.damaged").exists()


def test_shapes() -> None:
    shape = shape_of(Array)
    good = {"name": "a", "elements": [["x"]], "cluster": {"jobs": None}, "canary": True, "later": "version"}
    assert misfit(good, shape) == ""
    assert misfit({**good, "elements": [["x"], "y"]}, shape) == "elements[1]: expected a list, found 'y'"
    assert misfit({**good, "submitted": 3}, shape) == "" != misfit({**good, "submitted": True}, shape)
    assert misfit({"name": "a"}, shape) == "no 'elements'"
    numbers = {str: (float, None)}
    assert misfit({"a": 1, "b": 0.5, "c": None}, numbers) == ""
    for wrong, said in ((True, "True"), ("1", "'1'"), ([1], "[1]")):
        assert misfit({"a": 1.5, "b": wrong}, numbers) == f"b: expected a number, found {said}"
    nested = {str: ({str: int}, frozenset({"none"}))}
    assert misfit({"a": {"x": 1}, "b": "none"}, nested) == ""
    assert misfit({"a": {"x": 1.0}}, nested) == "a.x: expected a whole number, found 1.0"


def test_keys_of_a_later_version_are_passed_over(home: Home) -> None:
    """Versions that share a home write manifests for each other."""
    paths, before = next(manifest.submissions(home))
    content = json.loads(paths.manifest.read_text())
    for part in (content, content["tasks"][0], content["jobs"][0]):
        part["later"] = [1]
    paths.manifest.write_text(json.dumps(content))
    assert manifest.read(paths) == before


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, naming(tmp_path / "journal.jsonl"), open("/dev/full", "w") as file:
        file.write("x")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "journal.jsonl"))


def test_files_have_the_group_rights_of_the_home(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    before = os.umask(0o022)
    try:
        for mode, expected in ((0o755, 0o644), (0o775, 0o664), (0o700, 0o644)):
            os.umask(0o022)
            home.root.chmod(mode)
            follow_group(home)
            assert new_file_mode() == expected
            run = home.run(f"{mode:o}")
            Journal(run.journal).event("started")
            write_json(run.record, {})
            assert leases.acquire(run.lease, "", 60.0) is not None
            found = {oct(path.stat().st_mode & 0o777) for path in run.root.iterdir()}
            assert found == {oct(expected)}
        home.root.chmod(0o2775)
        assert not checks.rights(Home(home.run("775").root))[0]
        broken, text = checks.rights(home)
        assert broken and "the home's group cannot write" in text and f"chmod -R g+rwX {home.root}" in text
    finally:
        os.umask(before)


def test_another_users_checkout_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=b", "commit", "-q", "--allow-empty", "-m", "c"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    plain = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checkouts.REFUSAL in plain.stderr
    assert len(checkouts.git(tmp_path, "rev-parse", "HEAD").stdout.strip()) == 40


def test_what_a_home_could_lose(home: Home, ablate: Ablate) -> None:
    for run in map(home.run, ("0bdafbe5cb2f", "0ecf7d575664")):
        run.checkpoints.mkdir(exist_ok=True)
        run.model.write_bytes(b"x" * 2048)
        run.feature("a").parent.mkdir(exist_ok=True)
        run.feature("a").write_bytes(b"x")
    stray = home.run("0123456789ab")
    stray.root.mkdir()
    home.snapshot("old").mkdir(parents=True)
    before = sorted(home.root.rglob("*"))
    ablate(home, "status", "small", "--json")
    for kind, expected in (("features", 2), ("runs", 1), ("snapshots", 1)):
        assert len(disposable(home, kind).paths) == expected, disposable(home, kind).paths
    checkpoints = disposable(home, "checkpoints")
    assert home.run("0bdafbe5cb2f").model in checkpoints.paths
    assert not any(BEGUN in str(path) for path in checkpoints.paths), "it is not finished"
    broken, text = checks.room(home)
    assert not broken and "KiB" in text and all(kind in text for kind in KINDS if kind != "damaged")
    for kind in ("checkpoints", "runs"):
        free(disposable(home, kind))
        assert not disposable(home, kind).paths
    gone = {path for path in before if not path.exists()}
    assert gone == {*checkpoints.paths, stray.root}, "that and nothing else"
