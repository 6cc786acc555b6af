"""The procedural world: labels, masks and captions checked against what is drawn."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from ablative.study.core.errors import DataError
from ablative.trainer.clip.data.world import drawing, phrases
from ablative.trainer.clip.data.world import shapes as world_shapes
from ablative.trainer.clip.data.world.drawing import render
from ablative.trainer.clip.data.world.scenes import (
    COLORS,
    DIRECTIONAL,
    MANNERS,
    MAX_COUNT,
    SHAPES,
    TEXTURES,
    Scenes,
    draw_scenes,
)
from ablative.trainer.clip.data.world.shapes import TASKS, ShapePairs, ShapeSet
from ablative.trainer.clip.spec.config import DataConfig, DatasetConfig

ACTIVE = np.arange(MAX_COUNT)

GOLDEN_COUNTS = [6, 1, 2, 1, 6, 3]
GOLDEN_CAPTIONS = [
    "some shapes and a green moon",
    "photo: red cross",
    "purple star",
    "my favourite red circle next to something",
    "photo: orange ring clip art",
    "three shapes, one of them an orange star",
]
GOLDEN_MEANS = [
    [107.13, 122.23, 91.23],
    [114.15, 93.15, 90.94],
    [83.19, 75.97, 92.51],
    [127.8, 67.83, 75.56],
    [175.19, 151.39, 128.3],
    [111.06, 88.65, 73.44],
]


def scenes(number: int = 200, manner: str = "portrait") -> Scenes:
    return draw_scenes(0, "tests", np.arange(number), manner)


def lone(kind: int, angle: float = 0.0, radius: float = 0.4) -> Scenes:
    """One solid red object in the middle."""
    one = draw_scenes(0, "tests", np.array([0]))
    for values, value in ((one.kind, kind), (one.color, 0), (one.texture, 0), (one.angle, angle), (one.radius, radius)):
        values[:, 0] = value
    one.x[:, 0] = one.y[:, 0] = 0.5
    return replace(one, count=np.array([1]))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


# ---- one world for ever


def test_version_1_stays_what_it_is() -> None:
    found = draw_scenes(0, "pairs", np.arange(6))
    assert found.count.tolist() == GOLDEN_COUNTS, "the world changed: raise world.VERSION"
    assert phrases.captions(found) == GOLDEN_CAPTIONS, "captions changed: raise world.VERSION"
    means = render(found, 32)[0].reshape(6, -1, 3).mean(axis=1)
    np.testing.assert_allclose(means, GOLDEN_MEANS, atol=0.05, err_msg="drawing changed: raise world.VERSION")


def test_a_scene_is_the_same_alone_and_among_others() -> None:
    rows = np.array([3, 131, 7, 150])
    images, masks = render(scenes(), 24)
    for row in rows:
        alone = draw_scenes(0, "tests", np.array([row]))
        image, mask = render(alone, 24)
        np.testing.assert_array_equal(image[0], images[row])
        np.testing.assert_array_equal(mask[0], masks[row])
        assert phrases.captions(alone) == [phrases.captions(scenes())[row]]


def test_every_process_draws_the_same() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from ablative.trainer.clip.data.world.scenes import draw_scenes\n"
        "from ablative.trainer.clip.data.world.drawing import render\n"
        "images, masks = render(draw_scenes(0, 'tests', np.arange(50)), 32)\n"
        "print(hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest())"
    )
    images, masks = render(scenes(50), 32)
    expected = hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest()
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert printed.stdout.strip() == expected, printed.stderr


def test_seeds_and_splits_are_worlds_of_their_own() -> None:
    keys = [
        draw_scenes(seed, split, np.arange(500)).key
        for seed in (0, 1)
        for split in ("pairs", "evaluation train", "evaluation test")
    ]
    assert len(np.unique(np.concatenate(keys))) == 3000


# ---- what is drawn


def test_objects_are_counted_by_their_pixels() -> None:
    found = scenes(120)
    distance = np.hypot(found.x[:, :, None] - found.x[:, None], found.y[:, :, None] - found.y[:, None])
    distance -= found.radius[:, :, None] + found.radius[:, None]
    active = found.count[:, None] > ACTIVE
    both = active[:, :, None] & active[:, None] & ~np.eye(MAX_COUNT, dtype=bool)
    apart = np.where(both, distance, np.inf).min(axis=(1, 2)) > 0.01
    assert apart.mean() > 0.9
    masks = render(found, 160)[1]
    for row in np.flatnonzero(apart):
        pieces = np.bincount(ndimage.label(masks[row] > 0, np.ones((3, 3)))[0].ravel())[1:]
        # The outermost pixel of a star's tip may lie apart from it.
        assert (pieces > 4).sum() == found.count[row] and pieces[pieces <= 4].sum() <= 5
        kinds = found.kind[row, : found.count[row]]
        assert set(np.unique(masks[row])) == {0, *(kinds + 1)}


@pytest.mark.parametrize("manner", MANNERS)
def test_objects_hardly_overlap_and_the_main_one_is_largest(manner: str) -> None:
    found = scenes(1000, manner)
    active = found.count[:, None] > ACTIVE
    assert (found.radius[:, :1] >= np.where(active, found.radius, 0)).all()
    for axis in (found.x, found.y):
        assert (axis - found.radius)[active].min() >= -1e-9 and (axis + found.radius)[active].max() <= 1 + 1e-9
    distance = np.hypot(found.x[:, 1:] - found.x[:, :1], found.y[:, 1:] - found.y[:, :1])
    room = distance - found.radius[:, 1:] - found.radius[:, :1]
    assert (np.where(active[:, 1:], room, 1).min(axis=1) < 0).mean() < 0.02


def test_plain_objects_have_exactly_their_colour() -> None:
    found = scenes(60)
    images, masks = render(found, 96)
    checked = 0
    for row in np.flatnonzero(found.texture[:, 0] == 0):
        inside = ndimage.binary_erosion(ndimage.label(masks[row] == found.kind[row, 0] + 1)[0] > 0, iterations=2)
        near = np.hypot(*(np.mgrid[:96, :96] + 0.5 - 96 * np.array([found.y[row, 0], found.x[row, 0]])[:, None, None]))
        inside &= near < 96 * found.radius[row, 0]
        assert (images[row][inside] == drawing._PALETTE[found.color[row, 0]]).all()
        checked += inside.sum()
    assert checked > 5000


def test_patterned_objects_keep_a_rim_of_their_colour_and_have_a_second_tone() -> None:
    for texture in range(1, len(TEXTURES)):
        for color in range(len(COLORS)):
            one = lone(0)
            one.texture[:, 0], one.color[:, 0] = texture, color
            image, mask = render(one, 64)
            inside = ndimage.binary_erosion(mask[0] > 0)
            rim = inside & ~ndimage.binary_erosion(inside)
            away = np.abs(image[0].astype(float) - drawing._PALETTE[color]).max(axis=-1)
            assert np.median(away[rim]) <= 1
            assert 0.1 < (away[inside] > 30).mean() < 0.7


def test_shapes_differ_at_32_pixels() -> None:
    masks = [render(lone(kind), 32)[1][0] > 0 for kind in range(len(SHAPES))]
    closest = max(overlap(a, b) for i, a in enumerate(masks) for b in masks[:i])
    assert closest < 0.8
    assert min(mask.sum() for mask in masks) > 100


@pytest.mark.parametrize("size", [8, 17, 32, 96])
def test_any_image_size(size: int) -> None:
    images, masks = render(scenes(40), size)
    assert images.shape == (40, size, size, 3) and images.dtype == np.uint8 and masks.shape == (40, size, size)
    share = (masks > 0).mean()
    assert 0.1 < share < 0.5


def test_no_scenes_draw_nothing() -> None:
    assert render(scenes(0), 16)[0].shape == (0, 16, 16, 3)


# ---- labels


def test_angles_turn_clockwise() -> None:
    triangle = SHAPES.index("triangle")
    rows, columns = np.mgrid[:65, :65] - 32
    upright, turned = (render(lone(triangle, angle), 65)[1][0] > 0 for angle in (0, np.pi / 2))
    assert rows[upright].mean() > 1  # the wide base is below
    assert columns[turned].mean() < -1  # tip to the right, base to the left
    assert overlap(np.rot90(upright, -1), turned) > 0.95


def test_directional_shapes_have_one_orientation_and_only_they() -> None:
    for kind in range(len(SHAPES)):
        upright = render(lone(kind), 64)[1][0] > 0
        turned = [render(lone(kind, turn * np.pi / 4), 64)[1][0] > 0 for turn in range(1, 8)]
        same = max(overlap(upright, other) for other in turned)
        if kind in DIRECTIONAL:
            assert same < 0.9, SHAPES[kind]
        elif SHAPES[kind] != "star":  # five-fold: its symmetry falls between eighths
            assert same > 0.9, SHAPES[kind]


def test_orientation_by_hand() -> None:
    angles = {0.0: 0, 0.01: 0, np.pi / 4 + 0.01: 1, -0.01: 7, np.pi - 0.01: 3, -np.pi: 4}
    for angle, label in angles.items():
        assert world_shapes.orientation_labels(lone(2, angle)).tolist() == [label]
    split = ShapeSet(dataset("orientation"), 32).split("train")
    assert set(np.unique(split._draw(np.arange(500)).kind[:, 0])) == set(DIRECTIONAL)


def test_location_and_distance_by_hand() -> None:
    one = lone(0, radius=0.1)
    one.x[:, 0], one.y[:, 0] = 0.1, 0.6
    assert world_shapes.location_labels(one).tolist() == [2 * 4 + 0]
    assert world_shapes.distance_labels(one).tolist() == [5]  # 0.41 away, farther than the last edge
    both = replace(one, count=np.array([2]))
    both.x[:, 1], both.y[:, 1] = 0.5, 0.38
    assert world_shapes.distance_labels(both).tolist() == [1]  # the second is 0.12 away
    assert world_shapes.count_labels(both).tolist() == [1]


def dataset(task: str = "", **fields: int) -> DatasetConfig:
    return DatasetConfig(name="set", kind="shapes", task=task, **{"train": 500, "test": 200, **fields})


def test_labels_are_what_is_there() -> None:
    for task, number in (("shape", "kind"), ("color", "color"), ("texture", "texture")):
        split = ShapeSet(dataset(task), 32).split("test")
        np.testing.assert_array_equal(split.labels, getattr(split._draw(np.arange(200)), number)[:, 0])
    found = ShapeSet(dataset("shape_color"), 32)
    drawn = found.split("test")._draw(np.arange(200))
    for row, label in enumerate(found.split("test").labels):
        assert found.classes[label] == f"{COLORS[drawn.color[row, 0]]} {SHAPES[drawn.kind[row, 0]]}"


@pytest.mark.parametrize("task", TASKS)
def test_classes_are_about_equally_frequent(task: str) -> None:
    found = ShapeSet(dataset(task, train=4000), 32)
    labels = found.split("train").labels
    assert labels.dtype == np.int64 and labels.shape == (4000,)
    shares = np.bincount(labels, minlength=len(found.classes)) / 4000 * len(found.classes)
    assert len(shares) == len(found.classes) == len(set(found.classes))
    assert shares.min() > 0.5 and shares.max() < 1.8


def test_splits_are_prefixes_of_their_streams() -> None:
    small, large = (ShapeSet(dataset("shape", train=n), 16).split("train") for n in (70, 300))
    np.testing.assert_array_equal(small.labels, large.labels[:70])
    np.testing.assert_array_equal(small.images(69), large.images(69))
    assert small.captions == large.captions[:70]


def test_masks_hold_colours_where_these_are_the_task() -> None:
    """The same pixels as the shapes', and in scenes whose objects keep apart the colours of the scene."""
    shapes, colours = (ShapeSet(dataset(task), 32).split("test") for task in ("shape", "color"))
    found = colours._draw(np.arange(200))
    for i in range(200):
        one, other = shapes.masks(i), colours.masks(i)
        np.testing.assert_array_equal(one > 0, other > 0)
        assert set(np.unique(other)) <= {0, *(found.color[i, : found.count[i]] + 1)}
        assert other[16, 16] in (0, colours.labels[i] + 1)
    assert any((shapes.masks(i) != colours.masks(i)).any() for i in range(20))


