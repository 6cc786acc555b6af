"""Pictures of what models see, several cells side by side, from the arrays that tasks have kept for them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ablative.reports.figures.figure_data import FigureData
from ablative.reports.figures.style import FAINT, INK, SMALLEST, Color, nth_marker, palette
from ablative.reports.store.coverage import StoredState
from ablative.reports.store.labels import Labels
from ablative.reports.store.results import Results
from ablative.reports.store.warehouse import cell_key
from ablative.study.home.panel_pictures import BESIDE, NEEDED
from ablative.study.spec.design import Cell, differences

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ablative.study.plan.plan import Plan


EXAMPLES = 4
"""Rows of a figure, of which a model's archive may hold more."""
MOST_ROWS = 8
"""Rows of tiles that fit on a page, of figures with a row for each model and query."""
TILE_INCHES = 0.95
LEGEND_INCHES, LETTER_INCHES = 0.3, 0.055
"""Width of a legend's entry without its text, and of a letter."""
NOTES = {
    "grad_cam": "Light: where the tokens of the last block raise the similarity to the prompt (Grad-CAM).",
    "similarity": "Cosine of each patch with the text, from the lowest value in the image (dark) to the highest "
    "(light), which are printed below.",
    "segmentation": "Each pixel has the class whose prompt its patch is most similar to; white: undecided.",
    "fine_tuned_segmentation": "Labels of pixels by a model that was trained to segment; white: undecided or ignored.",
    "detection": "Boxes and masks by a model that was trained to detect, those of a score of a half or more.",
    "reconstruction": "For each model what it sees and what it restores; hidden patches take mean and contrast of the "
    "true ones where it was trained on normalised patches.",
    "retrieval": "Nearest test images to a caption, the best on the left; thick frame: the caption's own.",
    "tsne": "t-SNE of the pooled features of test images (scikit-learn, seed recorded with the configuration).",
}


@dataclass(frozen=True)
class Shown:
    """The arrays of one cell."""

    title: str
    seed: int
    arrays: Mapping[str, Any]


def pictures(
    show: str, cells: Sequence[Cell], results: Results, names: Labels
) -> tuple[tuple[Shown, ...], tuple[str, ...]]:
    """The cells that have the pictures, the first seed of each that is finished, and the figure's notes."""
    found, lacking = [], []
    for cell in cells:
        arrays, seed = _first(show, cell, results)
        if arrays:
            found.append(Shown(_title(cell, cells, names), seed, arrays))
        else:
            lacking.append(_title(cell, cells, names))
    seeds = sorted({shown.seed for shown in found})
    notes = [
        NOTES[show],
        f"Seed {', '.join(map(str, seeds))}.",
        f"No such pictures of: {', '.join(lacking)}." if lacking else "",
    ]
    return tuple(found), tuple(note for note in notes if note) if found else ()


def _first(show: str, cell: Cell, results: Results) -> tuple[dict[str, Any], int]:
    """A picture's arrays, of the first data set that has them, of the first finished seed with such an archive in this
    home; and the seed."""
    for (key, _), states in results.coverage.tasks.items():
        for state in states if key == cell_key(cell) else ():
            for path in _archives(state, results.plan):
                with np.load(path, allow_pickle=False) as archive:
                    if all(name in archive for name in NEEDED[show]):
                        wanted = (*NEEDED[show], *BESIDE.get(show, ()))
                        return {name: archive[name] for name in wanted if name in archive}, state.task.seed
    return {}, 0


def _archives(state: StoredState, plan: Plan) -> list[Path]:
    """Where the pictures of a task lie; none of unfinished ones, and those of another home."""
    task = state.task
    if state.state != "completed":
        return []
    paths = plan.trainer.archives(task.stage, task.config, task.paths(plan.home))
    return [path for path in paths if path.exists()]


def _title(cell: Cell, cells: Sequence[Cell], names: Labels) -> str:
    """The levels in which a cell differs from the others."""
    own = {factor for other in cells for factor in differences(cell, other)}
    return names.cell({factor: level for factor, level in cell.items() if factor in own})


def draw_panels(data: FigureData, color: Callable[[str, str], Color]) -> Figure:
    """The figure: for each example (or query) what each cell makes of it."""
    drawers = {
        "grad_cam": _grad_cam,
        "similarity": _similarity,
        "segmentation": _segmentation,
        "fine_tuned_segmentation": _segmentation,
        "detection": _detection,
        "reconstruction": _reconstruction,
        "retrieval": _retrieval,
        "tsne": _tsne,
    }
    return drawers[data.config.show](data.own, data.page)


