"""A job imports every module from its snapshot, or refuses: an editable installation would fill what is missing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from checkouts import copy_packages, output, python

from ablative.study.core.errors import ConfigError
from ablative.study.core.packages import PACKAGES, ROOT
from ablative.study.home.paths import Home
from ablative.sweeps.queue import snapshot as queue_snapshot

DIGEST = "0123456789abcdef"
STARTS = {
    "local": ("-c", "from ablative.sweeps.worker.worker import work; work('{home}', 'own', 'stamp', 0)"),
    "slurm": ("-m", "ablative.sweeps.slurm.element", "{home}", "{home}/none", "array"),
    "loader": (
        "-c",
        "import ablative.sweeps.queue.leases; from ablative.trainer.clip.data.pairs import workers; "
        "from pathlib import Path; workers._start(Path('{snapshot}'), None, None, None)",
    ),
    "upload": ("-m", "ablative.sweeps.tracking.upload_process", "own", "{home}", "1", "{parent}"),
}
"""How a job, a loader process of its and the process that ships its journals begin."""
REQUIRE = "from pathlib import Path; from ablative.study.core.packages import require_snapshot; "


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with a snapshot of the packages."""
    home = Home(tmp_path / "home")
    copy_packages(home.snapshot(DIGEST))
    return home


@pytest.mark.parametrize("lacking", ["sweeps/queue", "study/core"])
@pytest.mark.parametrize("start", STARTS)
def test_a_job_whose_snapshot_lacks_a_package_refuses(home: Home, start: str, lacking: str) -> None:
    shutil.rmtree(home.snapshot(DIGEST) / ROOT / lacking)
    words = [word.format(home=home.root, parent=os.getpid(), snapshot=home.snapshot(DIGEST)) for word in STARTS[start]]
    done = python(home.snapshot(DIGEST), *words, variables={"ABLATE_SNAPSHOT": DIGEST})
    last = done.stderr.strip().splitlines()[-1]
    module = "ablative." + lacking.replace("/", ".")
    assert done.returncode == 1
    assert last.startswith("ImportError: ") and module in last and str(home.snapshot(DIGEST)) in last


@pytest.mark.parametrize("start", ["local", "slurm"])
def test_a_job_with_all_of_its_snapshot_begins(home: Home, start: str) -> None:
    words = [word.format(home=home.root) for word in STARTS[start]]
    variables = {"ABLATE_SNAPSHOT": DIGEST, "SLURM_ARRAY_TASK_ID": "0"}
    done = python(home.snapshot(DIGEST), *words, variables=variables)
    assert "absent or damaged" in done.stderr and "ImportError" not in done.stderr, "it looked for its manifest"


def test_what_is_imported_later_comes_from_the_snapshot_too(home: Home) -> None:
    snapshot = home.snapshot(DIGEST)
    shutil.rmtree(snapshot / ROOT / "reports" / "stats")
    (snapshot / ROOT / "trainer" / "runner" / "__init__.py").unlink()
    code = f"""
import importlib, multiprocessing, pickle, sys
{REQUIRE}
require_snapshot(Path({str(snapshot)!r}))
import ablative.sweeps.status.logs
importlib.reload(ablative.sweeps.status.logs)
function = pickle.loads(pickle.dumps(ablative.sweeps.status.logs.find_task))

def attempt(module):
    try:
        importlib.import_module(module)
    except ImportError as error:
        return str(error)

for module in ("ablative.reports.stats.student", "ablative.trainer.runner.record"):
    print(attempt(module))
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.apply(attempt, ("ablative.reports.stats.student",)))
"""
    gone, outside, forked = output(snapshot, code).splitlines()
    assert gone == forked == f"ablative.reports.stats is not in the snapshot {snapshot}"
    assert outside == f"ablative.trainer.runner is imported from None, not from the job's snapshot {snapshot}"


