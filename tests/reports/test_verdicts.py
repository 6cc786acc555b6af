"""Verdicts on claims: worked out by hand, of stores, and as they are printed."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import browser
import pytest
import stores
from scipy import stats

from ablative.reports.build import report
from ablative.reports.stats.decide import holm
from ablative.reports.store.warehouse import cell_key
from ablative.reports.verdicts.claim_runs import Judged, Remedy
from ablative.reports.verdicts.claim_tables import lines, summary, verdict_text
from ablative.reports.verdicts.claims import ClaimResult, evaluate
from ablative.study.cli import main
from ablative.study.plan.plan import Plan, Task
from ablative.study.spec.outputs import ClaimConfig

CELLS = [{"method": method, "pooling": pooling} for method in ("a", "b") for pooling in ("x", "y")]
FACTORS = {"method": ("a", "b"), "pooling": ("x", "y")}


def judge(statement: str, values: Mapping[str, Mapping[str, list[float]]], **config: Any) -> ClaimResult:
    """The verdict on a claim over cells `ax`, `ay`, `bx`, `by`; values: cell -> task -> one value for each seed."""
    cells = [cell for cell in CELLS if cell["method"] + cell["pooling"] in values]
    results = {
        cell_key(cell): {
            task: dict(enumerate(seeds)) for task, seeds in values[cell["method"] + cell["pooling"]].items()
        }
        for cell in cells
    }
    metrics = sorted({task for tasks in values.values() for task in tasks})
    claim = ClaimConfig(statement=statement, metric=("*",), **config)
    return evaluate("c", claim, FACTORS, cells, metrics, results)


def pair(*gaps: float) -> dict[str, dict[str, list[float]]]:
    """Cells ax and bx on one task, ax above bx by these gaps at the seeds."""
    base = [10.0, 12.0, 11.0, 9.0][: len(gaps)]
    return {"ax": {"t": [b + gap for b, gap in zip(base, gaps, strict=True)]}, "bx": {"t": base}}


@pytest.mark.parametrize(
    ("statement", "margin", "gaps", "verdict", "agrees"),
    [
        # t(2) at 97.5 % is 4.3027: 2 ± 4.3027 × 1 / √3
        ("a > b", 0, (1.0, 2.0, 3.0), "undecided", True),
        ("a > b", 0, (1.9, 2.0, 2.1), "supported", True),
        ("a < b", 0, (1.9, 2.0, 2.1), "contradicted", False),
        ("a - b > 1.5", 0, (1.9, 2.0, 2.1), "supported", True),
        ("a - b > 2.5", 0, (1.9, 2.0, 2.1), "contradicted", False),
        ("2 * (a - b) > 3.5", 0, (1.9, 2.0, 2.1), "supported", True),
        ("a > b", 3, (1.9, 2.0, 2.1), "equivalent", True),
        # t(2) at 95 % is 2.92: 0.1 ± 2.92 × 0.1 / √3 lies within ± 0.3
        ("a ~ b", 0.3, (0.0, 0.1, 0.2), "supported", True),
        ("a ~ b", 0.2, (0.0, 0.1, 0.2), "undecided", True),
        ("a ~ b", 1, (1.9, 2.0, 2.1), "contradicted", False),
        ("a - b ~ 2", 0.5, (1.9, 2.0, 2.1), "supported", True),
        ("a > b", 0, (2.0,), "undecided", True),
        ("a ~ b", 1, (2.0,), "undecided", False),
        ("|a - b| > 1.5", 0, (-1.9, -2.0, -2.1), "supported", True),
        ("|a - b| < 1.5", 0, (-1.9, -2.0, -2.1), "contradicted", False),
    ],
)
def test_verdicts_by_hand(statement: str, margin: float, gaps: tuple[float, ...], verdict: str, agrees: bool) -> None:
    result = judge(statement, pair(*gaps), margin=margin)
    assert (result.verdict, result.agrees) == (verdict, agrees)
    assert result.n_seeds == len(gaps)


def test_effect_and_interval_by_hand() -> None:
    [part] = judge("a > b", pair(1.0, 2.0, 3.0)).parts
    assert part.effect.estimate == pytest.approx(2.0)
    assert (part.effect.low, part.effect.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert part.seeds is not None and part.seeds.n == 5  # noncentral t: 0.80 is first passed at 5 seeds
    [part] = judge("a ~ b", pair(0.0, 0.1, 0.2), margin=0.3).parts
    assert part.effect.level == 0.9
    assert part.effect.high == pytest.approx(0.1 + 2.919986 * 0.1 / 3**0.5)


def test_the_claims_grid_sharpens_the_error_and_ties_are_no_certainty() -> None:
    values = {**pair(0.2, 2.0, 3.5), "ay": {"t": [9.7, 12.4, 11.2]}, "by": {"t": [10.4, 11.5, 10.8]}}
    [alone], [among] = judge("a[x] > b[x]", pair(0.2, 2.0, 3.5)).parts, judge("a[x] > b[x]", values).parts
    assert alone.effect.alone and not among.effect.alone and among.effect.estimate == alone.effect.estimate
    assert among.effect.df is not None and alone.effect.df == 2 < among.effect.df <= 6
    [tied] = judge("a > b", {"ax": {"t": [71.25, 73.5]}, "bx": {"t": [71.0, 73.25]}}).parts
    assert tied.verdict == "undecided" and tied.effect.p is not None and tied.effect.p > 0.05
    # the further seeds come to the two arms alone, and it is their own error that has to be small enough
    assert among.seeds is not None and among.seeds.n is not None and among.seeds.n > 3


@pytest.mark.parametrize(
    ("statement", "margin", "verdict"),
    [
        ("a > b", 0, "supported"),
        ("a < b", 0, "contradicted"),
        ("a > b", 0.5, "equivalent"),
        ("a ~ b", 0.5, "supported"),
        ("a ~ b", 0.4, "contradicted"),
        ("a - b > 0.5", 0, "contradicted"),
        ("|a - b| < 0.5", 0, "supported"),
        ("a > b and a - b < 0.4", 0, "contradicted"),
    ],
)
def test_what_no_seed_changes_is_decided_by_its_value(statement: str, margin: float, verdict: str) -> None:
    values = {"ax": {"flops": [math.pi] * 2}, "bx": {"flops": [math.e] * 2}}
    result = judge(statement, values, margin=margin)
    assert (result.verdict, result.exact, result.p) == (verdict, True, None)
    assert {line.interval for line in lines(Judged(result, Remedy("")))} == {"the same in every seed"}
    tied = judge(statement, {"ax": {"accuracy": [71.25] * 2}, "bx": {"accuracy": [71.0] * 2}}, margin=margin)
    assert not tied.exact and tied.parts[0].effect.low != tied.parts[0].effect.high


@pytest.mark.parametrize(
    ("statement", "margin", "gaps", "p"),
    [
        ("a > b", 0, (1.9, 2.0, 2.1), 2 * stats.t.sf(20 * 3**0.5, 2)),
        ("a - b > 2.5", 0, (1.9, 2.0, 2.1), 2 * stats.t.sf(5 * 3**0.5, 2)),  # contradicted
        ("a ~ b", 0.3, (0.0, 0.1, 0.2), stats.t.sf(2 * 3**0.5, 2)),
        ("a ~ b", 1, (1.9, 2.0, 2.1), 2 * stats.t.sf(10 * 3**0.5, 2)),  # contradicted
        ("a > b and a - b > 1.5", 0, (1.9, 2.0, 2.1), 2 * stats.t.sf(5 * 3**0.5, 2)),  # the weaker of the two
        ("a < b and a - b > 1.5", 0, (1.9, 2.0, 2.1), 4 * stats.t.sf(20 * 3**0.5, 2)),  # contradicted by one of two
        ("a > b", 0, (1.0, 2.0, 3.0), None),
    ],
)
def test_p_of_a_verdict_by_hand(statement: str, margin: float, gaps: tuple[float, ...], p: float | None) -> None:
    found = judge(statement, pair(*gaps), margin=margin).p
    assert found == (None if p is None else pytest.approx(p, rel=1e-6))


def test_one_seed_has_an_effect_and_no_interval() -> None:
    [part] = judge("a > b", pair(2.0)).parts
    assert part.effect.estimate == 2.0 and part.effect.low is None
    assert part.seeds is not None and part.seeds.n is None and "one seed" in part.seeds.reason


def test_tasks_like_these_have_an_interval_at_one_seed() -> None:
    values = {"ax": {"t1": [3.0], "t2": [4.0], "t3": [5.0]}, "bx": {"t1": [1.0], "t2": [2.1], "t3": [2.9]}}
    fixed, sampled = (judge("a > b", values, estimand=name) for name in ("these tasks", "tasks like these"))
    assert (fixed.verdict, sampled.verdict) == ("undecided", "supported")
    [part] = sampled.parts  # differences 2, 1.9, 2.1
    assert part.effect.low == pytest.approx(2 - 4.302653 * 0.1 / 3**0.5)
    assert (part.favourable, part.effect.n_tasks) == (3, 3)


def test_an_interaction_is_a_difference_of_differences() -> None:
    values = {
        "ax": {"t": [15.0, 16.1, 17.0]},
        "bx": {"t": [10.0, 11.0, 12.0]},
        "ay": {"t": [11.0, 12.0, 13.1]},
        "by": {"t": [10.1, 11.0, 12.0]},
    }
    result = judge("a[y] - b[y] < a[x] - b[x]", values)
    assert result.verdict == "supported"
    assert result.parts[0].effect.estimate == pytest.approx(1.0 - 15.1 / 3)
    assert judge("|x - y| > |a - b|", values).verdict == "contradicted"
    assert judge("|a - b| > |x - y|", values).verdict == "supported"


def test_of_several_comparisons_each_must_hold() -> None:
    values = {**pair(1.9, 2.0, 2.1), "by": {"t": [9.0, 11.0, 12.0]}}
    result = judge("a[x] > b[x] and b[x] > b[y]", values)
    assert [part.verdict for part in result.parts] == ["supported", "undecided"] and result.verdict == "undecided"
    chain = judge("a[x] > b[x] > b[y]", values)
    assert [part.text for part in chain.parts] == ["a[x] > b[x]", "b[x] > b[y]"]


def test_every_task_must_agree() -> None:
    values = {
        "ax": {"t1": [5.0, 5.1, 5.2], "t2": [1.0, 1.1, 1.3]},
        "bx": {"t1": [1.0, 1.0, 1.2], "t2": [3.0, 3.1, 3.2]},
    }
    result = judge("a > b", values, every=True)
    assert {part.task: part.verdict for part in result.parts} == {"t1": "supported", "t2": "contradicted"}
    assert result.verdict == "contradicted" and judge("a > b", values).agrees


def test_a_seed_without_every_task_does_not_count() -> None:
    values = {"ax": {"t1": [1.0, 2.0], "t2": [1.0]}, "bx": {"t1": [0.0, float("nan")], "t2": [0.5, 0.5]}}
    result = judge("a > b", values)
    assert result.n_seeds == 1 and result.parts[0].effect.estimate == 0.75
    nothing = judge("a > b", {"ax": {"t": [1.0]}, "bx": {"t": [float("nan")]}})
    assert nothing.agrees is None and verdict_text(nothing) == "undecided, no result"


STUDY = """
name: pooled
base: {model: tiny, data: shapes, schedule: demo}
seeds: [0, 1, 2]
factors:
  scale: {small: {data.pairs: 1000}, large: {data.pairs: 2000}}
  method: {clip: {objective: clip}, mae_clip: {objective: mae_clip}}
