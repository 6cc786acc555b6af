"""A search on a real SLURM: four elements ask and tell side by side, one is killed and one requeued."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import search_fakes
from fakes import HERE, done, wait_for
from optuna.trial import TrialState
from shared import with_store
from slurm_world import CONFIG, SECONDS, begin_soon, slurm
from test_programs import folder

from ablative.study.core.files import read_json
from ablative.sweeps.queue import leases, manifest
from ablative.sweeps.search.driver import Searcher
from ablative.sweeps.slurm import squeue

pytestmark = pytest.mark.usefixtures("world")
SECTION: dict[str, Any] = {"budget": {"trials": 8}, "confirm": {"top": 1, "seeds": [1]}}


def running(found: Searcher) -> list[leases.Owner]:
    """Workers that have a trial."""
    paths = [
        found.trials.paths.trial(arm.key, trial.number).lease
        for arm in found.plan.arms
        for trial in found.trials.all(arm, TrialState.RUNNING)
    ]
    holders = [leases.inspect(path, 60.0) for path in paths]
    return [holder.owner for holder in holders if holder is not None and holder.owner is not None and holder.alive]


def parent(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text[text.rindex(")") + 2 :].split()[1])


@pytest.mark.long
def test_four_elements_search_and_a_killed_and_a_requeued_one_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each change the same search on this machine stays, and on SLURM killed and requeued elements of runs."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv(search_fakes.STEP_SECONDS, "0.2")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = search_fakes.plan(tmp_path, **SECTION)
    # The second arm's level asks for more memory than the study.
    clusters = CONFIG, dataclasses.replace(CONFIG, memory_gib=0.6)
    arms = [dataclasses.replace(arm, cluster=own) for arm, own in zip(plan.arms, clusters, strict=True)]
    plan = dataclasses.replace(plan, cluster=CONFIG, arms=tuple(arms))
    found = Searcher(plan, 4, print, search_fakes.CODE)
    assert found.start()
    ((paths, written),) = manifest.submissions(plan.home, "weights_test")
    assert [(array.numbers, array.arms, array.cluster["memory_gib"]) for array in written.arrays] == [
        ([0, 1], (arm.name,), own.memory_gib) for arm, own in zip(arms, clusters, strict=True)
    ]
    assert written.workers == 4
    wait_for(lambda: len(running(found)) == 4, SECONDS)
    assert len({owner.job for owner in running(found)}) == 4, "an element each"
    assert [len(found.trials.all(arm, TrialState.RUNNING)) for arm in arms] == [2, 2]
    assert Searcher(plan, 4, print, search_fakes.CODE).start() and len(list(manifest.submissions(plan.home))) == 1
    killed, requeued = running(found)[:2]
    os.kill(parent(killed.pid), signal.SIGKILL)
    slurm("scontrol", "requeue", requeued.job)

    def ended() -> bool:
        begin_soon()
        return found.done

    wait_for(ended, SECONDS)
    squeue.invalidate_cache()
    assert found.watch()
    for arm in plan.arms:
        assert {trial.state for trial in found.trials.all(arm)} == {TrialState.COMPLETE}
        assert len(found.trials.all(arm)) == 8
        result = read_json(found.trials.paths.result(arm.key))
        assert result is not None and list(result["best"]["repeats"]) == ["1"]
    finished = done(plan.home)
    # Per arm eight trials, and repeats of the best and of the papers' pairs, each a run and its evaluation.
    assert set(finished.values()) == {1} and len(finished) in range(2 * 2 * 10, 2 * 2 * 11 + 1)
    log = "".join(path.read_text() for path in paths.jobs.glob("*.out"))
    assert "requeue" in log or "'requeues': 1" in log


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the uploader outlives the command
def test_a_program_is_searched_and_pruned_by_what_it_prints(tmp_path: Path, call_ablate: Callable[..., str]) -> None:
    home, study = with_store(tmp_path / "home"), str(folder(tmp_path / "user") / "study.yaml")
    options = ("cluster=slurm", "cluster.memory_gib=0.3", "cluster.cpus=1", "cluster.hours=0.2")
    said = call_ablate(home, "search", study, "--jobs", "1", *options)
    assert re.search(r"width=narrow +2/2 \(1 complete, 1 pruned\) +trial 0 +1 +rate=0.3", said)
