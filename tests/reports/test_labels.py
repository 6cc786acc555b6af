"""Labels: the texts that tables, figures, claims and the page print in place of a study's names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from stores import STUDY, write_study

from ablative.reports.store.labels import Labels
from ablative.reports.store.measures import Measures
from ablative.reports.tables.escape import latex
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