def _figure(rows: int, columns: int, extra: float, page: float) -> Figure:
    """A figure for square tiles, at most as wide as a page; `extra`: further inches of height."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    tile = min(TILE_INCHES, (page - 0.2) / columns)
    close = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    return Figure(figsize=(0.2 + tile * columns, extra + tile * rows), layout=close)


def _tiles(figure: Any, rows: int, columns: int) -> Any:
    """Axes (rows, columns) of a figure or a part of one, framed and without scales."""
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(True)
        axis.spines[:].set_color(FAINT)
        axis.spines[:].set_linewidth(0.4)
    return axes


def _put(axis: Axes, image: Any, **how: Any) -> None:
    axis.imshow(image, interpolation="none", **how)


def _heads(axes: Any, titles: Sequence[str]) -> None:
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title("\n".join(textwrap.wrap(title, 18)), fontsize=8)


def _grad_cam(shown: Sequence[Shown], page: float) -> Figure:
    first = shown[0].arrays
    rows = min(EXAMPLES, len(first["images"]))
    figure = _figure(rows, 1 + len(shown), 0.05, page)
    axes = _tiles(figure, rows, 1 + len(shown))
    for i in range(rows):
        _put(axes[i][0], first["images"][i])
        axes[i][0].set_ylabel("\n".join(textwrap.wrap(str(first["prompts"][i]), 16)), fontsize=SMALLEST)
        for j, own in enumerate(shown, start=1):
            grey = own.arrays["images"][i].mean(axis=-1)
            _put(axes[i][j], grey, cmap="gray", vmin=0, vmax=255)
            _put(axes[i][j], own.arrays["grad_cam"][i], cmap="inferno", vmin=0, vmax=255, alpha=0.6)
    _heads(axes, ["image", *(own.title for own in shown)])
    return figure


def _similarity(shown: Sequence[Shown], page: float) -> Figure:
    first = shown[0].arrays
    rows = [
        (i, t) for i in range(min(EXAMPLES, len(first["images"]))) for t, text in enumerate(first["texts"][i]) if text
    ][:MOST_ROWS]
    figure = _figure(len(rows), 1 + len(shown), 0.05 + 0.12 * len(rows), page)
    axes = _tiles(figure, len(rows), 1 + len(shown))
    for row, (i, t) in zip(axes, rows, strict=True):
        _put(row[0], first["images"][i])
        lines = textwrap.wrap(str(first["texts"][i][t]), 16, max_lines=4, placeholder=" …")
        row[0].set_ylabel("\n".join(lines), fontsize=SMALLEST)
        for axis, own in zip(row[1:], shown, strict=True):
            height, width, _ = own.arrays["images"][i].shape
            cosines = own.arrays["similarity"][i][t]
            _put(axis, own.arrays["images"][i].mean(axis=-1), cmap="gray", vmin=0, vmax=255)
            _put(axis, cosines, cmap="inferno", alpha=0.6, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
            axis.set_xlabel(f"{cosines.min():.2f} to {cosines.max():.2f}", fontsize=SMALLEST, labelpad=1)
    _heads(axes, ["image", *(own.title for own in shown)])
    return figure


def _segmentation(shown: Sequence[Shown], page: float) -> Figure:
    first = shown[0].arrays
    names = [str(name) for name in first["names"]]
    paints = _palette(len(names))
    maps = [("truth", first["truth"])] if "truth" in first else []
    kind = "segments" if "segments" in first else "fine_tuned"
    maps += [(own.title, own.arrays[kind]) for own in shown]
    figure, axes = _images(first["images"], [title for title, _ in maps], page)
    used: set[int] = set()
    for i, row in enumerate(axes):
        for axis, labels in zip(row[1:], [own[i] for _, own in maps], strict=True):
            used |= {int(label) for label in np.unique(labels) if label < len(names)}
            _put(axis, paints[np.where(labels < len(names), labels, len(names))])
    _label_legend(figure, names, paints, used)
    return figure


def _detection(shown: Sequence[Shown], page: float) -> Figure:
    from matplotlib.patches import Rectangle

    first = shown[0].arrays
    names = [str(name) for name in first["names"]]
    paints = _palette(len(names))
    columns = [("truth", [first[name] for name in ("truth", "boxes_truth", "labels_truth")])]
    columns += [(own.title, [own.arrays[name] for name in ("masks", "boxes", "labels_found")]) for own in shown]
    figure, axes = _images(first["images"], [title for title, _ in columns], page)
    used: set[int] = set()
    for i, row in enumerate(axes):
        for axis, (_, (masks, boxes, labels)) in zip(row[1:], columns, strict=True):
            _put(axis, first["images"][i].mean(axis=-1), cmap="gray", vmin=0, vmax=255)
            seen = (masks[i] > 0) & (masks[i] < len(names))
            _put(axis, np.dstack([paints[np.where(seen, masks[i], 0)], 0.6 * seen]))
            for (left, top, right, bottom), label in zip(boxes[i], labels[i], strict=True):
                if label:
                    used.add(int(label))
                    corner = (left - 0.5, top - 0.5)
                    axis.add_patch(
                        Rectangle(corner, right - left, bottom - top, fill=False, edgecolor=paints[label], lw=1)
                    )
    _label_legend(figure, names, paints, used)
    return figure


def _images(images: Any, titles: Sequence[str], page: float) -> tuple[Figure, Any]:
    """A figure with an image in the first place of each row, and its axes; `titles` are those of the other places."""
    rows = min(EXAMPLES, len(images))
    figure = _figure(rows, 1 + len(titles), 0.55, page)
    axes = _tiles(figure, rows, 1 + len(titles))
    for i in range(rows):
        _put(axes[i][0], images[i])
    _heads(axes, ["image", *titles])
    return figure, axes


def _label_legend(figure: Figure, names: Sequence[str], paints: Any, used: set[int]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=paints[label], label=names[label], edgecolor=FAINT, lw=0.4) for label in sorted(used)]
    column = LEGEND_INCHES + LETTER_INCHES * max((len(names[label]) for label in used), default=0)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=max(1, min(5, int(figure.get_figwidth() / column))),
        handlelength=1, fontsize=SMALLEST, columnspacing=1,
    )  # fmt: skip


def _palette(count: int) -> Any:
    """RGB (count + 1, 3): light grey for the background, which is label 0, then the classes; white for undecided."""
    return np.array([(0.88, 0.88, 0.88), *palette(count - 1), (1.0, 1.0, 1.0)])


def _reconstruction(shown: Sequence[Shown], page: float) -> Figure:
    first = shown[0].arrays
    rows = min(EXAMPLES, len(first["images"]))
    figure = _figure(rows, 1 + 2 * len(shown), 0.2, page)
    axes = _tiles(figure, rows, 1 + 2 * len(shown))
    for i in range(rows):
        _put(axes[i][0], first["images"][i])
        for j, own in enumerate(shown):
            seen = own.arrays["visible"][i][..., None] > 0
            _put(axes[i][1 + 2 * j], np.where(seen, own.arrays["images"][i], 128))
            _put(axes[i][2 + 2 * j], own.arrays["restored"][i])
    _heads(axes, ["image", *(text for own in shown for text in ("seen", own.title))])
    return figure


def _retrieval(shown: Sequence[Shown], page: float) -> Figure:
    queries = [str(query) for query in shown[0].arrays["queries"]][: max(1, MOST_ROWS // len(shown))]
    columns = shown[0].arrays["found"].shape[1]
    figure = _figure(len(queries) * len(shown), columns, 0.25 * len(queries), page)
    parts = figure.subfigures(len(queries), 1, squeeze=False)[:, 0]
    for i, (part, query) in enumerate(zip(parts, queries, strict=True)):
        axes = _tiles(part, len(shown), columns)
        part.suptitle("\n".join(textwrap.wrap(f"“{query}”", 17 * columns)), fontsize=8, x=0.02, ha="left")
        for row, own in zip(axes, shown, strict=True):
            row[0].set_ylabel("\n".join(textwrap.wrap(own.title, 16)), fontsize=SMALLEST)
            for axis, image, hit in zip(row, own.arrays["found"][i], own.arrays["hits"][i], strict=True):
                _put(axis, image)
                if hit:
                    axis.spines[:].set_color(INK)
                    axis.spines[:].set_linewidth(2.2)
    return figure


def _tsne(shown: Sequence[Shown], page: float) -> Figure:
    from matplotlib.lines import Line2D

    names = [str(name) for name in shown[0].arrays["classes"]]
    paints = _palette(len(names) + 1)[1:-1]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = _figure(rows, columns, 0.0, page)
    axes = _tiles(figure, rows, columns)
    figure.set_size_inches(min(page, 2.2 * columns), 2.2 * axes.shape[0] + 0.55)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, own in zip(axes.flat, shown, strict=False):
        points, labels = own.arrays["points"], own.arrays["labels"]
        for label in np.unique(labels):
            chosen = points[labels == label]
            axis.plot(
                chosen[:, 0], chosen[:, 1], linestyle="", marker=nth_marker(label), markersize=2.6,
                color=paints[label], markeredgewidth=0,
            )  # fmt: skip
        axis.set_title(own.title)
    if len(names) <= 12:
        handles = [
            Line2D([], [], linestyle="", marker=nth_marker(i), color=paints[i], label=name)
            for i, name in enumerate(names)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=SMALLEST, handletextpad=0.2)
    return figure
