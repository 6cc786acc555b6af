"""Numbers under keys: stable, unique, in LaTeX as printed, with all that is behind them, compared with kept ones."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import stores
from altered import OTHER, TEXT, copy_of, ended, find, recorded, remeasured, tag
from missing import program
from stores import COMMIT

from ablative.reports import write as booklet
from ablative.reports.build import report
from ablative.reports.provenance.changes import GRID, OTHERS, moves, unseen
from ablative.reports.provenance.number_keys import apart, key_part, parts_apart, table_keys
from ablative.reports.provenance.numbers import Numbers, unfolded
from ablative.study.cli import main
from ablative.study.plan.plan import Plan

KEY = "pooled.main.clip.gap.small.Zero-shot.shape"


@pytest.fixture(scope="module")
def plan(full: Plan, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Complete, with the records that its tasks left."""
    plan = copy_of(full, tmp_path_factory.mktemp("numbers"))
    for task in plan.tasks:
        recorded(plan, task)
    return plan


@pytest.fixture(scope="module")
def out(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables in LaTeX, the numbers, the compute statement, and the PDF."""
    out = tmp_path_factory.mktemp("out")
    found = report(plan, out, ["tex", "pdf"])
    assert {
        out / name for name in ("numbers.json", "numbers.tex", "compute.md", "compute.tex", "statistics.tex")
    } <= set(found.paths)
    return out


def test_a_key_says_what_a_number_is_not_where(full: Plan) -> None:
    table = stores.one_table(full, "main")
    keys = table_keys("pooled", table)
    assert keys[1][0] == KEY and keys[4][5] == "pooled.main.mae.large.CPU-hours"
    fewer = dataclasses.replace(table, rows=table.rows[1:], columns=table.columns[:1])
    assert table_keys("pooled", fewer)[0] == [KEY]
    column = dataclasses.replace(table.columns[0], key="zs")
    renamed = dataclasses.replace(table, columns=(column, *table.columns[1:]))
    assert table_keys("pooled", renamed)[1][0] == "pooled.main.clip.gap.small.zs"
    assert [key_part(text) for text in ("a b", "<x>", "λ_{1}", "ViT-B/16", "%")] == ["a-b", "x", "λ_1", "ViT-B-16", "-"]


def test_keys_never_collide(full: Plan) -> None:
    table = stores.one_table(full, "main")
    twice = dataclasses.replace(table, columns=(table.columns[0], *table.columns[:5]))
    keys = table_keys("pooled", twice)
    assert keys[1][:2] == [KEY, f"{KEY}-2"] and len({key for row in keys for key in row}) == sum(map(len, keys))
    pairs = zip(table.rows, ("✓", "✗", "-1", "1"), strict=False)
    rows = tuple(dataclasses.replace(row, levels=(level, "map")) for row, level in pairs)
    signs = [row[0] for row in table_keys("pooled", dataclasses.replace(table, rows=rows))]
    assert [key.split(".")[2] for key in signs] == ["check-mark", "ballot-x", "hyphen-minus-1", "1"]
    assert parts_apart(["50 %", "50 ‰"]) == {"50 %": "50-percent-sign", "50 ‰": "50-per-mille-sign"}
    assert apart(["a", "b", "a", "a-2", "a"]) == ["a", "b", "a-2", "a-2-2", "a-3"]


def test_json_tells_everything_behind_a_number(plan: Plan, out: Path) -> None:
    found = json.loads((out / "numbers.json").read_text())
    assert found["study"] == "pooled" and found["final"] and found["findings"] == []
    number = unfolded(found, KEY)
    assert (number["text"], number["n"], number["planned"]) == ("15.2 ± 1.0 +3.0 [+2.9, +3.1]", 3, 3)
    assert number["parts"]["value"] == "15.2" and number["parts"]["spread"] == "± 1.0"
    assert number["formula"] == "mean over seeds of zero_shot/shapes_shape/top1" and "$cell" not in number["query"]
    assert [run["value"] for run in number["runs"]] == pytest.approx([14.2, 15.2, 16.2])
    run = find(plan, scale="small", method="clip", pooling="gap")
    assert number["runs"][2]["tasks"] == [run(2, "train").task_id, run(2, "zero_shot").task_id]
    trained, measured = (found["tasks"][task] for task in number["runs"][2]["tasks"])
    assert trained["data"] == {"shapes": "comes with ablate (shapes, version 1)"} and "digits" not in measured["data"]
    kinds = [(task["stage"], task["kind"], task["protocol"]) for task in (trained, measured)]
    assert kinds == [("train", "pretrain", None), ("zero_shot", "evaluate", "zero_shot")]
    assert trained["seed"] == 2 and len(trained["commit"]) == 40 and trained["finished"].startswith("2023-11-14T")
    assert found["environments"][trained["environment"]]["packages"] == {"torch": "2.13.0"}
    probes = unfolded(found, "pooled.main.clip.map.small.Probes.mean")
    assert probes["formula"].startswith("mean over seeds of the mean over 7 tasks (linear_probe/shapes_color/top1, ")
    effect = unfolded(found, "pooled.factors.pooling-gap-map.shape")
    assert effect["parts"]["value"].startswith("+3.0") and "cell in ('{" in effect["query"]


def test_latex_prints_the_number_and_names_an_unknown_key(out: Path, tmp_path: Path) -> None:
    def compiled(body: str) -> tuple[int, str]:
        head = r"\documentclass{article}\usepackage[strings]{underscore}\input{numbers}\begin{document}"
        (tmp_path / "paper.tex").write_text(f"{head}\n{body}\n\\end{{document}}\n")
        (tmp_path / "numbers.tex").write_text((out / "numbers.tex").read_text())
        command = [program("pdflatex"), "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
        wide = {**os.environ, "max_print_line": "1000"}
        done = subprocess.run(command, check=False, cwd=tmp_path, env=wide, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout

    short = KEY.removeprefix("pooled.")
    shown = rf"\typeout{{[\ablate{{{KEY}}}][\ablate{{{short}.value}}][\ablate{{{KEY}.n}}][\ablate{{{KEY}.delta}}]}}"
    used = rf"\section{{It has \ablate{{{KEY}}}}}\begin{{tabular}}{{r}}a & \ablate{{{short}}}\\\end{{tabular}}"
    code, log = compiled(shown + used.replace("{r}", "{rr}"))
    assert code == 0, log[-2000:]
    assert r"[15.2 $\pm $ 1.0][15.2][3][+3.0" in log
    code, log = compiled(r"\ablate{pooled.main.clip.gap.small.Zero-shot.shap}")
    assert code != 0 and "There is no number 'pooled.main.clip.gap.small.Zero-shot.shap'" in log


def test_missing_numbers_say_so_in_prose(partial: Plan, tmp_path: Path) -> None:
    report(copy_of(partial, tmp_path), tmp_path / "out", ["tex"])
    text = (tmp_path / "out/numbers.tex").read_text()
    assert r"\ablatenumber{pooled.main.clip.map.large.Zero-shot.shape}{\ablatemissing{waiting}}" in text
    assert text.splitlines()[2].startswith("% DRAFT") and ".mae.small." not in text


def test_all_tables_are_one_pdf_with_the_same_bytes_each_time(out: Path, tmp_path: Path) -> None:
    pdf = (out / "tables.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and len(pdf) > 20_000
    sources = [out / "tables" / f"{name}.tex" for name in ("main", "factors", "suite")]
    title = 'Does <pooling> matter & "why"?'
    assert booklet.make_pdf(title, sources, tmp_path / "again.pdf") == ""
    assert (tmp_path / "again.pdf").read_bytes() == pdf


def test_why_there_is_no_pdf_is_said(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd.tex").write_text(r"\undefinedcommand")
    assert "pdflatex failed: ! Undefined" in booklet.make_pdf("t", [tmp_path / "odd.tex"], tmp_path / "a.pdf")
    assert booklet.make_pdf("t", [], tmp_path / "a.pdf") == "there are no tables"
    monkeypatch.setattr(booklet.shutil, "which", lambda name: None)
    assert "not installed" in booklet.make_pdf("t", [out / "tables/main.tex"], tmp_path / "a.pdf")
    assert not (tmp_path / "a.pdf").exists()


def test_the_compute_statement(out: Path) -> None:
    text = (out / "compute.md").read_text()
    assert "- **Hardware**: NVIDIA H200 (78 tasks), on 1 machine" in text
    assert "seeds 0, 1, 2" in text and "train 0.25" in text and "torch 2.13.0" in text
    assert r"\item[Hardware] NVIDIA H200" in (out / "compute.tex").read_text()


def words(plan: Plan, out: Path, *rest: str) -> list[str]:
    conf = plan.home.root.parent / "conf"
    return ["report", "pooled", "--config-dir", str(conf), "--format", "md", "--out", str(out), *rest]


def test_what_moved_since_a_tag_and_why(
    full: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = copy_of(full, tmp_path)
    monkeypatch.setenv("ABLATE_HOME", str(plan.home.root))
    out = tmp_path / "out"
    assert main(words(plan, out, "--tag", "submitted", "--json"), standalone=False) == 0
    assert str(out / "tags/submitted.json") in json.loads(capsys.readouterr().out)["paths"]
    assert main(words(plan, out, "--since", "submitted"), standalone=False) == 0
    assert "since submitted: every published number prints as it did" in capsys.readouterr().out
    again = find(plan, scale="small", method="clip", pooling="gap")(1, "zero_shot")
    remeasured(plan, again, "zero_shot/shapes_shape/top1", 30.2)
    ended(plan, again, 1_800_000_000_000)
    tag(plan, again, "commit", OTHER)
    study = tmp_path / "conf/study/pooled.yaml"
    study.write_text(
        TEXT.replace("label: CPU-hours", "label: Hours").replace("  suite:", "  suites:").replace("large", "big")
    )
    assert main(words(plan, out, "--since", "submitted", "--json"), standalone=False) == 0
    moved = {move["key"]: move for move in json.loads(capsys.readouterr().out)["since"]["moved"]}
    move = moved[KEY]
    assert move["kind"] == "moved" and move["before"].startswith("15.2 ± 1.0") and move["now"].startswith("20.2 ± 8.7")
    assert move["reasons"] == [
        f"seed 1: zero_shot again, 2023-11-14T22:15:00Z → 2027-01-15T08:00:00Z; code {COMMIT} → {OTHER}"
    ]
    for now, before in (("small.Hours", "small.CPU-hours"), ("big.Zero-shot.shape", "large.Zero-shot.shape")):
        renamed = moved[f"pooled.main.mae_clip.map.{now}"]
        assert (renamed["kind"], renamed["reasons"]) == (
            "renamed",
            [f"it was called pooled.main.mae_clip.map.{before}"],
        )
    left = {key for key in moved if ".main." in key and (".large." in key or ".CPU-hours" in key)}
    assert left == {"pooled.main.mae.large.Zero-shot.shape"}  # a dash, which nothing identifies
    assert moved["pooled.suites.clip.probes.mean"]["reasons"] == ["its table or claim is new"]
    assert moved["pooled.factors.pooling-gap-map.shape"]["reasons"] == [GRID]


def test_a_number_may_move_by_others_alone() -> None:
    """Its difference to the baseline, where the baseline has moved."""
    run = {"seed": 0, "run_id": "a", "value": 1.0, "tasks": ["a"]}
    one = {"text": "1.0 +1.0", "value": 1.0, "formula": "mean", "table": "t", "runs": [run]}
    kept, now = (
        {"numbers": {"k": number}, "tasks": {}, "environments": []} for number in (one, {**one, "text": "1.0"})
    )
    assert [move.reasons for move in moves(kept, now)] == [(OTHERS,)]
    assert moves(kept, kept) == () and unseen(kept, {**kept, "numbers": {"k": {**one, "value": 1.01}}}) == 1


def test_every_reason_is_told_in_words() -> None:
    def kept(value: float, run: str = "a", task: str = "e", **facts: Any) -> Numbers:
        told = {"protocol": "probe", "finished": "1", "commit": "c", "data": {"train": "d1"}, "environment": 0, **facts}
        behind = {"seed": 0, "run_id": run, "value": value, "tasks": [task]}
        number = {"text": f"{value}", "value": value, "formula": "mean", "table": "t", "runs": [behind]}
        environments = [{"device": "A100", "packages": {"torch": "2"}}, {"device": "H100", "packages": {"torch": "3"}}]
        return {"numbers": {"k": number}, "tasks": {task: told}, "environments": environments}

    def why(now: Numbers) -> str:
        [move] = moves(kept(1.0), now, lambda former, run: f"schedule.lr: {former}{run}")
        return "; ".join(move.reasons)

    assert why(kept(2.0, run="b")) == "seed 0: another configuration, run a → b (schedule.lr: ab)"
    assert why(kept(2.0, task="f")) == "seed 0: measured otherwise: e → f"
    assert why(kept(2.0, data={"train": "d2"})) == "seed 0: probe again, 1 → 1; data train: d1 → d2"
    told = "seed 0: probe again, 1 → 2; code c → d; device A100 → H100; torch 2 → 3"
    assert why(kept(2.0, finished="2", commit="d", environment=1)) == told
    edited = kept(2.0, finished="2", sources="y")
    [move] = moves(kept(1.0, sources="x"), edited)
    assert move.reasons == ("seed 0: probe again, 1 → 2; code c with other files, x → y",)
    [move] = moves(kept(1.0, commit="b", sources="y"), edited)
    assert move.reasons == ("seed 0: probe again, 1 → 2; code b → c (no code has changed)",)
    assert why(kept(2.0)) == "seed 0: another value, 1.0 → 2.0, of the same tasks: the store was edited"


def test_another_seed_and_other_packages_are_told(
    full: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = copy_of(full, tmp_path)
    monkeypatch.setenv("ABLATE_HOME", str(plan.home.root))
    for task in plan.tasks:
        recorded(plan, task)
    few = ["seeds=[0, 1]"]
    assert main(words(plan, tmp_path / "out", *few, "--tag", "first"), standalone=False) == 0
    for task in plan.tasks:
        recorded(plan, task, torch="2.14.0")
    capsys.readouterr()
    assert main(words(plan, tmp_path / "out", "--since", "first"), standalone=False) == 0
    said = capsys.readouterr().out
    run = find(plan, scale="small", method="clip", pooling="gap")(2, "train").run_id
    assert f"      seed 2 added: run {run}" in said and "torch 2.13.0 → 2.14.0" in said
    assert "moved" in said.splitlines()[0]


def test_tags_that_are_taken_unknown_or_no_names(
    full: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(full.home.root))
    (tmp_path / "tags").mkdir()
    (tmp_path / "tags/submitted.json").write_text("[]")
    for rest, error in {
        ("--tag", "submitted"): "tag 'submitted' is taken",
        ("--tag", "../x"): "its name becomes a file's",
        ("--since", "submited"): "unknown tag 'submited'; did you mean 'submitted'?",
        ("--since", "submitted"): "not a report that --tag has kept",
    }.items():
        assert main(words(full, tmp_path, *rest), standalone=False) == 2
        assert error in capsys.readouterr().err
    assert main(["report", "mae_clip", "--reference", "--final"], standalone=False) == 2
