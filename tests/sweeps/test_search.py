"""Searches: bad sections, trials that are runs, kills, pruning, failures, samplers, what is found and where it goes."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
import search_fakes
from click.testing import CliRunner
from fakes import HERE, SOURCE, done, events, wait_for
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from search_fakes import PRUNING, plan, searcher

from ablative.study.core.errors import ConfigError, StoreError
from ablative.study.core.files import read_json, write_json
from ablative.study.core.typed import plain
from ablative.study.home.journal import read
from ablative.study.plan.plan import make_plan
from ablative.sweeps.queue import leases, manifest
from ablative.sweeps.queue.executors import live_jobs
from ablative.sweeps.search import methods
from ablative.sweeps.search.cli import with_levels
from ablative.sweeps.search.driver import Searcher
from ablative.sweeps.search.storage import Backend, Lock, repair


@pytest.fixture(autouse=True)
def jobs_find_the_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def plain_optuna(folder: Path, found: Any) -> list[optuna.Study]:
    """The studies as Optuna alone reads them from the file."""
    storage = JournalStorage(JournalFileBackend(str(found.trials.paths.storage)))
    return [optuna.load_study(study_name=found.definition.optuna_name(arm), storage=storage) for arm in found.plan.arms]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"parameters": {"objective.w_imag": {"low": 1, "high": 2}}}, "did you mean 'objective.w_image'"),
    ({"parameters": {"objective.mask_ratio": {"low": 0.5, "high": 1.5}}}, "1.5 is not allowed; it must be less than 1"),
    ({"parameters": {"objective.w_text": {"low": 0.5, "high": 0.1}}}, "low 0.5 is not less than high 0.1"),
    ({"parameters": {"objective.w_text": {"low": 0.0, "high": 0.1, "log": True}}}, "begins above 0"),
    ({"parameters": {"objective.masking": ["random", "similar"]}}, "did you mean 'similarity'"),
    ({"parameters": {"objective.masking": ["random", ["high"]]}}, "found ['high']; expected numbers, texts, true"),
    ({"parameters": {"objective.masking": [{}]}}, "found {}; expected numbers, texts, true"),
    ({"parameters": {"model.depth": {"low": 1.5, "high": 3}}}, "is a whole number"),
    ({"parameters": {"model.pooling": ["map", "max"]}}, "the factor 'pooling' of `per` sets this key already"),
    ({"parameters": {"runtime.threads": [1, 2]}}, "unknown configuration key 'runtime.threads'"),
    ({"objective": {"metric": "zero_shot/shapes_objct/top1"}}, "did you mean 'zero_shot/shapes_object/top1'"),
    ({"objective": {"metric": "train/loss", "direction": "down"}}, "unknown value 'down'"),
    ({"pruner": "median"}, "needs intermediate values"),
    ({"pruner": "median", "report": "train/los"}, "did you mean 'train/loss'"),
    ({"sampler": "tpa"}, "did you mean 'tpe'"),
    ({"sampler": "grid"}, "a grid needs choices or a step"),
    ({"per": ["poolng"]}, "did you mean 'pooling'"),
    ({"where": {"pooling": ["max"]}}, "unknown level 'max'"),
    ({"budget": {"trials": 0}}, "give trials, hours or both"),
    ({"pruner": "median", "report": "zero_shot/shapes_object/top1"}, "tell with `every` after how many steps"),
    ({"pruner": "median", "report": "train/loss", "every": 5}, "only another stage's metric"),
    ({"pruner": "median", "report": "zero_shot/shapes_objct/top1", "every": 5}, "did you mean 'zero_shot/shapes_obj"),
    ({"pruner": "median", "report": "zero_shot/shapes_object/top1", "every": 240}, "no evaluation before the last of"),
    ({"confirm": {"seeds": [0, 1]}}, "[0] are seeds of the search"),
    ({"confirm": {"seed": [1]}}, "did you mean 'seeds'"),
    (
        {"confirm": {"seeds": [1]}, "objective": [{"metric": "train/loss"}, {"metric": "train/text"}]},
        "no best trial to repeat",
    ),
    ({"budget": None}, "budget: missing"),
    ({"enqueue": [{"objective.w_image": 5.0}]}, "outside of the parameter's range"),
    ({"paralel": 2}, "did you mean 'parallel'"),
]


@pytest.mark.parametrize(("section", "words"), WRONG, ids=[words[:30] for _, words in WRONG])
def test_a_wrong_section_is_one_error(tmp_path: Path, section: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, **section)
    assert words in str(caught.value)
    assert re.search(r"study/weights_test.yaml:\d+: search", str(caught.value))


def test_an_option_that_optuna_does_not_have_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'n_startup_trials'"):
        searcher(tmp_path, sampler={"name": "tpe", "n_startup_trial": 3})


def test_a_level_that_means_a_search_waits_for_it(tmp_path: Path) -> None:
    found = plan(tmp_path)
    assert [cell for cell in found.waiting] == ["pooling=map,loss_weights=tuned", "pooling=gap,loss_weights=tuned"]
    assert len(found.runs) == 2
    assert found.study.search is not None
    for arm in found.arms:
        best = {"values": {"objective.w_image": 0.5, "objective.w_text": 0.2}}
        facts = {
            "key": arm.key,
            "seeds": [0],
            "budget": plain(found.study.search.budget),
            "confirm": plain(found.study.search.confirm),
            "hours": 0.5,
            "trials": [{"state": "complete"}],
        }
        result = {"cell": arm.cell, "best": best, **facts}
        write_json(found.home.study("weights_test").search.result(arm.key), result)
    search_fakes._plan.cache_clear()
    done = plan(tmp_path)
    assert not done.waiting
    weights = {t.cells[0]["loss_weights"]: t.config.objective.w_image for t in done.runs}  # type: ignore[union-attr]
    assert weights == {"paper": 0.1, "tuned": 0.5}
    assert {one.level for one in done.searched.values()} == {"loss_weights=tuned"} and len(done.searched) == 2
    # What was found with a smaller budget is no longer what the study says.
    (reason,) = set(plan(tmp_path, budget={"trials": 7}).waiting.values())
    assert "was done with another budget or other repeats: ablate search weights_test" in reason


def test_claims_about_a_searched_level_are_checked_before_the_search(tmp_path: Path) -> None:
    """Claims are written before the runs, and so before the search that some of the runs wait for."""
    claim = {"statement": "tuned[gap] > paper[gap]", "metric": "zero_shot/shapes_object/top1"}
    assert plan(tmp_path, {"claims": {"better": claim}}).waiting
    protocols = {"zero_shot": {}, "linear_probe": {"loss_weights": "paper"}}
    other = {"better": {**claim, "metric": "linear_probe/digits/top1"}}
    with pytest.raises(ConfigError, match="is not measured in cell pooling=gap,loss_weights=tuned"):
        plan(tmp_path, {"claims": other, "protocols": protocols})


def test_some_arms_are_searched_alone(tmp_path: Path) -> None:
    both = plan(tmp_path)
    only = with_levels(both, ("pooling=gap",))
    searcher = Searcher(only, 1, print, search_fakes.CODE)
    assert [arm.name for arm in searcher.definition.arms] == ["pooling=gap"] and with_levels(both, ()) == both
    with pytest.raises(ConfigError, match="unknown level 'gop'; did you mean 'gap'"):
        with_levels(both, ("pooling=gop",))
    with pytest.raises(ConfigError, match=r"no arm of the search has loss_weights=paper \(arms: pooling=map; "):
        with_levels(both, ("loss_weights=paper",))


def test_a_levels_own_resources_are_its_trials_too(tmp_path: Path) -> None:
    poolings = {"map": {"model.pooling": "map"}, "gap": {"model.pooling": "gap", "cluster.cpus": 2}}
    factors = {**search_fakes.STUDY["factors"], "pooling": poolings}
    found = plan(tmp_path, {"factors": factors})
    assert [arm.cluster.cpus for arm in found.arms if arm.cluster is not None] == [1, 2]


def test_killed_workers_and_a_torn_line_lose_and_repeat_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(search_fakes.STEP_SECONDS, "0.03")
    found = searcher(tmp_path)
    home = found.plan.home
    assert found.start()
    # In the middle of a run, some trials done and some not.
    wait_for(lambda: sum(event == "done" for event, _ in events(home)) >= 5)
    for paths, queue in manifest.submissions(home, "weights_test"):
        for job in live_jobs(paths, queue):
            os.killpg(os.getpgid(int(job.job_id)), signal.SIGKILL)
        wait_for(lambda paths=paths, queue=queue: not live_jobs(paths, queue))  # type: ignore[misc]
    with found.trials.paths.storage.open("ab") as file:
        file.write(b'{"op_code": 4, "work')
    assert searcher(tmp_path).watch()
    for study in plain_optuna(tmp_path, found):
        assert Counter(trial.state for trial in study.trials) == {TrialState.COMPLETE: 6}
        pairs = [(t.params["objective.w_image"], t.params["objective.w_text"]) for t in study.trials[:2]]
        assert pairs == [(0.1, 0.05), (0.05, 0.1)]
        assert study.best_value == max(trial.values[0] for trial in study.trials)
    finished = done(home)
    assert len(finished) == 2 * 6 * 2 and set(finished.values()) == {1}
    _check_what_is_left(found)
    # A storage that was edited: what a trial carries has another shape.
    text, changed = re.subn(r'"seconds":[0-9.e-]+|"run_ids":\[', _edited, found.trials.paths.storage.read_text())
    assert changed >= 24
    found.trials.paths.storage.write_text(text)
    for each in searcher(tmp_path).to_json():
        assert not any(trial["seconds"] or trial["runs"] for trial in each["trials"])


def _edited(found: re.Match[str]) -> str:
    return '"seconds":"a"' if found[0].startswith('"seconds') else f"{found[0]}3,"


def _check_what_is_left(found: Any) -> None:
    """Results for plans, tags for MLflow; and doing it all again does nothing."""
    search_fakes._plan.cache_clear()
    for arm in found.plan.arms:
        result = read_json(found.trials.paths.result(arm.key))
        assert result is not None and len(result["trials"]) == 6
        run = found.plan.home.run(result["best"]["runs"][0])
        tags = {k: v for line in read(run.journal)[0] if line["kind"] == "tags" for k, v in line["values"].items()}
        assert tags["ablate.search"] == "weights_test" and tags["ablate.trial"] == str(result["best"]["number"])
        assert run.config.exists() and run.record.exists()
    before = len(events(found.plan.home))
    assert found.watch() and len(events(found.plan.home)) == before


def test_pruned_trials_end_early_and_their_runs_can_be_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(search_fakes.STEP_SECONDS, "0.05")
    found = searcher(tmp_path, **PRUNING, report="train/contrastive")
    found.jobs = 1
    assert found.watch()
    (study,) = plain_optuna(tmp_path, found)
    worst = study.trials[3]
    assert worst.state == TrialState.PRUNED and 0 < len(worst.intermediate_values) < 10
    failure = read_json(found.plan.home.run(worst.user_attrs["run_ids"][0]).failure)
    assert failure is not None and failure["cause"] == "pruned"
    assert study.best_trial.number == 2


def test_the_same_failure_of_the_code_stops_the_search_and_other_code_goes_on(tmp_path: Path) -> None:
    section = {
        "parameters": {"objective.w_image": {"low": 0.01, "high": 1.0, "log": True}},
        "objective": {"metric": "cost/gpu_hours"},
        "where": {"pooling": ["map"]},
        "per": ["pooling"],
    }
    study = {**search_fakes.STUDY, "base": {**search_fakes.STUDY["base"]}}
    study["factors"] = {
        **study["factors"],
        "loss_weights": {"none": {"objective.w_text": 0.0}, "tuned": {"search": "weights_test"}},
    }
    study["baseline"] = {"pooling": "map", "loss_weights": "none"}
    found = search_fakes.Searcher(plan(tmp_path, study, **section), 1, print, search_fakes.CODE)
    assert not found.watch()
    (arm,) = found.plan.arms
    assert len(found.trials.all(arm, TrialState.FAIL)) == 3
    found.trials.prepare("other code")
    assert len(found.trials.all(arm, TrialState.WAITING)) == 3
    found.trials.prepare("other code")
    assert len(found.trials.all(arm, TrialState.WAITING)) == 3 and not found.trials.counted(arm)


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "qmc", "random"])
def test_every_sampler_proposes_inside_the_ranges_whoever_asks(tmp_path: Path, name: str) -> None:
    section = {"sampler": name, "where": {"pooling": ["map"]}, "budget": {"trials": 5}}
    drawn = []
    for _ in range(5):
        # A worker of its own for every trial.
        trials = searcher(tmp_path, **section).trials
        taken = trials.take()
        assert taken is not None
        values = taken.trial.params
        assert all(0.01 <= value <= 1.0 for value in values.values()) and len(values) == 2
        drawn.append(tuple(values.values()))
        trials.complete(taken, [[values["objective.w_image"]]])
    assert len(set(drawn)) == 5 and searcher(tmp_path, **section).trials.take() is None


def test_a_grid_is_walked_once_and_conditions_hold(tmp_path: Path) -> None:
    grid = {"objective.w_image": [0.1, 0.2], "objective.w_text": {"low": 0.0, "high": 0.2, "step": 0.1}}
    section = {"parameters": grid, "sampler": "grid", "where": {"pooling": ["map"]}, "budget": {"trials": 50}}
    trials = searcher(tmp_path, **section).trials
    seen = []
    while (taken := trials.take()) is not None:
        seen.append((taken.trial.params["objective.w_image"], round(taken.trial.params["objective.w_text"], 6)))
        trials.complete(taken, [[1.0]])
    assert sorted(seen) == [(i, t) for i in (0.1, 0.2) for t in (0.0, 0.1, 0.2)]
    conditional = {
        "objective.masking": ["random", "similarity"],
        "objective.similarity_select": {"choices": ["high", "low"], "when": {"objective.masking": ["similarity"]}},
    }
    section = {"parameters": conditional, "sampler": "random", "where": {"pooling": ["gap"]}, "budget": {"trials": 12}}
    trials = searcher(tmp_path, **section).trials
    masks = set()
    while (taken := trials.take()) is not None:
        masks.add(taken.trial.params["objective.masking"])
        assert ("objective.similarity_select" in taken.trial.params) == (
            "similarity" in masks and taken.trial.params["objective.masking"] == "similarity"
        )
        trials.complete(taken, [[1.0]])
    assert masks == {"random", "similarity"}


def test_several_goals_give_a_front(tmp_path: Path) -> None:
    goals = [{"metric": "zero_shot/shapes_object/top1"}, {"metric": "cost/gpu_hours", "direction": "minimize"}]
    found = searcher(tmp_path, objective=goals, where={"pooling": ["map"]}, budget={"trials": 5})
    assert found.watch()
    (study,) = plain_optuna(tmp_path, found)
    assert study.metric_names == ["zero_shot/shapes_object/top1", "cost/gpu_hours"]
    (arm,) = found.to_json()
    assert arm["best"] is None and arm["front"] == [trial.number for trial in study.best_trials]
    assert all(trial.values[1] == trial.params["objective.w_text"] for trial in study.trials)


def test_finished_runs_of_the_study_are_tried_without_training(tmp_path: Path) -> None:
    section = {"warm_start": True, "where": {"pooling": ["map"]}}
    found = searcher(tmp_path, **section)
    run = next(task for task in found.plan.runs if task.cells[0]["pooling"] == "map")
    found.plan.write()
    metrics = {"train/contrastive": 1.0}
    write_json(run.paths(found.plan.home).record, {"state": "completed", "seconds": 1.0, "metrics": metrics})
    assert found.watch()
    began = [task for event, task in events(found.plan.home) if event == "begin"]
    assert run.task_id not in began
    (study,) = plain_optuna(tmp_path, found)
    assert run.task_id in [each for trial in study.trials for each in trial.user_attrs["run_ids"]]


@pytest.mark.parametrize("values", [["much"], [{"0": 1.0}], "1"])
def test_a_journal_whose_results_are_no_numbers_is_refused_in_a_line(tmp_path: Path, values: object) -> None:
    found = searcher(tmp_path, where={"pooling": ["map"]})
    (study,) = plain_optuna(tmp_path, found)
    study.tell(study.ask(), 1.0)
    journal = found.trials.paths.storage
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    lines[-1]["values"] = values
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(StoreError, match=r"optuna\.journal: Optuna cannot read .* \(trial 0: values.*put back a copy"):
        searcher(tmp_path, where={"pooling": ["map"]})


def test_a_journal_whose_last_line_is_damaged_is_refused_in_a_line(tmp_path: Path) -> None:
    """Optuna reads such a line past when it opens the journal, and fails when it has added another."""
    journal = searcher(tmp_path, where={"pooling": ["map"]}).trials.paths.storage
    journal.write_text(journal.read_text() + '{"op_code": 0, \n')
    with pytest.raises(StoreError, match=r"optuna\.journal: Optuna cannot read .*\(JSONDecodeError: .*put back a copy"):
        searcher(tmp_path, where={"pooling": ["map"]})


def test_a_journal_whose_study_has_other_goals_is_refused_in_a_line(tmp_path: Path) -> None:
    journal = searcher(tmp_path, where={"pooling": ["map"]}).trials.paths.storage
    first, *others = journal.read_text().splitlines(keepends=True)
    named = [line for line in others if "metric_names" not in line]
    assert '"directions":[2]' in first and len(named) < len(others)
    journal.write_text("".join([first.replace("[2]", "[2,2]"), *named]))
    with pytest.raises(StoreError, match=r"optuna\.journal: Optuna cannot read .* \(ValueError: The number of obj"):
        searcher(tmp_path, where={"pooling": ["map"]})


def test_a_dead_owner_of_the_lock_is_noticed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    Backend(path)
    code = f"""
