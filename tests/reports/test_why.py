"""`ablate why` and `ablate report` as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import stores

from ablative.reports.provenance.why import find
from ablative.study.cli import main
from ablative.study.core.errors import ConfigError
from ablative.study.core.files import write_json
from ablative.study.plan.plan import Plan


def arguments(plan: Plan, *rest: str) -> list[str]:
    """Words after the command: `rest` begins with the study's name."""
    return [*rest, "--config-dir", str(plan.home.root.parent / "conf")]


@pytest.fixture
def at_home(full: Plan, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setenv("ABLATE_HOME", str(full.home.root))
    return full


ONE_THREAD = """
import os, sys
from ablative.study.cli import main
assert main(sys.argv[1:], standalone=False) == 0
print(len(os.listdir("/proc/self/task")), os.environ.get("OPENBLAS_NUM_THREADS"))
"""


def test_it_starts_no_threads_for_linear_algebra_and_leaves_the_environment(
    at_home: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    words = ["why", *arguments(at_home, "pooled", "main", "1", "1")]
    command = [sys.executable, "-c", ONE_THREAD, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "1 None"


def test_labels_and_places_find_the_same_number(full: Plan) -> None:
    table = stores.one_table(full, "main")
    wanted = find(table, "mae_clip, gap", "large / Zero-shot / shape")
    for row, column in [
        ("4", "4"),
        ("mae_clip,gap", "large/shape"),
        ("method=mae_clip, pooling=gap", "LARGE / Zero-shot / Shape"),
    ]:
        assert find(table, row, column) == wanted
    assert wanted.entry.summary is not None and wanted.entry.summary.mean == pytest.approx(55.2)


def test_a_wrong_name_gets_the_nearest(full: Plan) -> None:
    table = stores.one_table(full, "main")
    with pytest.raises(ConfigError, match="table 'main': unknown row 'mae_clp, gap'; did you mean 'mae_clip, gap'"):
        find(table, "mae_clp, gap", "1")
    with pytest.raises(ConfigError, match="column 'shape' is ambiguous: small / Zero-shot / shape; large"):
        find(table, "1", "shape")
    for place in ("0", "7", "-1"):
        with pytest.raises(ConfigError, match="unknown column"):
            find(table, "1", place)


def test_json_holds_value_n_query_and_runs(at_home: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["why", *arguments(at_home, "pooled", "main", "clip, map", "small / shape", "--json")]
    assert main(words, standalone=False) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["value"] == pytest.approx(12.2) and found["n"] == 3
    assert [run["value"] for run in found["runs"]] == pytest.approx([11.2, 12.2, 13.2])
    run_ids = [task.run_id for task in at_home.runs if task.cells[0] == at_home.study.baseline]
    assert [run["run_id"] for run in found["runs"]] == run_ids
    assert {run["commit"] for run in found["runs"]} == {stores.COMMIT}
    assert found["query"].startswith("select seed") and "$cell" not in found["query"]
    assert found["key"] == "pooled.main.clip.map.small.Zero-shot.shape" and found["findings"] == []
    assert {task["commit"] for task in found["tasks"].values()} == {stores.COMMIT} and len(found["tasks"]) == 6


def test_text_names_runs_configurations_and_query(at_home: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", *arguments(at_home, "pooled", "main", "1", "2")], standalone=False) == 0
    text = capsys.readouterr().out
    assert "clip, map: small / Probes / mean = 12.4 ± 1.0" in text and "config.yaml" in text and "list_avg" in text
    assert r"\ablate{pooled.main.clip.map.small.Probes.mean}" in text and "log.txt" in text
    assert "code 0123456789  2023-11-14T22:15:00Z" in text and "comes with ablate (shapes" in text


def test_an_effect_leads_to_the_query_of_its_grid(at_home: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", *arguments(at_home, "pooled", "factors", "pooling: gap − map", "shape")], standalone=False) == 0
    text = capsys.readouterr().out
    assert r"\ablate{pooled.factors.pooling-gap-map.shape}" in text and "where cell in ('{" in text


def test_a_missing_number_says_why(
    partial: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(partial.home.root))
    assert main(["why", *arguments(partial, "pooled", "main", "1", "4", "--json")], standalone=False) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["value"], found["n"], found["state"], found["runs"]) == (None, 0, "waiting", [])
    assert "seed 0: waiting" in found["detail"]
    paths = [task.paths(partial.home) for task in partial.tasks if task.seed == 0]
    failures = [own.failure for own in paths if not own.record.exists()]
    for path in failures:
        write_json(path, {"cause": "code", "type": "KeyError", "message": "'classes'\nand more"})
    assert main(["why", *arguments(partial, "pooled", "main", "1", "4")], standalone=False) == 0
    said = capsys.readouterr().out
    for path in failures:  # other tests have the same home
        path.unlink()
    assert "  KeyError: 'classes'\n  ablate logs " in said and "and more" not in said


def test_errors_are_one_line(at_home: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", *arguments(at_home, "pooled", "mian", "1", "1")], standalone=False) == 2
    error = capsys.readouterr().err.removeprefix("ablate: ")
    assert error == "study 'pooled': unknown table 'mian'; did you mean 'main'? (allowed: factors, main, suite)\n"


def test_report_prints_tables_and_writes_what_it_says(
    at_home: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out"), "--format", "md", "--format", "csv"]
    assert main(["report", *arguments(at_home, "pooled", *out)], standalone=False) == 0
    printed = capsys.readouterr()
    assert (
        "Pooling & method, 100 % real" in printed.out
        and "+3.0 [" in printed.out
        and "15.2 ± 1.0 +3.0" not in printed.out
    )
    assert "6 files written" in printed.err
    assert main(["report", *arguments(at_home, "pooled", *out, "--json")], standalone=False) == 0
    found = json.loads(capsys.readouterr().out)
    names = [f"{table}.{suffix}" for table in ("factors", "main", "suite") for suffix in ("csv", "md")]
    assert sorted(Path(path).name for path in found["paths"]) == names
    assert all(Path(path).exists() for path in found["paths"]) and found["counts"] == {"completed": 78}


def test_report_of_an_untrained_study_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = stores.plan_of(tmp_path)
    monkeypatch.setenv("ABLATE_HOME", str(plan.home.root))
    assert main(["report", *arguments(plan, "pooled", "--format", "md")], standalone=False) == 0
    assert "nothing is trained yet, none of 78 tasks has finished" in capsys.readouterr().err


def test_report_ships_journals_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ablative.study.home.journal import Journal

    plan = stores.plan_of(tmp_path, overrides=("seeds=[0]",))
    monkeypatch.setenv("ABLATE_HOME", str(plan.home.root))
    for task in plan.tasks:
        if task.run_id == plan.runs[0].run_id:
            journal = Journal(task.paths(plan.home).journal)
            journal.event("started")
            journal.metrics(0, stores.metrics_of(task))
            journal.event("completed")
            journal.close()
            task.paths(plan.home).record.write_text('{"state": "completed", "metrics": {}}')
    words = ["report", *arguments(plan, "pooled", "seeds=[0]", "--format", "md", "--out", str(tmp_path / "out"))]
    assert main(words, standalone=False) == 0
    assert "| clip | map | 11.2 |" in (tmp_path / "out/tables/main.md").read_text()


def fails_with(words: list[str], modules: str) -> str:
    """What a command says on standard error where it fails or has imported one of the modules; else nothing."""
    program = (
        "import sys; from ablative.study.cli import main; code = main(sys.argv[2:], standalone=False);"
        "sys.exit(' '.join(set(sys.argv[1].split()) & set(sys.modules)) or code)"
    )
    done = subprocess.run([sys.executable, "-c", program, modules, *words], check=False, capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def test_a_number_is_explained_without_what_draws_and_fits(at_home: Plan) -> None:
    """Each of these takes as long to import as all that the answer needs."""
    words = ["why", *arguments(at_home, "pooled", "main", "clip, map", "small / shape")]
    assert main(words, standalone=False) == 0, "what Hydra composes is kept"
    heavy = "matplotlib seaborn pandas scipy.stats numpy.f2py.f2py2e numpy.random.mtrand unittest hydra"
    assert not fails_with(words, heavy)


def test_figures_are_drawn_without_seaborn_and_pandas(at_home: Plan, tmp_path: Path) -> None:
    """The two take a tenth of a report's time to import."""
    words = ["report", *arguments(at_home, "pooled", "--format", "html", "--out", str(tmp_path))]
    assert not fails_with(words, "seaborn pandas")
    assert list(tmp_path.glob("figures/*.svg"))
