"""Labels: the texts that tables, figures, claims and the page print in place of a study's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from stores import STUDY, plan_of, track, write_study

from ablative.reports.build import report
from ablative.reports.store.labels import Labels
from ablative.reports.store.measures import Measures
from ablative.reports.store.results import open_results
from ablative.reports.tables.escape import latex
from ablative.reports.verdicts.claim_runs import judge_claims
from ablative.reports.verdicts.claim_tables import lines
from ablative.study.core.errors import ConfigError
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan, make_plan
from ablative.study.spec.inherit import without_removed
from ablative.study.spec.labels import joined, parse_labels

FACTORS = {"temperature": ("0.07", "learned", "tau"), "units": ("px", "cm")}
LABELS = r"""
labels:
  factors: {method: Pretraining}
  method: {mae_clip: MAE-CLIP, mae: {text: MAE (λ = 1), latex: "MAE ($\\lambda = 1$)"}}
  metrics: {"linear_probe/*/top1": LP, zero_shot/shapes_shape/top1: {text: ZS, latex: "\\textsc{zs}"}}
  columns: {shape: Shapes, Probes: "Linear probes, 5 %"}
  units: {"%": per cent}
  axes: {data.pairs: Image-text pairs}
"""


def labelled(folder: Path, labels: str = LABELS) -> Plan:
    return make_plan("pooled", config_dir=str(write_study(folder, STUDY + labels)), home=Home(folder / "home"))


def test_names_are_printed_as_their_labels_and_without_one_as_they_are(tmp_path: Path) -> None:
    plan = labelled(tmp_path)
    labels = Labels(plan.study.labels, Measures.planned(plan))
    assert (labels.factor("method"), labels.factor("pooling")) == ("Pretraining", "pooling")
    assert labels.cell({"method": "mae", "scale": "small"}) == "MAE (λ = 1), small"
    assert latex(labels.cell({"method": "mae", "scale": "50 %"})) == r"MAE ($\lambda = 1$), 50 \%"
    assert latex(joined(": ", [labels.factor("pooling"), labels.level("method", "mae_clip")])) == "pooling: MAE-CLIP"
    assert labels.quantity(["zero_shot/shapes_shape/top1"]) == "ZS (per cent)"
    assert latex(labels.quantity(["zero_shot/shapes_shape/top1"])) == r"\textsc{zs} (per cent)"
    assert labels.quantity(["linear_probe/shapes_color/top1"]) == "LP, shapes: color (per cent)"
    assert labels.quantity(["linear_probe/shapes_color/top1", "linear_probe/digits/top1"]) == "LP, mean of 2 (per cent)"
    assert labels.metric("zero_shot/shapes_color/top5") == "zero-shot top-5, shapes: color"
    assert labels.quantity(["train/loss"]) == "training loss"
    assert (labels.metric("sample/1.5/max_error"), labels.metric("fit/r2")) == ("sample 1.5/max error", "fit r2")
    assert (labels.axis("data.pairs"), labels.axis("step"), labels.column("shape")) == (
        "Image-text pairs",
        "step",
        "Shapes",
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"temperature": {"tua": "τ"}}, "labels.temperature: unknown level 'tua'; did you mean 'tau'?"),
        ({"levels": {"unit": {"px": "pixels"}}}, "labels: unknown factor 'unit'; did you mean 'units'?"),
        ({"metric": {"a/b": "B"}}, "labels: unknown factor 'metric'; did you mean 'metrics'?"),
        ({"factors": {"temperatur": "τ"}}, "labels.factors: unknown factor 'temperatur'; did you mean 'temperature'?"),
        ({"temperature": {0.07: "tau"}}, "the levels '0.07' and 'tau' are both printed as 'tau'"),
        ({"factors": {"units": "U", "temperature": "U"}}, "the factors 'temperature' and 'units' are both printed as"),
        ({"temperature": {"tau": {"text": "τ", "tex": "x"}}}, "labels.temperature.tau: unknown key 'tex'"),
        ({"temperature": {"tau": ["τ"]}}, "labels.temperature.tau: expected a text, or {text:"),
        ({"temperature": {"tau": " "}}, "labels.temperature.tau: expected a text on one line"),
        ({"temperature": "τ"}, "labels.temperature: expected names and labels"),
        ([], "labels: expected names and labels"),
    ],
)
def test_a_label_of_nothing_and_two_equal_ones_are_refused(labels: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_labels(labels, FACTORS, "a.yaml: labels")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("metrics: {zero_shot/*/top2: x}", "labels.metrics: unknown metric 'zero_shot/*/top2'; did you mean"),
        ("columns: {shapes: x}", "labels.columns: unknown column 'shapes'; did you mean 'shape'?"),
        ("units: {percent: x}", "labels.units: unknown unit 'percent'"),
        ("axes: {data.pair: x}", "labels.axes: unknown axis 'data.pair'; did you mean 'data.pairs'?"),
    ],
)
def test_the_plan_refuses_a_label_of_what_no_output_shows(tmp_path: Path, part: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        labelled(tmp_path, f"labels:\n  {part}\n")
    assert message in str(error.value)


def test_a_label_goes_with_its_level_and_its_factor() -> None:
    study: Mapping[str, object] = {
        "factors": {"method": {"clip": {}, "mae": None}, "pooling": None},
        "labels": {
            "factors": {"method": "Method", "pooling": "Pooling"},
            "method": {"clip": "CLIP", "mae": "MAE"},
            "pooling": {"map": "MAP"},
            "levels": {"pooling": {"gap": "GAP"}},
        },
    }
    left = {"factors": {"method": "Method"}, "method": {"clip": "CLIP"}, "levels": {}}
    assert without_removed(study)["labels"] == left


def test_a_label_goes_with_the_output_whose_column_it_names_and_with_the_axis_of_a_factor() -> None:
    columns = {"acc": "Accuracy", "n": "Count", "probes": "Probes"}
    study: dict[str, object] = {
        "factors": {"pooling": None},
        "tables": {"main": None, "small": {"columns": [{"metric": "a/b", "group": "probes"}]}},
        "queries": {"own": {"sql": "select 1", "columns": {"n": {}}}},
        "labels": {"columns": columns, "axes": {"pooling": "Pooling", "step": "Step"}},
    }
    left = {"columns": {"n": "Count", "probes": "Probes"}, "axes": {"step": "Step"}}
    assert without_removed(study)["labels"] == left
    whole = {**study, "tables": {"main": {"columns": []}}}
    assert without_removed(whole)["labels"]["columns"] == columns, "with all its tables, a study's labels are checked"


def test_results_from_python_have_a_column_for_each_factor(full: Plan) -> None:
    from ablative.reports import claims, curves, results, table

    where = {"config_dir": full.home.root.parent / "conf", "home": full.home.root}
    frame = results("pooled", **where)
    assert list(frame.columns) == ["scale", "method", "pooling", "seed", "metric", "value", "unit", "run_id"]
    chosen = frame.query("scale == 'small' and method == 'clip' and metric == 'zero_shot/shapes_shape/top1'")
    assert set(chosen["unit"]) == {"%"} and len(chosen) == 6
    numbers = table("pooled", "main", **where).set_index(["method", "pooling", "column"])
    assert numbers.loc[("clip", "map", "small / Zero-shot / shape"), "n"] == 3
    mean = chosen.query("pooling == 'map'")["value"].mean()
    assert numbers.loc[("clip", "map", "small / Zero-shot / shape"), "mean"] == pytest.approx(mean)
    assert set(curves("pooled", "train/loss", **where)["step"]) == {0, 5, 10, 15, 30}
    assert claims("pooled", **where).empty


RAW = """
name: pooled
title: Labels everywhere
base: {model: tiny, data: shapes, schedule: demo}
seeds: [0, 1]
factors:
  raw_scale: {raw_s: {data.pairs: 1000}, raw_l: {data.pairs: 2000}}
  raw_way: {raw_c: {objective: clip}, raw_m: {objective: mae_clip}, raw_x: {objective: masked_clip}}
  raw_on: {raw_y: {model.pooling: map}, raw_n: {model.pooling: gap}}