def test_masks_belong_to_their_images() -> None:
    split = ShapeSet(dataset(), 32).split("test")
    images, masks = render(split._draw(np.arange(200)), 32)
    for i in (0, 130, 5, 199):  # out of order: through several blocks
        np.testing.assert_array_equal(split.images(i), images[i])
        np.testing.assert_array_equal(split.masks(i), masks[i])
        assert split.masks(i)[16, 16] in (0, split.labels[i] + 1)
    with pytest.raises(IndexError):
        split.images(200)


# ---- words


def true_of(text: str, objects: list[phrases.Words]) -> bool:
    """Whether everything that a caption says is there."""
    words = set(re.findall(r"\w+", text))
    if not words & set(SHAPES) <= {one.shape for one in objects} | {"cross"}:
        return False
    if not words & set(COLORS) <= {one.color for one in objects}:
        return False
    for color, shape in re.findall(rf"\b({'|'.join(COLORS)}) ({'|'.join(SHAPES)})\b", text):
        if not any((one.color, one.shape) == (color, shape) for one in objects):
            return False
    number = re.search(r"(one|two|three|four|five|six) shapes\b", text)
    return number is None or phrases.NUMBERS.index(number[1]) + 1 == len(objects)


def test_samples_in_any_order_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings read at random: 200 samples lie in four blocks; of large images, not all are kept."""
    drawn: list[int] = []

    def counted(scenes: Scenes, size: int, classes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(size)
        return render(scenes, size, classes)

    monkeypatch.setattr(world_shapes, "render", counted)
    split = ShapeSet(DatasetConfig(name="s", kind="shapes", train=200), 16).split("train")
    order = np.random.default_rng(0).permutation(200).tolist()
    images = {i: split.images(i) for i in order}
    assert len(drawn) == 4
    monkeypatch.setattr(world_shapes, "_KEPT_PIXELS", 1)
    small = ShapeSet(DatasetConfig(name="s", kind="shapes", train=200), 16).split("train")
    for i in order[:20]:
        np.testing.assert_array_equal(small.images(i), images[i])
    assert len(drawn) > 4 + 10


def test_captions_are_true_and_mention_the_main_object_most() -> None:
    found = scenes(2000)
    told = phrases.captions(found)
    rows = [phrases.describe(found, row) for row in range(2000)]
    assert all(true_of(text, objects) for text, objects in zip(told, rows, strict=True))
    main = [re.search(rf"\b{objects[0].shape}\b", text) is not None for text, objects in zip(told, rows, strict=True)]
    color = [re.search(rf"\b{objects[0].color}\b", text) is not None for text, objects in zip(told, rows, strict=True)]
    silent = [not set(re.findall(r"\w+", t)) & {o.shape for o in w[1:]} for t, w in zip(told, rows, strict=True)]
    assert np.mean(main) > 0.85 and np.mean(color) > 0.8
    assert 0.5 < np.mean(silent) < 0.9  # the others are mostly left out
    assert len(set(told)) > 500


def test_reference_captions_are_true_and_five() -> None:
    found = scenes(300)
    for row, told in enumerate(phrases.references(found)):
        objects = phrases.describe(found, row)
        assert len(told) == phrases.REFERENCES and all(true_of(text, objects) for text in told)


def test_articles() -> None:
    assert phrases.article("a orange star and a orange ring") == "an orange star and an orange ring"


def test_questions_have_the_right_answers() -> None:
    split = ShapeSet(dataset(), 32).split("test")
    kinds = set()
    for i in range(60):
        objects = phrases.describe(split._draw(np.array([i])), 0)
        for asked in split.questions(i):
            kinds.add(asked.kind)
            words = asked.question.rstrip("?").split()
            if asked.kind == "exist":
                assert asked.answer == ("yes" if any(one.shape == words[-1] for one in objects) else "no")
            elif asked.question == "how many shapes are there?":
                assert asked.answer == str(len(objects))
            elif asked.kind == "count":
                assert asked.answer == str(sum(one.color == words[2] for one in objects))
            else:
                shape = objects[0].shape if "largest" in words else words[-1]
                assert asked.answer == next(one.color for one in objects if one.shape == shape)
    assert kinds == {"count", "exist", "color"}


# ---- pairs


def pairs(**fields: int) -> ShapePairs:
    return ShapePairs(DataConfig(name="shapes", kind="shapes", **{"pairs": 150, **fields}), 24)


def test_pairs_one_by_one_are_pairs_in_batches() -> None:
    found = pairs()
    indices = np.array([140, 2, 77])
    views = found.views(indices, 24, None)
    assert views.captions == [found.caption(int(i)) for i in indices] and views.broken == ()
    np.testing.assert_array_equal(views.images, np.stack([found.image(int(i)) for i in indices]))
    with pytest.raises(IndexError):
        found.image(150)


def test_fewer_pairs_are_the_first_of_more() -> None:
    np.testing.assert_array_equal(pairs(pairs=20).image(19), pairs().image(19))
    assert pairs(pairs=20).fingerprint == pairs().fingerprint != pairs(seed=1).fingerprint


def test_pairs_that_cannot_be() -> None:
    with pytest.raises(DataError, match="shapes has version 1, not 2"):
        pairs(version=2)
    with pytest.raises(DataError, match="endless; say how many pairs"):
        pairs(pairs=0)


def test_unknown_task() -> None:
    with pytest.raises(DataError, match="data set set: unknown task of shapes 'colour'; did you mean 'color'"):
        ShapeSet(dataset("colour"), 32)
