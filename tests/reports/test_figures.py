"""Figures: what is drawn, colours that stay, fonts that conferences accept, and places that clash."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
import seaborn
import stores
from matplotlib.lines import Line2D
from matplotlib.text import Text

from ablative.reports.figures.curve_data import running_mean, window
from ablative.reports.figures.fetch import figure_data
from ablative.reports.figures.figure_data import FigureData
from ablative.reports.figures.figures import draw, save_figure
from ablative.reports.figures.signs import color
from ablative.reports.figures.style import COLUMN_INCHES, SEED, SMALLEST, STYLE, nth_line, nth_marker, palette
from ablative.reports.store.results import open_results
from ablative.study.core.errors import ConfigError
from ablative.study.plan.outputs.figure_checks import check_figure
from ablative.study.plan.plan import Plan

matplotlib.use("Agg")


def data_of(plan: Plan, name: str) -> FigureData:
    with open_results(plan) as results:
        return figure_data(name, plan.study.figures[name], results)


def drawn(data: FigureData) -> matplotlib.figure.Figure:
    with matplotlib.rc_context(STYLE):
        figure = draw(data)
        figure.canvas.draw()
    return figure


def test_bars_are_the_means(full: Plan) -> None:
    data = data_of(full, "pooling")
    figure = drawn(data)
    heights = [patch.get_height() for axis in figure.axes for patch in axis.patches]
    # shapes_shape has 12 letters; panels small and large; clip then mae_clip; map then gap; mean over seeds + 1
    wanted = [10 + 10 * (3 * scale + method) + 3 * gap + 2.2 for scale in (0, 1) for method in (0, 1) for gap in (0, 1)]
    assert heights == pytest.approx(wanted)
    assert [axis.get_title() for axis in figure.axes] == ["scale: small", "scale: large"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["clip", "mae_clip"]


def test_missing_bars_show_their_state(partial: Plan) -> None:
    figure = drawn(data_of(partial, "pooling"))
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert texts == ["waiting", "waiting", "waiting"]  # clip map, clip gap, mae_clip gap


def test_a_level_has_one_colour_in_all_figures(full: Plan) -> None:
    bars, curves = data_of(full, "pooling"), data_of(full, "training")
    for level in ("clip", "mae_clip", "mae"):
        assert color(bars, "method", level) == color(curves, "method", level)
    line = next(line for line in drawn(curves).axes[0].lines if line.get_color() == color(bars, "method", "clip"))
    patch = drawn(bars).axes[0].patches[0]
    assert patch.get_facecolor()[:3] == pytest.approx(line.get_color())
    assert len({color(bars, "method", level) for level in ("clip", "mae_clip", "mae")}) == 3


def test_axes_have_the_unit_that_the_metrics_are_declared_with(full: Plan) -> None:
    assert data_of(full, "pooling").labels == ("zero-shot top-1, shapes: shape (%)",)
    assert data_of(full, "training").labels == ("training loss",)
    assert data_of(stores.redeclared(full, "zero_shot/", unit="s"), "pooling").labels[0].endswith("shape (s)")
    axis, bar = drawn(data_of(full, "probes")).axes
    assert not any("%" in label.get_text() for label in axis.get_xticklabels()), "all columns of a heat map have it"
    assert bar.get_ylabel() == "linear probe top-1 (%)"
    mixed = stores.redeclared(full, "linear_probe/shapes_shape", unit="s")
    axis, *bars = drawn(data_of(mixed, "probes")).axes
    assert sum("(s)" in label.get_text() for label in axis.get_xticklabels()) == 1
    assert sorted(bar.get_ylabel()[-3:] for bar in bars) == ["(%)", "(s)"], "one scale for each unit"
    with pytest.raises(ConfigError, match=r"mean over .* metrics with the units %, s; choose metrics of one unit"):
        check_figure("scaling", mixed.study.figures["scaling"], mixed.study, mixed.cells, mixed.declared)


def test_curves_are_the_mean_over_seeds(full: Plan) -> None:
    curve = data_of(full, "training").curves[0]
    assert curve.steps == (0, 5, 10, 15, 30)
    assert curve.mean == pytest.approx((3.01, 2.51, 2.01, 1.51, 2.0))
    assert [values[0] for values in curve.seeds.values()] == pytest.approx((3.0, 3.01, 3.02))


def test_running_means_keep_straight_lines_and_both_ends() -> None:
    line = [2.0 * i for i in range(40)]
    assert running_mean(line, window(len(line))) == pytest.approx(line) and window(len(line)) == 3
    assert running_mean([0.0, 3.0, 6.0, 0.0, 9.0], 5) == (0.0, 3.0, 3.6, 5.0, 9.0)
    assert window(11) == 1 and window(240) == 21


def test_losses_of_different_objectives_share_no_axis(full: Plan) -> None:
    """Each objective has a row of panels, in which the thin lines are its seeds."""
    data = data_of(full, "training")
    assert [curve.quantity for curve in data.curves if curve.cell["scale"] == "large"] == [
        *("clip", "clip", "mae_clip", "mae_clip", "mae"),
    ]  # fmt: skip
    paints = {color(data, "method", method): method for method in ("clip", "mae_clip", "mae")}
    shown = [{paints[line.get_color()] for line in axis.lines} for axis in drawn(data).axes]
    assert shown == [{"clip"}, {"clip"}, {"mae_clip"}, {"mae_clip"}, set(), {"mae"}]
    figure = drawn(data)
    assert figure.axes[5].get_ylabel().split() == ["training", "loss,", "mae"]
    seeds = [line for line in figure.axes[0].lines if line.get_gid() == SEED]
    assert len(seeds) == 2 * 3 and len(figure.axes[0].lines) == 2 * 3 + 2
    assert [text.get_text() for legend in figure.legends for text in (legend.get_title(), *legend.get_texts())] == [
        *("method", "clip", "mae_clip", "mae", "pooling", "map", "gap"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["pooling", "scaling", "transfer"])
def test_single_seeds_are_dots_next_to_their_means(full: Plan, name: str) -> None:
    data = data_of(full, name)
    dots = [line for axis in drawn(data).axes for line in axis.lines if line.get_gid() == SEED]
    found = {float(y) for line in dots for y in line.get_ydata()}
    wanted = [point for point in data.points if name != "transfer" or point.position == 1]
    assert found == {value for point in wanted for value in point.seeds.values()}
    assert "single seeds" in data.notes[0] and "standard deviation" in data.notes[0]


def test_one_scale_of_a_heatmap_for_all_columns_and_panels(full: Plan) -> None:
    """The same value has the same colour everywhere; differences to the baseline are 0 in its row, and there white."""
    [mesh, *_] = drawn(data_of(full, "probes")).axes[0].collections
    assert mesh.get_clim() == (mesh.get_array().min(), mesh.get_array().max())
    config = replace(full.study.figures["probes"], where={}, panel="scale", shade="difference")
    check_figure("probes", replace(config, where={"scale": ("small",)}), full.study, full.cells, full.declared)
    figures = {"probes": config}
    data = data_of(replace(full, study=replace(full.study, figures=figures)), "probes")
    *axes, bar = drawn(data).axes
    clims = {axis.collections[0].get_clim() for axis in axes}
    assert len(clims) == 1 and sum(clims.pop()) == 0 and bar.get_ylabel().split()[-1] == "(points)"
    assert all(not axis.collections[0].get_array()[0].any() for axis in axes)
    no_baseline = replace(full.study.design, baseline={})
    with pytest.raises(ConfigError, match="'shade: difference' needs a study with a baseline"):
        check_figure("probes", config, replace(full.study, design=no_baseline), full.cells)
    with pytest.raises(ConfigError, match="belongs to kind heatmap, not to bars"):
        check_figure("pooling", replace(full.study.figures["pooling"], shade="difference"), full.study, full.cells)


def test_a_heatmap_has_a_row_for_each_cell_and_a_column_for_each_task(full: Plan) -> None:
    data = data_of(full, "probes")
    axis, _ = drawn(data).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "clip, map", "clip, gap", "mae_clip, map", "mae_clip, gap", "mae",
    ]  # fmt: skip
    assert len(axis.get_xticklabels()) == len(data.labels) > 5
    assert axis.texts[0].get_text() == "41.6"  # large clip map on digits, mean over seeds: 10 + 30 + .6 + 1


@pytest.mark.parametrize("name", ["pooling", "scaling", "probes", "transfer", "training"])
def test_files_are_vector_without_type_3_fonts(full: Plan, tmp_path: Path, name: str) -> None:
    """That the same figures give the same bytes is seen in `test_renderers.py`."""
    data = data_of(full, name)
    pdf, svg, png = save_figure(data, tmp_path / name)
    assert min(text.get_fontsize() for text in drawn(data).findobj(Text)) >= SMALLEST
    assert b"/Type3" not in pdf.read_bytes() and b"/CreationDate" not in pdf.read_bytes()
    assert svg.read_text().count("<text") == 0 and "dc:date" not in svg.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")


def test_widths_are_a_columns(full: Plan) -> None:
    assert drawn(data_of(full, "transfer")).get_size_inches()[0] == COLUMN_INCHES


def test_a_level_with_a_dollar_is_text(tmp_path: Path) -> None:
    text = stores.STUDY.replace("mae_clip: {", '"$\\\\frac{": {').replace('"mae_clip"', '"$\\\\frac{"')
    text = re.sub(r"\[clip, mae_clip\]", '[clip, "$\\\\\\\\frac{"]', text)
    plan = stores.plan_of(tmp_path, text, ("seeds=[0]",))
    stores.track(plan, f"sqlite:///{plan.home.store}", value=lambda task, metric: 50.0)
    data = data_of(plan, "scaling")
    assert "$\\frac{" in data.levels["method"]
    save_figure(data, tmp_path / "figure")


def test_nothing_to_draw(tmp_path: Path) -> None:
    plan = stores.plan_of(tmp_path)
    assert all(data_of(plan, name).empty for name in plan.study.figures)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("x: scale, hue: method, panel: pooling", "x: scale, hue: method", "several cells share the place.*pooling"),
        (
            "metric: [zero_shot/shapes_shape/top1, linear_probe/shapes_shape/top1]",
            "metric: train/loss",
            "needs 2 metrics",
        ),
    ],
)
def test_figures_that_cannot_be_drawn_as_declared(tmp_path: Path, old: str, new: str, message: str) -> None:
    name = "scaling" if "pooling" in old else "transfer"
    with pytest.raises(ConfigError, match=f"figure '{name}': .*{message}"):
        stores.plan_of(tmp_path, stores.STUDY.replace(old, new))


def test_no_two_levels_have_the_same_sign_however_many_there_are() -> None:
    signs = [nth_marker(i) for i in range(40)]
    lines = [nth_line(i) for i in range(40)]
    assert len(set(map(repr, signs))) == len(set(map(repr, lines))) == 40
    for sign, line in zip(signs, lines, strict=True):
        Line2D([], [], marker=sign, linestyle=line)


@pytest.mark.parametrize("count", [0, 1, 10, 11, 30])
def test_the_palette_is_seaborns(count: int) -> None:
    expected = seaborn.color_palette("colorblind" if count <= 10 else "husl", count) if count else []
    assert palette(count) == list(expected) and len(set(palette(count))) == count