baseline: {raw_scale: raw_s, raw_way: raw_c, raw_on: raw_y}
protocols: [zero_shot]
labels:
  factors: {raw_scale: Scale, raw_way: Way, raw_on: Attention}
  raw_scale: {raw_s: Small, raw_l: Large}
  raw_way: {raw_c: C, raw_m: {text: M λ, latex: $M_\\lambda$}, raw_x: "yes"}
  raw_on: {raw_y: "yes", raw_n: "no"}
  columns: {raw_col: Shape, raw_group: Group, raw_value: Value}
  metrics: {zero_shot/*/top1: Accuracy, train/loss: Loss}
tables:
  main:
    rows: [raw_way, raw_on]
    split: raw_scale
    delta: true
    columns: [{label: raw_col, metric: zero_shot/shapes_shape/top1, group: raw_group}]
effects:
  factors: {factors: [raw_scale, raw_way, raw_on], columns: [{label: raw_col, metric: zero_shot/shapes_shape/top1}]}
queries:
  own:
    sql: >
      select cell ->> 'raw_way' as raw_way, seed, value as raw_value from results
      where metric = 'zero_shot/shapes_shape/top1' and cell ->> 'raw_scale' = 'raw_s' and cell ->> 'raw_on' = 'raw_n'
    columns: {raw_value: {better: higher}}
figures:
  bars: {kind: bars, metric: zero_shot/shapes_shape/top1, x: raw_on, hue: raw_way, panel: raw_scale}
  training: {kind: curves, metric: train/loss, hue: raw_way, panel: raw_scale}
claims:
  one:
    metric: zero_shot/shapes_shape/top1
    statement: "raw_m[raw_y, raw_l] - raw_c[raw_on.raw_y, raw_l] > raw_m[raw_n, raw_l] - 'raw_c'[raw_n, raw_l]"
  two: {statement: raw_x > raw_c and raw_y ~ raw_n, metric: "zero_shot/*/top1", every: true, margin: 1}
"""
"""Names that are to be seen nowhere: `yes` is the label of two levels."""


def printed(path: Path) -> str:
    """What a reader sees of a file: no comments, attributes, labels, scripts and commands."""
    text = path.read_text()
    if path.suffix == ".tex":
        return re.sub(r"\\label\{.*?\}|^%.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"<(script|style|code|li)\b.*?</\1>|(?<=<)[^<>]*(?=>)", "", text, flags=re.DOTALL)
    return re.sub(r"`[^`]*`|^- .*$", "", text, flags=re.MULTILINE)


def test_no_file_of_a_report_prints_a_name_that_has_a_label(tmp_path: Path) -> None:
    whole = plan_of(tmp_path, RAW)
    track(
        whole, f"sqlite:///{whole.home.store}", value=lambda task, _: 10.0 * len(task.cells[0]["raw_way"]) + task.seed
    )
    plan = plan_of(tmp_path, RAW, ("drop=[{raw_way: raw_x, raw_on: raw_n, raw_scale: raw_l}]", "claims.two=null"))
    report(plan, tmp_path / "out", ("md", "tex", "html"))
    files = [path for path in sorted((tmp_path / "out").rglob("*")) if path.suffix in (".md", ".tex", ".html", ".svg")]
    found = {path.name: re.findall(r".{0,60}raw(?:_|\\_).{0,40}", printed(path)) for path in files}
    found.pop("numbers.tex")  # keys stay
    assert {name: own for name, own in found.items() if own} == {}
    page, latex_text = printed(tmp_path / "out/index.html"), printed(tmp_path / "out/claims.tex")
    assert "M λ[Attention: yes, Large] − C[Attention: yes, Large] &gt; M λ[no, Large] − C[no, Large]" in page
    assert r"$M_\lambda$[Attention: yes, Large] $-$ C" in latex_text
    with open_results(whole) as results:
        [two] = judge_claims(results, ("two",))
    shown = ["Way: yes > C on Accuracy, shapes: color", "Attention: yes ~ no on Accuracy, shapes: color"]
    assert [line.statement for line in lines(two)] == shown
