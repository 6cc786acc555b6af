"""Figures beyond bars and lines: crossings by hand, effects, groups of tasks, pictures, and the user's own."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
import yaml
from matplotlib.text import Text
from test_figures import data_of, drawn

from ablative.reports.build import report
from ablative.reports.figures.fetch import line_crossings
from ablative.reports.figures.figure_data import Point
from ablative.reports.figures.figures import save_figure
from ablative.reports.figures.signs import color
from ablative.reports.figures.style import SMALLEST
from ablative.reports.stats.crossings import crossings, meetings
from ablative.reports.store.warehouse import cell_key
from ablative.study.core.errors import ConfigError
from ablative.study.home.panel_pictures import NEEDED
from ablative.study.home.paths import Home
from ablative.study.plan.outputs.figure_checks import check_figure
from ablative.study.plan.plan import Plan, Task, make_plan
from ablative.study.spec.outputs import FigureConfig
from ablative.trainer.clip.spec.panel_pictures import pictures_path

FIGURES = """
  protocols: {kind: bars, metric: [zero_shot/shapes_shape/top1, linear_probe/digits/top1], x: scale, hue: method,
    panel: metric, spread: ci, where: {method: [clip, mae_clip], pooling: map}}
  curve: {kind: lines, metric: zero_shot/shapes_shape/top1, x: scale, hue: method, panel: pooling,
    position: data.pairs, spread: ci, where: {method: [clip, mae_clip]}}
  vtab: {kind: heatmap, x: method, where: {scale: large},
    metric: [linear_probe/@natural/top1, linear_probe/shapes_count/top1, linear_probe/@structured/top1]}
  moved: {kind: effects, effects: factors}
  mine: {kind: custom, function: own_figure.py:spread, sql: "select cell->>'method' as method, value from results
    where metric = 'train/loss' order by all"}
  seen: {kind: panels, show: grad_cam, where: {scale: large}}
  similar: {kind: panels, show: similarity, where: {scale: large}}
  segments: {kind: panels, show: segmentation, where: {scale: large}}
  labelled: {kind: panels, show: fine_tuned_segmentation, where: {scale: large}}
  boxed: {kind: panels, show: detection, where: {scale: large}}
  restored: {kind: panels, show: reconstruction, where: {scale: large}}
  found: {kind: panels, show: retrieval, where: {scale: large, method: clip}}
  map: {kind: panels, show: tsne, where: {scale: large}}
"""
TEXT = stores.STUDY[: stores.STUDY.index("figures:")] + "figures:" + FIGURES
TEXT = TEXT.replace("protocols: [zero_shot, linear_probe]", "protocols: [zero_shot, linear_probe, panels]")

OWN = """
def spread(figure, frame, color):
    axis = figure.subplots()
    for method, rows in frame.groupby("method"):
        axis.plot(rows.value.to_numpy(), color=color("method", method), label=method)

def broken(figure, frame, color):
    return frame.nothing
"""


def crossing(task: Task, metric: str) -> float:
    """At 1,000 pairs mae_clip leads by 4, at 2,000 clip does by 4 (seed 0), 2 (seed 1) or nothing ever (seed 2)."""
    cell = task.cells[0]
    leads = {"small": 4.0, "large": (-4.0, -2.0, 4.0)[task.seed]}[cell["scale"]]
    return 50.0 + (leads if cell["method"] == "mae_clip" else 0.0)


def pictures(task: Task) -> dict[str, Any]:
    """Arrays as the protocol keeps them, of two examples; the models without a joint embedding lack theirs."""
    generator = np.random.default_rng(task.seed)
    images = generator.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    labels = generator.integers(0, 3, (2, 8, 8), dtype=np.uint8)
    arrays: dict[str, Any] = {"points": images[0, :, :2, 0].astype(np.float32), "labels": np.arange(8) % 3}
    arrays |= {"images": images, "classes": np.array(["a", "<b>", "$c"])}
    if task.cells[0]["method"] == "mae":
        return arrays | {"visible": labels % 2, "restored": images}
    found = np.stack([np.stack([images[i % 2] for i in range(5)])] * 2)
    arrays |= {"prompts": np.array(["a photo of <b>", "$c"]), "grad_cam": images[..., 0]}
    arrays |= {"texts": np.array([["two <b> in $c", "<b>"], ["$c", ""]])}
    arrays |= {"similarity": generator.uniform(0.1, 0.3, (2, 2, 4, 4)).astype(np.float32)}
    arrays |= {"truth": labels, "segments": np.where(labels > 1, 255, labels).astype(np.uint8)}
    arrays |= {"names": np.array(["background", "a", "<b>"]), "fine_tuned": labels, "masks": labels}
    boxes = np.array([[[0, 1, 4, 6], [0, 0, 0, 0]], [[2, 2, 7, 8], [0, 0, 3, 3]]], dtype=np.float32)
    numbers = np.array([[1, 0], [2, 1]])
    arrays |= {"boxes": boxes, "boxes_truth": boxes, "labels_found": numbers, "labels_truth": numbers}
    return arrays | {"queries": np.array(["one", "two"]), "found": found, "hits": np.eye(2, 5, dtype=bool)}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A finished study with a figure of each further kind, and pictures of its seed 0: of digits the t-SNE alone."""
    folder = tmp_path_factory.mktemp("wide")
    plan = stores.plan_of(folder, TEXT, ("suite.protocols.panels=[digits,shapes]",))
    stores.track(plan, f"sqlite:///{plan.home.store}", value=crossing)
    for task in plan.tasks:
        if task.stage == "panels" and task.seed == 0:
            arrays = pictures(task)
            points = {name: arrays.pop(name) for name in NEEDED["tsne"]}
            for dataset, own in (("digits", points | {"images": arrays["images"]}), ("shapes", arrays)):
                path = pictures_path(task.paths(plan.home), dataset)
                path.parent.mkdir(parents=True, exist_ok=True)
                np.savez(path, **own)
    return plan


def test_lines_meet_by_hand() -> None:
    assert meetings([10, 1000], [0.0, 1.0], [1.0, 0.0]) == [(100.0, 0.5)]
    assert meetings([10, 100, 1000], [0, 3, 0], [1, 1, 1]) == [
        (pytest.approx(10 ** (1 + 1 / 3)), 1.0),
        (pytest.approx(10 ** (2 + 2 / 3)), 1.0),
    ]
    assert meetings([10, 1000], [0.0, 1.0], [1.0, 2.0]) == []


def test_crossings_of_means_and_of_single_seeds() -> None:
    one = {10.0: {0: 0.0, 1: 0.0, 2: 0.0}, 1000.0: {0: 1.0, 1: 3.0, 2: -1.0}}
    other = {10.0: {0: 1.0, 1: 1.0, 2: 1.0, 3: 9.0}, 1000.0: {0: 0.0, 1: 0.0, 2: 0.0}, 5000.0: {0: 0.0}}
    [found] = crossings(one, other, {10.0: -1, 1000.0: 1}.__getitem__)
    # means: gap -1 at 10, +1 at 1000; seed 0 meets halfway (100), seed 1 at a quarter, seed 2 never
    assert found.place == pytest.approx(100) and found.seeds == 3 and found.supported
    assert found.single == pytest.approx((10**1.5, 100))
    for sides in ({10.0: 0, 1000.0: 1}, {10.0: -1, 1000.0: 0}, {10.0: 1, 1000.0: 1}):
        assert not crossings(one, other, sides.__getitem__)[0].supported


def test_scaling_curves_have_numbers_and_intervals_but_no_ring_that_a_side_does_not_support(wide: Plan) -> None:
    data = data_of(wide, "curve")
    [low, high] = [found for _, found in data.meetings]
    # in the mean over seeds the lead goes from 4 to -2/3: meets at 4 / (4 + 2/3) of the way from 1,000 to 2,000
    assert low.place == high.place == pytest.approx(1000 * 2 ** (6 / 7))
    assert not low.supported and "Lines that cross without a ring" in data.notes[1]
    axis = drawn(data).axes[0]
    assert axis.get_xscale() == "log" and [label.get_text() for label in axis.get_xticklabels()] == ["1,000", "2,000"]
    assert not any(line.get_markersize() > 8 for line in axis.lines)


def test_a_ring_at_a_crossing_that_both_sides_support(wide: Plan) -> None:
    """The lead goes from 4 to -3 in the mean over seeds, each time by far more than the seeds differ."""

    def moved(point: Point) -> Point:
        lead = {"small": 4.0, "large": -3.0}[point.cell["scale"]] if point.cell["method"] == "mae_clip" else 0.0
        noise = {seed: (0.0, 0.2, -0.1)[seed] for seed in point.seeds}
        seeds = {seed: 50.0 + lead + (4 if lead else 1) * noise[seed] for seed in point.seeds}
        return dataclasses.replace(point, seeds=seeds)

    data = data_of(wide, "curve")
    points = tuple(map(moved, data.points))
    found = line_crossings(data.config, points, data.places)
    assert [(panel, crossing.supported) for panel, crossing in found] == [("map", True), ("gap", True)]
    axis = drawn(dataclasses.replace(data, points=points, meetings=found)).axes[0]
    [ring] = [line for line in axis.lines if line.get_markersize() > 8]
    assert ring.get_xdata()[0] == found[0][1].place == pytest.approx(1500, abs=20)
    noisy = tuple(dataclasses.replace(p, seeds={s: v + 9 * (s - 1) for s, v in p.seeds.items()})
                  if p.cell["method"] == "clip" else p for p in points)  # fmt: skip
    assert not any(crossing.supported for _, crossing in line_crossings(data.config, noisy, data.places))


def test_whiskers_are_the_intervals_of_a_table_of_the_same_cells(wide: Plan) -> None:
    where = {"scale": ("large",), "method": ("clip", "mae_clip")}
    study = wide.study
    table = dataclasses.replace(study.tables["main"], where=where, columns=study.tables["main"].columns[:1])
    figure = dataclasses.replace(study.figures["curve"], where=where)
    plan = dataclasses.replace(
        wide, study=dataclasses.replace(study, tables={"main": table}, figures={"curve": figure})
    )
    printed = {
        entry.cell: entry.ci_half_width
        for row in stores.one_table(plan, "main").rows
        for entry in row.entries
        if entry.ci_half_width
    }
    drawn_as = {cell_key(point.cell): point.whisker for point in data_of(plan, "curve").points}
    assert drawn_as == printed and len(printed) == 4


def test_a_panel_for_each_protocol(wide: Plan) -> None:
    figure = drawn(data_of(wide, "protocols"))
    labels = [" ".join(axis.get_ylabel().split()) for axis in figure.axes]
    assert labels == ["zero-shot top-1, shapes: shape (%)", "linear probe top-1, digits (%)"]
    assert all(len(axis.patches) == 4 for axis in figure.axes)


def test_a_heatmap_under_the_heads_of_its_groups(wide: Plan) -> None:
    data = data_of(wide, "vtab")
    assert data.heads == {"natural": 3, "structured": 4}
    axis, _ = drawn(data).axes
    texts = [text.get_text() for text in axis.texts]
    assert "natural" in texts and "structured" in texts and len(axis.get_xticklabels()) == 7


def test_effects_are_those_of_the_table(wide: Plan) -> None:
    data = data_of(wide, "moved")
    figure = drawn(data)
    assert len(figure.axes) == 2 * len(data.own) == 4
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["scale: large − small", "method: mae_clip − clip", "pooling: gap − map"]
    # mae_clip − clip: mean of 4 and -2/3
    [contrast] = [one for one in data.own[0].analysis.contrasts if one.factor == "method"]
    marker = next(line for line in figure.axes[0].lines if list(line.get_xdata()) == [contrast.estimate])
    assert contrast.estimate == pytest.approx((4 - 2 / 3) / 2)
    assert marker.get_color() == color(data, "method", "mae_clip")
    shares = [label.get_text() for label in figure.axes[2].get_yticklabels()]
    assert shares[3:] == ["scale × method", "scale × pooling", "method × pooling", "3 factors or more", "seeds"]
    assert sum(patch.get_width() for patch in figure.axes[2].patches) == pytest.approx(100)


def test_a_figure_of_ones_own(wide: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_figure.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    data = data_of(wide, "mine")
    lines = drawn(data).axes[0].lines
    assert {line.get_label(): line.get_color() for line in lines} == {
        method: color(data, "method", method) for method in ("clip", "mae", "mae_clip")
    }
    assert sum(len(line.get_xdata()) for line in lines) == len(wide.runs)


def test_the_figure_of_the_documentation(wide: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    [line] = re.findall(r"^figures: (.*kind: custom.*)$", text, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "figures.py").write_text(code)
    figures = yaml.safe_load(line)
    config = FigureConfig(**figures["digits"])
    plan = dataclasses.replace(wide, study=dataclasses.replace(wide.study, figures={"digits": config}))
    check_figure("digits", config, plan.study, plan.cells)
    lines = drawn(data_of(plan, "digits")).axes[0].lines
    assert [line.get_label() for line in lines] == ["gap", "map"] and len(lines[0].get_xdata()) == 4 * 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("own_figure.py:spread", "own_figure.py:spred", "figure 'mine': own_figure.py: unknown function 'spred'"),
        ("own_figure.py:spread", "own_figures.py:spread", "figure 'mine': function: cannot load own_figures.py"),
        ("own_figure.py:spread", "own_figure.py:broken", "own_figure.py:broken: AttributeError: .*nothing"),
        ("from results", "from result", "figure 'mine': sql: .*result"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_figure_of_ones_own_is_said(
    wide: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    (tmp_path / "own_figure.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    folder = stores.write_study(tmp_path / "conf", TEXT.replace(old, new))
    plan = make_plan("pooled", (), str(folder), Home(wide.home.root))
    with pytest.raises(ConfigError, match=message):
        drawn(data_of(plan, "mine"))


@pytest.mark.parametrize(
    ("name", "cells", "lacking"),
    [
        ("seen", 4, "No such pictures of: mae."),
        ("similar", 4, "No such pictures of: mae."),
        ("segments", 4, "No such pictures of: mae."),
        ("labelled", 4, "No such pictures of: mae."),
        ("boxed", 4, "No such pictures of: mae."),
        ("restored", 1, "No such pictures of: clip, map, clip, gap, mae_clip, map, mae_clip, gap."),
        ("found", 2, ""),
        ("map", 5, ""),
    ],
)
def test_pictures_of_cells_side_by_side(wide: Plan, tmp_path: Path, name: str, cells: int, lacking: str) -> None:
    data = data_of(wide, name)
    assert len(data.own) == cells and "Seed 0." in data.notes
    assert (data.notes[-1] == lacking) if lacking else not any("No such" in note for note in data.notes)
    for shown in data.own:
        assert set(shown.arrays) == {*NEEDED[wide.study.figures[name].show], *(["truth"] if name == "segments" else [])}
    pdf, svg, _ = save_figure(data, tmp_path / name)
    assert min(text.get_fontsize() for text in drawn(data).findobj(Text)) >= SMALLEST
    if name == "seen":
        again = save_figure(data, tmp_path / "again")
        assert [path.read_bytes() for path in (pdf, svg)] == [path.read_bytes() for path in again[:2]]
    assert b"/Type3" not in pdf.read_bytes()


def test_every_picture_comes_from_the_first_data_set_that_has_it(tmp_path: Path) -> None:
    """One set with masks and one with labels, as the paper's suite has; and no given masks, for a single prompt."""
    plan = stores.plan_of(tmp_path, TEXT, ("suite.protocols.panels=[shapes, digits]",))
    drawn_from = (None, "panels")
    stores.track(plan, f"sqlite:///{plan.home.store}", lambda task: "completed" if task.protocol in drawn_from else "")
    for task in plan.tasks:
        if task.stage == "panels":
            arrays = pictures(task)
            parts = {"digits": ("points", "labels", "classes"), "shapes": ("images", "segments", "names")}
            for name, kept in parts.items():
                path = pictures_path(task.paths(plan.home), name)
                path.parent.mkdir(parents=True, exist_ok=True)
                np.savez(path, **{key: arrays[key] for key in kept if key in arrays})
    assert len(data_of(plan, "map").own) == 5 and data_of(plan, "seen").empty
    segments = data_of(plan, "segments")
    assert len(segments.own) == 4 and all("truth" not in shown.arrays for shown in segments.own)
    titles = [axis.get_title() for axis in drawn(segments).axes]
    assert "image" in titles and "truth" not in titles


def test_pictures_are_on_the_page_and_in_the_file_alone(
    wide: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_figure.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    report(wide, tmp_path / "out", ["html"])
    html = (tmp_path / "out" / "index.html").read_text()
    assert html.count("No results to draw yet.") == 0 and html.count("data:image/png;base64") > 10


def test_nothing_is_drawn_of_what_is_not_there(tmp_path: Path) -> None:
    plan = stores.plan_of(tmp_path, TEXT)
    assert all(data_of(plan, name).empty for name in plan.study.figures)
