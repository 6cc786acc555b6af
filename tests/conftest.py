"""Lies here so that pytest puts this folder on the import path: several tests share its helpers. Orders the tests."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
FOLDERS = ("study", "trainer", "sweeps", "reports")
CHAINS = {
    "slurm": (
        "test_slurm",
        "test_slurm_study",
        "test_slurm_causes",
        "test_slurm_team",
        "test_search_slurm",
        "test_slurm_disturbances",
        "test_slurm_disturbed_services",
        "test_slurm_users",
    ),
    "trainer": (
        "test_distributed",
        "test_distributed_ends",
        "test_distributed_runs",
        "test_train",
        "test_on_a_gpu",
        "test_evaluate",
    ),
    "tracking": (
        "test_tracking_server",
        "test_tracking_cluster",
        "test_tracking_sqlite",
        "test_tracking_postgres",
        "test_tracking_values",
    ),
}
"""Files that one process does one after the other, because they share what takes long to start.

That is the scheduler, or the server that processes are forked from: it imports the trainer or MLflow, whichever is
asked for first, and processes of the other kind would import theirs one by one.
"""
LONGEST = (
    *CHAINS["slurm"],
    *CHAINS["trainer"],
    *CHAINS["tracking"],
    "test_environments",
    "test_readme",
    "test_extending",
    "test_figure_kinds",
    "test_studies",
    "test_run_cli",
    "test_command_trainer",
    "test_frozen_home",
    "test_submit",
    "test_shards",
    "test_search",
    "test_system",
    "test_page",
    "test_loader",
    "test_worker",
    "test_data_cli",
)
"""Files in the order in which they begin, before all others: a long one that begins last keeps one core busy alone."""

# A shell starts background jobs with Ctrl-C ignored, and every process below would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Several tests run side by side, each with processes of its own: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# `python -m pytest` puts the repository's root on the path, where `import study` would find the folder; installed, the
# packages are `ablative.study`, …, and a forgotten prefix must fail here as it would there, and in processes that tests
# start with the root as their working folder.
os.environ["PYTHONSAFEPATH"] = "1"
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


def pytest_configure(config: pytest.Config) -> None:
    """A folder for what the processes of this run share, made by the first of them and removed with it.

    The trees that Hydra composes are among it, which takes a quarter of a second for each.
    """
    import shared

    if shared.FOLDER not in os.environ:
        os.environ[shared.FOLDER] = tempfile.mkdtemp(prefix="ablate-tests-")
        (shared.folder() / "process").write_text(str(os.getpid()))
        config.add_cleanup(shared.end)
    os.environ["XDG_CACHE_HOME"] = str(shared.folder() / "cache")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Whole files, in our order; those of a chain go to one process."""
    config.option.loadscopereorder = False
    return Files(config, log)


class Files(LoadScopeScheduling):
    """Deals out files."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((name for name, files in CHAINS.items() if Path(file).stem in files), file)


def pytest_sessionfinish() -> None:
    """Fail the run when a module was imported under the name of its folder."""
    found = sorted(set(FOLDERS) & set(sys.modules))
    assert not found, f"imported without `ablative.`: {', '.join(found)}"


@pytest.fixture
def call_ablate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Standard output of an `ablate` command that must succeed: `call_ablate(home, *words)`.

    It runs in this process, which has imported everything and keeps what Hydra composes; what it starts are processes.
    That commands are processes, too, is the matter of `tests/sweeps/test_run_cli.py`.
    """
    from ablative.study.cli import main

    def call(home: Path, *words: str) -> str:
        monkeypatch.setenv("ABLATE_HOME", str(home))
        capsys.readouterr()
        try:
            code = main(words, standalone=False)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        shown = capsys.readouterr()
        assert code == 0, f"{words}\n{shown.out}\n{shown.err}"
        return shown.out

    return call
