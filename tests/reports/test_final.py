"""What keeps a report from being final: each reason is found, marked in every format, and refused; nothing else is."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import subprocess
from pathlib import Path

import pytest
import stores
from altered import OTHER, TEXT, copy_of, ended, find, tag

from ablative.reports.build import Report, ReportOptions, report
from ablative.reports.provenance import finding_inputs
from ablative.reports.provenance.findings import NotFinalError, render_findings_text
from ablative.reports.store.results import open_results
from ablative.study.cli import main
from ablative.study.core import packages
from ablative.study.plan.plan import Plan
from ablative.study.spec.outputs import FINDINGS

COUNTED = ("package", "module")
"""Of a trainer: a folder, and a file by itself."""


@pytest.fixture(scope="module")
def odd(full: Plan, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Complete, but one run has other code, one dirty code, and one was trained again after its evaluation."""
    plan = copy_of(full, tmp_path_factory.mktemp("odd"))
    tag(plan, find(plan, scale="small", method="clip", pooling="gap")(1, "train"), "commit", OTHER)
    tag(plan, find(plan, scale="small", method="mae_clip", pooling="map")(0, "zero_shot"), "dirty", "1")
    ended(plan, find(plan, scale="large", method="clip", pooling="map")(2, "train"), 1_800_000_000_000)
    return plan