LOADER = """
import shutil, sys
from pathlib import Path
import numpy as np
from ablative.trainer.clip.spec.config import DataConfig
from ablative.study.core.packages import require_snapshot
from ablative.trainer.clip.data.pairs.tokenizer import Tokenizer
from ablative.trainer.clip.data.pairs.workers import Asked, Workers
from ablative.trainer.clip.data.world.shapes import ShapePairs
if __name__ == "__main__":
    snapshot = Path(sys.argv[1])
    require_snapshot(snapshot)
    pairs = ShapePairs(DataConfig(name="s", kind="shapes", pairs=9), 16)
    tokenizer = Tokenizer.fit([pairs.caption(i) for i in range(9)], 300, 8)
    for _ in range(2):
        with Workers(pairs, tokenizer, 1, rows=9, size=16) as workers:
            print(len(workers.result(workers.submit(np.arange(9), Asked())).images), flush=True)
        shutil.rmtree(snapshot / "ablative" / "study" / "core", ignore_errors=True)
"""


def test_loader_processes_import_from_the_snapshot_too(home: Home, tmp_path: Path) -> None:
    (tmp_path / "training.py").write_text(LOADER)
    snapshot = home.snapshot(DIGEST)
    done = python(snapshot, str(tmp_path / "training.py"), str(snapshot))
    assert done.stdout == "9\n" and "a loader process died" in done.stderr
    assert "ImportError: ablative.study.core" in done.stderr and str(snapshot) in done.stderr


OWN = ("lab.models.own", "own_trainer")
"""Packages of a trainer: one inside another package, and a module that is none."""
ASK = """
import json
from pathlib import Path
import lab, own_trainer
from ablative.study.core.packages import require_snapshot, source_name
require_snapshot(Path({snapshot!r}))
import lab.models.own.loss, lab.models.other
assert own_trainer.loss() is lab.models.own.loss
files = [lab, lab.models.other, lab.models.own, lab.models.own.loss, own_trainer]
print(json.dumps([[module.__file__ for module in files], source_name(Path(own_trainer.__file__), {own!r})]))
"""


def test_a_trainer_from_elsewhere_comes_from_the_snapshot_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its packages alone: what they lie in, or import, may be large, and is not declared."""
    site = tmp_path / "site"
    for name in ("lab/__init__.py", "lab/models/__init__.py", "lab/models/other.py", "lab/models/own/__init__.py"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("")
    (site / "lab/models/own/loss.py").write_text("")
    (site / "own_trainer.py").write_text("def loss():\n    import lab.models.own.loss as found\n    return found\n")
    monkeypatch.syspath_prepend(str(site))
    snapshot = queue_snapshot.take(Home(tmp_path / "home"), (*PACKAGES[:2], *OWN)).path
    assert queue_snapshot.current((*PACKAGES[:2], *OWN)) == snapshot.name != queue_snapshot.current(PACKAGES[:2])
    assert not list(snapshot.rglob("other.py"))
    environment = {"PYTHONPATH": f"{snapshot}{os.pathsep}{site}"}
    done = python(snapshot, "-c", ASK.format(snapshot=str(snapshot), own=OWN), variables=environment)
    files, source = json.loads(done.stdout or done.stderr)
    places = [site, site, snapshot, snapshot, snapshot]
    assert [file.startswith(str(place)) for file, place in zip(files, places, strict=True)] == [True] * 5
    assert source == "own_trainer.py"
    (snapshot / "own_trainer.py").unlink()
    done = python(snapshot, "-c", ASK.format(snapshot=str(snapshot), own=OWN), variables=environment)
    assert f"own_trainer is imported from {site}/own_trainer.py, not from the job's snapshot" in done.stderr
    with pytest.raises(ConfigError, match=r"no package named 'none_such', which the study's trainer lists"):
        queue_snapshot.current(("none_such",))


def test_nothing_is_refused_outside_a_job(tmp_path: Path) -> None:
    code = REQUIRE + "require_snapshot(None); import ablative.reports.stats.student as found; print(found.__file__)"
    assert output(copy_packages(tmp_path / "checkout"), code).startswith(str(tmp_path))