import os
from pathlib import Path
from ablative.sweeps.search.storage import Lock
Lock(Path({str(path) + ".lock"!r})).acquire()
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    holder = leases.inspect(Path(f"{path}.lock"), 60)
    assert holder is not None and not holder.alive
    lock = Lock(Path(f"{path}.lock"))
    assert lock.acquire()
    lock.release()


def test_mlflows_database_is_refused_before_optuna_lays_out_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("create table experiments (experiment_id integer)")
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(ConfigError, match="this is MLflow's database; give Optuna one of its own"):
        searcher(tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("select name from sqlite_master").fetchall() == [("experiments",)]


def test_only_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for content, whole in ((b"", b""), (b"{}\n", b"{}\n"), (b"{}\n{", b"{}\n"), (b"{", b"")):
        path.write_bytes(content)
        assert repair(path) == len(content) - len(whole)
        assert path.read_bytes() == whole


def test_an_int_parameter_draws_whole_numbers(tmp_path: Path) -> None:
    (parameter,) = plan(tmp_path, parameters={"model.depth": {"low": 1, "high": 3}}).study.search.parameters.values()  # type: ignore[union-attr]
    found = methods.distribution("model.depth", parameter)
    assert isinstance(found, optuna.distributions.IntDistribution) and (found.low, found.high) == (1, 3)


QUICK = (
    "schedule.steps=2",
    "schedule.warmup_steps=1",
    "search.budget.trials=3",
    "search.every=1",
    "search.confirm.seeds=[1]",
    "search.where={pooling: [gap]}",
    "drop=[{pooling: map}]",
    "baseline={pooling: gap, loss_weights: paper}",
    "seeds=[0]",
    *(f"suite.datasets.shapes_{name}.test=80" for name in ("shape", "color", "object")),
    "cluster.jobs=1",
)


def test_the_command_line_as_the_documentation_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detached, stopped, gone on with, asked for its state, and its table run, with the real trainer, shortened."""
    from ablative.study.cli import ablate

    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def call(*words: str) -> Any:
        done = CliRunner().invoke(ablate, [*words[:2], *QUICK, *words[2:]])
        assert done.exit_code == 0, f"{words} {done.output} {done.exception}"
        return done

    call("search", "weights", "--detach", "--jobs", "1")
    call("search", "weights", "--stop")
    assert list(make_plan("weights", QUICK).waiting) == ["pooling=gap,loss_weights=tuned"]
    page = (SOURCE / "docs" / "search.md").read_text()
    lines = [line.split("#")[0].split() for line in page.splitlines() if line.startswith("ablate ")]
    assert [line[1] for line in lines] == ["search", "search", "run"]
    for line in lines:
        call(*(word for word in line[1:] if "=" not in word))
    found = json.loads(call("search", "weights", "--json").stdout)
    (arm,) = found["arms"]
    assert arm["done"] and arm["states"] == {"complete": 3} and found["storage"].endswith("optuna.journal")
    assert not make_plan("weights", QUICK).waiting
    assert "has no `search` section" in str(CliRunner().invoke(ablate, ["search", "demo"]).exception)