@pytest.fixture(scope="module")
def drawn(odd: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    out = tmp_path_factory.mktemp("drawn")
    return report(odd, out, ["md", "tex", "csv", "html"]), out


def test_a_complete_study_of_one_code_version_is_final(full: Plan, tmp_path: Path) -> None:
    plan = copy_of(full, tmp_path)
    found = report(plan, tmp_path / "out", ["md"], ReportOptions(final=True))
    assert found.findings == () and "Draft" not in (tmp_path / "out/tables/main.md").read_text()
    assert render_findings_text(found.findings) == ""


def test_each_reason_is_found_where_it_is(odd: Plan, drawn: tuple[Report, Path]) -> None:
    found = {finding.kind: finding for finding in drawn[0].findings}
    assert list(found) == ["stale", "mixed-code", "dirty-code"]
    other = find(odd, scale="small", method="clip", pooling="gap")
    dirty = find(odd, scale="small", method="mae_clip", pooling="map")(0, "zero_shot").task_id
    # Evaluations of a run with other code rest on other code too; edited code is another version as well.
    mixed = {other(1, stage).task_id for stage in ("train", "zero_shot", "linear_probe")} | {dirty}
    assert set(found["mixed-code"].tasks) == mixed and set(found["dirty-code"].tasks) == {dirty}
    again = find(odd, scale="large", method="clip", pooling="map")
    assert set(found["stale"].tasks) == {again(2, stage).task_id for stage in ("zero_shot", "linear_probe")}
    assert "0123456789" in found["mixed-code"].text and "ffffffffff" in found["mixed-code"].text
    assert "was run again" in found["stale"].text and "git diff" in found["mixed-code"].remedy
    assert "table main" in found["stale"].places and "table factors" in found["mixed-code"].places


def test_a_draft_marks_the_numbers_in_every_format(drawn: tuple[Report, Path]) -> None:
    out = drawn[1] / "tables"
    lines = {
        line.split(" | ")[1]: line for line in out.joinpath("main.md").read_text().splitlines() if "| clip" in line
    }
    small = [cell.strip() for cell in lines["gap"].split("|")][3:9:2]
    assert [cell.endswith("†") for cell in small] == [True, True, True]
    assert lines["map"].count("§") == 2 and "†" not in lines["map"]
    note = "Draft: § run again, or begun to be, since it was measured; † another code version than most"
    assert note in out.joinpath("main.md").read_text()
    assert r"\rlap{\textsuperscript{\dag{}\ddag{}}}" in out.joinpath("main.tex").read_text()
    assert "<sup>§</sup>" in out.joinpath("main.html").read_text()
    rows = out.joinpath("main.csv").read_text().splitlines()
    assert ",marks,state," in rows[0] and sum(",†‡,," in row for row in rows) == 1
    assert "Draft: of some runs behind these numbers" in out.joinpath("factors.md").read_text()


def test_a_draft_keeps_the_labels_of_its_rows(drawn: tuple[Report, Path]) -> None:
    main_table = next(table for table in drawn[0].tables if table.name == "main")
    assert any("Draft" in note for note in main_table.notes) and all(row.labels for row in main_table.rows)


def test_the_page_says_what_is_to_be_done_before_it_is_final(drawn: tuple[Report, Path]) -> None:
    html = (drawn[1] / "index.html").read_text()
    assert "Before it is final" in html and "--final</code>" in html and "mixed-code" in html


def test_a_final_build_refuses_and_writes_nothing(
    odd: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(odd.home.root))
    words = ["report", "pooled", "--config-dir", str(odd.home.root.parent / "conf"), "--format", "md", "--final"]
    out = ["--out", str(tmp_path / "out")]
    assert main([*words, *out], standalone=False) == 1
    said = capsys.readouterr().err
    assert "ablate: pooled is not final: stale, mixed-code, dirty-code; nothing was written" in said
    assert "→ see what differs with 'git diff COMMIT COMMIT" in said and not (tmp_path / "out").exists()
    assert main([*words, *out, "--json"], standalone=False) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["final"] is False and answer["findings"][0]["kind"] == "stale"
    allowed = ["--allow", "stale", "--allow", "mixed-code", "--allow", "dirty-code"]
    assert main([*words, *out, *allowed, "--json"], standalone=False) == 0
    assert len(json.loads(capsys.readouterr().out)["findings"]) == 3
    assert "Draft: §" in (tmp_path / "out/tables/main.md").read_text()


def test_what_is_missing_diverged_or_not_synced_is_refused(partial: Plan, tmp_path: Path) -> None:
    plan = copy_of(partial, tmp_path)
    task = find(plan, scale="large", method="clip", pooling="gap")(0, "train")
    record = task.paths(plan.home).record
    record.parent.mkdir(parents=True)
    record.write_text('{"state": "completed", "metrics": {}}')
    with pytest.raises(NotFinalError, match="pooled is not final: missing, diverged, unsynced") as caught:
        report(plan, tmp_path / "out", ["md"], ReportOptions(final=True))
    found = {finding.kind: finding for finding in caught.value.findings}
    assert "mae_clip,pooling=map seed=2 (failed: out of memory)" in found["missing"].text
    again = f"pooled --config-dir {plan.home.root.parent / 'conf'}"
    assert found["missing"].remedy == f"ablate retry {again}" and found["unsynced"].remedy == f"ablate sync {again}"
    assert found["unsynced"].tasks == (task.task_id,)
    assert {"large"} == {each.cells[0]["scale"] for each in plan.tasks if each.task_id in found["diverged"].tasks}


def test_journals_that_wait_are_a_reason(full: Plan, tmp_path: Path) -> None:
    with pytest.raises(NotFinalError, match="unsynced"):
        report(copy_of(full, tmp_path), tmp_path / "out", ["md"], ReportOptions(final=True, pending=3))


def test_a_changed_default_is_told_with_its_key(full: Plan, tmp_path: Path) -> None:
    copy_of(full, tmp_path / "a").write()
    plan = stores.plan_of(tmp_path / "a", TEXT, ("schedule.warmup_steps=7",))
    [finding] = [each for each in report(plan, tmp_path / "out", ["md"]).findings if each.kind == "changed-config"]
    assert len(finding.tasks) == len(plan.tasks) and "schedule.warmup_steps: " in finding.text and "→ 7" in finding.text
    assert "eligible¶" in (tmp_path / "out/tables/main.md").read_text()


def test_a_final_report_reads_the_configurations_that_ran(full: Plan, tmp_path: Path) -> None:
    plan = copy_of(full, tmp_path)
    plan.write()
    assert report(plan, tmp_path / "out", ["md"], ReportOptions(final=True)).findings == ()
    path = plan.runs[0].paths(plan.home).config
    path.write_text(path.read_text().replace("warmup_steps: ", "warmup_steps: 1"))
    with pytest.raises(NotFinalError, match="changed-config") as caught:
        report(plan, tmp_path / "out", ["md"], ReportOptions(final=True))
    assert caught.value.findings[0].tasks == (plan.runs[0].task_id,)
    assert "schedule.warmup_steps: 1" in caught.value.findings[0].text


def test_begun_again_is_stale(full: Plan, tmp_path: Path) -> None:
    """Somebody trains a finished run again: its first result stands until then, and is told to be on its way out."""
    plan = copy_of(full, tmp_path)
    task = plan.runs[0]
    with sqlite3.connect(plan.home.store) as store:
        uuid = store.execute("select run_uuid from tags where value = ?", (task.task_id,)).fetchall()[0][0]
        for table in ("runs", "tags"):
            names = [row[1] for row in store.execute(f"pragma table_info({table})")]
            chosen = ", ".join(
                {"run_uuid": "'again'", "start_time": "start_time + 5"}.get(name, name) for name in names
            )
            store.execute(f"insert into {table} select {chosen} from {table} where run_uuid = ?", (uuid,))
        store.execute("update tags set value = 'running' where run_uuid = 'again' and key = 'ablate.state'")
    store.close()
    with open_results(plan) as results:
        found = finding_inputs.collect_facts(results)
    assert found.stale == {task.task_id: "begun again since"}


def test_commits_with_the_same_code_are_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    commits = []
    for study, notes in (("1", "1"), ("1", "2"), ("2", "2")):
        (tmp_path / "package").mkdir(exist_ok=True)
        (tmp_path / "package" / "code.py").write_text("1")
        (tmp_path / "module.py").write_text(study)
        (tmp_path / "notes").write_text(notes)
        git("add", "-A")
        git("commit", "-qm", "change")
        commits.append(git("rev-parse", "HEAD"))
    places = dict(zip(COUNTED, (tmp_path / "package", tmp_path / "module.py"), strict=True))
    monkeypatch.setattr(packages, "location", places.get)
    found = finding_inputs.code_versions([*commits, OTHER, f"{commits[0]}-dirty"], COUNTED)
    assert found[commits[0]] == found[commits[1]] != found[commits[2]]
    assert found[OTHER] == OTHER and found[f"{commits[0]}-dirty"] == f"{commits[0]}-dirty"
    assert finding_inputs.code_versions([OTHER], COUNTED) == {OTHER: OTHER}


def test_a_trainer_from_elsewhere_is_compared_by_its_own_code(full: Plan, tmp_path: Path) -> None:
    """Its commit may be this program's, or that of the first of several checkouts."""
    plan = copy_of(full, tmp_path)
    task = find(plan, scale="small", method="clip", pooling="gap")(1, "train")
    tag(plan, task, "commit", OTHER)
    assert [finding.kind for finding in report(plan, tmp_path / "out", ["md"]).findings] == ["mixed-code"]
    with sqlite3.connect(plan.home.store) as store:
        store.execute("insert into tags (key, value, run_uuid) select 'ablate.sources', 'a', run_uuid from runs")
    store.close()
    assert report(plan, tmp_path / "out", ["md"]).findings == ()
    tag(plan, task, "sources", "b")
    [found] = report(plan, tmp_path / "out", ["md"]).findings
    # What rests on it does so on other code, too.
    assert len(found.tasks) == 3 and "-- study trainer'" in found.remedy


def test_every_kind_has_a_name_for_allow(drawn: tuple[Report, Path], partial: Plan, tmp_path: Path) -> None:
    kinds = {finding.kind for finding in drawn[0].findings}
    kinds |= {finding.kind for finding in report(copy_of(partial, tmp_path), tmp_path / "out", ["md"]).findings}
    assert kinds <= set(FINDINGS)


def test_a_report_says_where_it_replaces_a_fuller_one(full: Plan, partial: Plan, tmp_path: Path) -> None:
    """The study was cut, or its home is half empty; not where it covers as much or more."""
    out = tmp_path / "out"
    assert not report(partial, out, ["csv"]).notes
    assert not report(full, out, ["csv"]).notes
    [line] = report(partial, out, ["csv"]).notes
    assert "47 of 78 tasks finished" in line and "lacks 31 of its 78 finished tasks" in line
    without = dataclasses.replace(full, study=dataclasses.replace(full.study, tables={}, figures={}))
    report(full, out, ["csv"])
    [line] = report(without, out, ["csv"]).notes
    assert "lacks table 'main', figure 'pooling'" in line and "finished tasks" not in line
