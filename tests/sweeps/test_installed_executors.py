"""Executors of other distributions: a cluster's `kind` names one, and what is wrong with it is one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed import install

from ablative.study.core.errors import ConfigError
from ablative.study.home.paths import Home
from ablative.study.plan.plan import make_plan
from ablative.sweeps.queue.executors import executor

GROUP = "ablate.executors"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the path with a distribution that has executors."""
    points = {name: f"queue_{name}" for name in ("whole", "half", "torn")}
    folder = install(tmp_path / "site", "queues", points, GROUP)
    (folder / "queue_whole.py").write_text("from ablative.sweeps.submission.local import *\n")
    (folder / "queue_half.py").write_text("from ablative.sweeps.submission.local import *\nlaunch = None\n")
    (folder / "queue_torn.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(str(folder))
    executor.cache_clear()
    yield folder
    executor.cache_clear()


def test_it_is_imported_when_it_is_used_and_not_when_it_is_planned(tmp_path: Path) -> None:
    assert make_plan("demo", ["cluster.kind=whole"], home=Home(tmp_path)).cluster.kind == "whole"
    assert "queue_whole" not in sys.modules
    assert executor("whole") is sys.modules["queue_whole"]
    assert not {"queue_half", "queue_torn"} & set(sys.modules)


def test_a_kind_that_does_not_exist_is_refused_by_the_plan(tmp_path: Path) -> None:
    known = r"did you mean 'whole'\? \(allowed: half, local, slurm, torn, whole\)"
    message = rf"cluster.kind: unknown executor 'hole'; {known}; others come by entry point \(ablate.executors\)$"
    with pytest.raises(ConfigError, match=message):
        make_plan("demo", ["cluster.kind=hole"], home=Home(tmp_path))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("half", "executor 'half' lacks 'launch'; sweeps.queue.executors.Executor says what it needs"),
        ("torn", r"executor 'torn' \(queue_torn, of queues\) cannot be imported: ModuleNotFoundError: No module"),
    ],
)
def test_one_that_cannot_be_used(kind: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        executor(kind)


def test_two_of_one_name(site: Path) -> None:
    install(site, "rival", {"slurm": "rival", "whole": "rival"}, GROUP)
    for kind, owners in {"slurm": "this program and from rival", "whole": "queues and from rival"}.items():
        with pytest.raises(ConfigError, match=f"executor '{kind}' comes from {owners}; uninstall all but one"):
            executor(kind)