protocols: [zero_shot]
tables: {main: {rows: [method], split: scale, columns: [{metric: zero_shot/shapes_shape/top1}]}}
claims:
  gain:
    text: mae_clip <b>beats</b> clip & "x_1"
    statement: mae_clip > clip
    metric: zero_shot/*/top1
    where: {scale: small}
    source: section 4
  same: {statement: 'mae_clip[small] ~ clip[small]', metric: zero_shot/shapes_shape/top1, margin: 1}
"""


def noisy(task: Task, metric: str) -> float:
    return stores.expected(task, metric) + (task.seed * 7 + len(task.run_id + metric)) % 3 / 10


def is_small(task: Task) -> bool:
    return task.cells[0]["scale"] == "small"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    plan = stores.plan_of(tmp_path_factory.mktemp("claims"), STUDY)
    stores.track(plan, f"sqlite:///{plan.home.store}", lambda task: "completed" if is_small(task) else "", noisy)
    return plan


def test_a_report_writes_claims_in_every_format(plan: Plan, tmp_path: Path) -> None:
    result = report(plan, tmp_path)
    assert [path.name for path in result.paths if path.stem == "claims"] == [
        f"claims.{suffix}" for suffix in ("md", "tex", "csv", "html", "json")
    ]
    assert summary(result.claims) == "1 supported, 1 contradicted"
    text = {path.suffix: path.read_text() for path in result.paths if path.stem == "claims"}
    assert "&lt;b&gt;beats&lt;/b&gt;" in text[".html"] and "<b>beats" not in text[".html"] + text[".md"]
    assert r"clip \& \char34{}x\_\allowbreak{}1\char34{} (section 4)" in text[".tex"]
    rows = list(csv.DictReader(text[".csv"].splitlines()))
    assert [row["verdict"] for row in rows] == ["supported", "contradicted"]
    own = [judged.result.p or 1.0 for judged in result.claims]
    assert [float(row["p_holm"]) for row in rows] == pytest.approx(holm(own))
    assert float(rows[0]["effect"]) == pytest.approx(10.0)
    page = (tmp_path / "index.html").read_text()
    assert page.index('id="tables"') < page.index('id="claims"') < page.index('id="progress"')
    again = report(plan, tmp_path / "again", ("html",))
    assert (tmp_path / "again/claims.html").read_text() == text[".html"] and again.claims == result.claims


def test_a_claim_that_cannot_be_judged_says_so_at_its_place(plan: Plan, tmp_path: Path) -> None:
    odd = dataclasses.replace(plan.study.claims["same"], statement="mae_clip > clop", text="")
    own = dataclasses.replace(plan, study=dataclasses.replace(plan.study, claims={**plan.study.claims, "odd": odd}))
    result = report(own, tmp_path)
    assert [judged.result.verdict for judged in result.claims] == ["supported", "contradicted", "undecided"]
    assert len(result.broken) == 1 and "claims.odd.statement: unknown level 'clop'" in result.broken[0]
    for name in ("claims.md", "claims.html", "index.html"):
        assert "This claim could not be judged: claims.odd" in (tmp_path / name).read_text()
    assert "clop" in (tmp_path / "claims.tex").read_text() and (tmp_path / "tables" / "main.md").exists()
    with browser.page() as tab:
        tab.go((tmp_path / "index.html").as_uri())
        assert "undecided" in tab.value("document.querySelector('.verdicts li:last-child').textContent")
        edges = "[...document.querySelectorAll('.verdict')].map(each => getComputedStyle(each).borderTopWidth)"
        lines_inside = set(tab.value(f"{edges}.slice(0, 3)"))
    assert lines_inside == {"0px"}, "each verdict of the list has the one line of its row above it"


def test_effects_are_in_the_unit_that_the_metrics_are_declared_with(plan: Plan, tmp_path: Path) -> None:
    def note(own: Plan) -> str:
        report(own, tmp_path, ["md"])
        [line] = [line for line in (tmp_path / "claims.md").read_text().splitlines() if line.startswith("Effect:")]
        return line.partition(" averaged")[0]

    assert note(plan) == "Effect: left side less right side, in points,"
    assert note(stores.redeclared(plan, "zero_shot/", unit="s")) == "Effect: left side less right side, in s,"
    assert note(stores.redeclared(plan, "zero_shot/", unit="")) == "Effect: left side less right side,"
    one = stores.redeclared(plan, "zero_shot/shapes_shape", unit="s")  # of a claim on several, there is none
    assert note(one) == "Effect: left side less right side, in s,"
    assert "the left side itself" not in (tmp_path / "claims.md").read_text()
    chance = dataclasses.replace(plan.study.claims["same"], statement="clip[small] > 2")
    study = dataclasses.replace(plan.study, claims={"chance": chance})
    note(dataclasses.replace(plan, study=study))
    assert "of a claim against a number, the left side itself" in (tmp_path / "claims.md").read_text()


def test_why_tells_the_runs_behind_a_verdict(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(plan.home.root))
    words = ["--config-dir", str(plan.home.root.parent / "conf")]
    assert main(["why", "pooled", "gain", "--json", *words], standalone=False) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "supported" and found["n"] == 3 and len(found["runs"]) == 6
    assert {run["commit"] for run in found["runs"]} == {stores.COMMIT}
    # two words after a claim's name are overrides, not a row and a column
    assert main(["why", "pooled", "gain", "seeds=[0]", "title=one", *words], standalone=False) == 0
    text = capsys.readouterr().out
    assert "undecided, agrees" in text
    assert "would decide: 1 further seed in 2 cells (2 runs and 2 other tasks, about " in text, text
    assert (
        f"ablate run pooled title=one --config-dir {words[1]} 'seeds=[0,1]' --for gain" in text
        and "code 01234567" in text
    )
    assert main(["why", "pooled", "gian", *words], standalone=False) == 2
    assert "unknown table or claim 'gian'; did you mean 'gain'?" in capsys.readouterr().err
    assert main(["why", "pooled", "main", *words], standalone=False) == 2
    assert "'main' is a table" in capsys.readouterr().err


def test_unfinished_tasks_come_before_further_seeds(tmp_path: Path) -> None:
    plan = stores.plan_of(tmp_path, STUDY)
    begun: Callable[[Task], str] = lambda task: "completed" if is_small(task) and task.seed == 0 else ""  # noqa: E731
    stores.track(plan, f"sqlite:///{plan.home.store}", begun)
    first = report(plan, tmp_path / "out", ("md",)).claims[0]
    assert first.result.n_seeds == 1 and first.remedy.text == "4 planned tasks are not finished"
    assert first.remedy.command == f"ablate run pooled --config-dir {tmp_path / 'conf'} --for gain"
    assert first.remedy.runs[0] == "scale=small,method=mae_clip seed=1 [zero_shot]"
    cell = first.remedy.runs[0].partition(" ")[0]
    searching = dataclasses.replace(plan, waiting={cell: "the search of pooled is not done: ablate search pooled"})
    remedy = report(searching, tmp_path / "out", ("md",)).claims[0].remedy
    assert (remedy.text, remedy.command) == ("1 cell waits: the search of pooled is not done", "ablate search pooled")
