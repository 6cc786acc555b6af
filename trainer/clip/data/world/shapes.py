"""The procedural world as training pairs, and as labelled evaluation sets."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ablative.study.core.errors import DataError, unknown
from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.images.crops import Crops, crop_squares
from ablative.trainer.clip.data.pairs.pairs import Views
from ablative.trainer.clip.data.sets.evaluation import Instances
from ablative.trainer.clip.data.world import phrases
from ablative.trainer.clip.data.world.drawing import render
from ablative.trainer.clip.data.world.occlusion import occluded
from ablative.trainer.clip.data.world.scenes import COLORS, MAX_COUNT, SHAPES, TEXTURES, VERSION, Scenes, draw_scenes
from ablative.trainer.clip.spec.config import DataConfig, DatasetConfig

SPLIT_SIZES = {"train": 4000, "test": 1000}
"""Samples of an evaluation split that names no number: the world itself is endless."""
DISTANCE_EDGES = (0.11, 0.15, 0.19, 0.23, 0.28)
"""Bins of the distance task, in image sides; about a sixth of the scenes each."""
LOCATION_EDGES = (0.335, 0.50, 0.665)
"""Rows and columns of the location task: main objects are whole, so their centres keep away from the border."""
ORIENTATIONS = 8
T = TypeVar("T")

_BLOCK = 64
"""Samples drawn together when they are asked for one by one: drawing alone costs ten times as much."""
_KEPT_PIXELS = 1 << 23
"""A thread keeps blocks of so many pixels: a training in random order asks for another block with each sample."""


class ShapePairs:
    """The first `pairs` scenes of the training stream, with one caption each."""

    def __init__(self, data: DataConfig, image_size: int) -> None:
        if data.version != VERSION:
            raise DataError(f"data.version: shapes has version {VERSION}, not {data.version}")
        if not data.pairs:
            raise DataError("data.pairs: the procedural world is endless; say how many pairs to train on")
        self.native_size = image_size
        self.by_epoch = False
        self.fingerprint = _fingerprint("pairs", data.seed)
        self._pairs, self._seed = data.pairs, data.seed
        self._blocks = _Blocks(image_size, functools.partial(draw_scenes, data.seed, "pairs"))

    def __len__(self) -> int:
        return self._pairs

    def image(self, i: int) -> np.ndarray:
        _check_index(i, self._pairs)
        return self._blocks.image(i)

    def caption(self, i: int) -> str:
        _check_index(i, self._pairs)
        return self._blocks.caption(i)

    def views(
        self,
        indices: np.ndarray,
        size: int,
        crops: Crops | None,
        further: Sequence[Crops] = (),
        chosen: np.ndarray | None = None,
        into: np.ndarray | None = None,
    ) -> Views:
        scenes = draw_scenes(self._seed, "pairs", indices)
        drawn = render(scenes, size)[0]
        images = np.empty((1 + len(further), *drawn.shape), np.uint8) if into is None else into
        for place, each in enumerate((crops, *further)):
            images[place] = drawn if each is None else crop_squares(drawn, each)
        return Views(images[0], phrases.captions(scenes), further=images[1:] if further else None)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return streams.permutation(streams.stream("order", seed, epoch), self._pairs)


class _Blocks:
    """Samples one by one at nearly the price of a batch: each thread keeps the last blocks that it drew."""

    def __init__(self, size: int, scenes: Callable[[np.ndarray], Scenes], colored_masks: bool = False) -> None:
        self._size, self._scenes, self._colored_masks = size, scenes, colored_masks
        self._most = max(1, _KEPT_PIXELS // (_BLOCK * size * size))
        self._kept = threading.local()

    def __reduce__(self) -> tuple[type[_Blocks], tuple[Any, ...]]:
        return _Blocks, (self._size, self._scenes, self._colored_masks)

    def image(self, i: int) -> np.ndarray:
        """uint8 (S, S, 3)."""
        return self._block(i, "drawn", self._render)[0][i % _BLOCK]

    def mask(self, i: int) -> np.ndarray:
        """uint8 (S, S)."""
        return self._block(i, "drawn", self._render)[1][i % _BLOCK]

    def slots(self, i: int) -> np.ndarray:
        """uint8 (S, S): 0 background, 1 + number of the object in its scene elsewhere."""
        return self._block(i, "slots", self._render_slots)[i % _BLOCK]

    def caption(self, i: int) -> str:
        return self._block(i, "captions", phrases.captions)[i % _BLOCK]

    def _block(self, i: int, name: str, make: Callable[[Scenes], T]) -> T:
        """What `make` makes of the block that sample i is in."""
        start = i - i % _BLOCK
        kept: OrderedDict[int, T] = self._kept.__dict__.setdefault(name, OrderedDict())
        if start not in kept:
            kept[start] = make(self._scenes(np.arange(start, start + _BLOCK)))
            if len(kept) > self._most:
                kept.popitem(last=False)
        kept.move_to_end(start)
        return kept[start]

    def _render_slots(self, scenes: Scenes) -> np.ndarray:
        return render(scenes, self._size, np.tile(np.arange(MAX_COUNT), (len(scenes), 1)))[1]

    def _render(self, scenes: Scenes) -> tuple[np.ndarray, np.ndarray]:
        return render(scenes, self._size, scenes.color if self._colored_masks else scenes.kind)


def shape_labels(scenes: Scenes) -> np.ndarray:
    return scenes.kind[:, 0]


def color_labels(scenes: Scenes) -> np.ndarray:
    return scenes.color[:, 0]


def texture_labels(scenes: Scenes) -> np.ndarray:
    return scenes.texture[:, 0]


def shape_color_labels(scenes: Scenes) -> np.ndarray:
    return scenes.color[:, 0] * len(SHAPES) + scenes.kind[:, 0]


def count_labels(scenes: Scenes) -> np.ndarray:
    return scenes.count - 1


def distance_labels(scenes: Scenes) -> np.ndarray:
    """Bin of the distance from the image's centre to the nearest object's centre.

    Like CLEVR's distance in VTAB (depth of the nearest object), it needs every object and no name.
    """
    away = np.hypot(scenes.x - 0.5, scenes.y - 0.5)
    away[np.arange(MAX_COUNT) >= scenes.count[:, None]] = np.inf
    return np.searchsorted(np.asarray(DISTANCE_EDGES), away.min(axis=1), side="right")


def orientation_labels(scenes: Scenes) -> np.ndarray:
    """Eighth of a full turn, clockwise from upright, of a main object without symmetry (see `MANNERS`)."""
    return np.floor(scenes.angle[:, 0] / (2 * np.pi) * ORIENTATIONS).astype(np.int64) % ORIENTATIONS


def location_labels(scenes: Scenes) -> np.ndarray:
    """Cell of a 4×4 grid that holds the main object's centre, row by row."""
    row, column = (np.searchsorted(LOCATION_EDGES, at[:, 0], side="right") for at in (scenes.y, scenes.x))
    return row * (len(LOCATION_EDGES) + 1) + column


TASKS: dict[str, tuple[tuple[str, ...], Callable[[Scenes], np.ndarray]]] = {
    "shape": (SHAPES, shape_labels),
    "color": (tuple(f"{color} shape" for color in COLORS), color_labels),
    "texture": (tuple(f"{texture} shape" for texture in TEXTURES), texture_labels),
    "occluded": (SHAPES, shape_labels),
    "shape_color": (tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES), shape_color_labels),
    "count": (tuple(f"{n} shape{'s' * (n != 'one')}" for n in phrases.NUMBERS), count_labels),
    "distance": (tuple(f"distance {i}" for i in range(len(DISTANCE_EDGES) + 1)), distance_labels),
    "orientation": (tuple(f"{i * 360 // ORIENTATIONS} degrees" for i in range(ORIENTATIONS)), orientation_labels),
    "location": (tuple(f"row {r} column {c}" for r in range(1, 5) for c in range(1, 5)), location_labels),
}
"""Task → class names and label of each scene, int64 (n,)."""
OCCLUDED = "occluded"
"""The task whose images show the main object alone, partly hidden."""
_MANNERS = {"orientation": "turned", "distance": "roaming", "location": "roaming"}
"""Tasks whose scenes show the main object otherwise than training does."""


def manner(task: str) -> str:
    """How a task's scenes show their main object: tasks of one manner (and seed) show the same images."""
    return _MANNERS.get(task, "portrait")


@dataclass(frozen=True)
class Question:
    """A question about a scene with its only answer."""

    kind: str
    """`count`, `exist` or `color`."""
    question: str
    answer: str


class ShapeSplit:
    """One split of an evaluation set of the procedural world; see `evaluation.Split`."""

    def __init__(self, dataset: DatasetConfig, name: str, image_size: int) -> None:
        # The world is endless: a validation split is another stream, and the train split is the same for both.
        stream = dataset.split if name == "test" else name
        self._seed, self._stream = dataset.seed, f"evaluation {stream}"
        self._manner, self._occluded = manner(dataset.task), dataset.task == OCCLUDED
        self._size = getattr(dataset, name) or SPLIT_SIZES[name]
        self._colored = dataset.task == "color"
        self._blocks = _Blocks(image_size, self._draw, colored_masks=self._colored)
        self.labels = TASKS[dataset.task or "shape"][1](self._draw(np.arange(self._size))).astype(np.int64)

    def __len__(self) -> int:
        return self._size

    @functools.cached_property
    def captions(self) -> list[list[str]] | None:
        """Written when they are asked for: probes never do, and they cost more than the labels."""
        return phrases.references(self._draw(np.arange(self._size)))

    def images(self, i: int) -> np.ndarray:
        _check_index(i, self._size)
        image = self._blocks.image(i)
        return occluded(image, self._draw(np.array([i]))) if self._occluded else image

    def masks(self, i: int) -> np.ndarray:
        """uint8 (S, S): 0 background, 1 + shape elsewhere; 1 + colour where the task is `color`."""
        _check_index(i, self._size)
        return self._blocks.mask(i)

    def picture(self, i: int) -> np.ndarray:
        """See `evaluation.InstanceImages`."""
        return self.images(i)

    def instances(self, i: int) -> Instances:
        """Every object of which a pixel is seen, by its shape; by its colour where the task is `color`."""
        _check_index(i, self._size)
        scenes = self._draw(np.array([i]))
        masks = (self._blocks.slots(i) == np.arange(1, 1 + scenes.count[0])[:, None, None]).astype(np.uint8)
        seen = masks.any((1, 2))
        kinds = (scenes.color if self._colored else scenes.kind)[0, : scenes.count[0]]
        masks, labels = masks[seen], kinds[seen].astype(np.int64) + 1
        return Instances(_boxes(masks), labels, masks, np.zeros(len(masks), dtype=bool))

    def with_instances(self) -> np.ndarray:
        """All: each has its main object."""
        return np.arange(self._size)

    def questions(self, i: int) -> list[Question]:
        """How many, whether there is, and what colour."""
        _check_index(i, self._size)
        return ask(self._draw(np.array([i])))

    def _draw(self, indices: np.ndarray) -> Scenes:
        return draw_scenes(self._seed, self._stream, indices, self._manner)


class ShapeSet:
    """The procedural world as an evaluation set: labels of one task, captions, masks and questions.

    Without a task it is labelled by shape. Its masks hold shapes, or colours where these are the task.
    """

    def __init__(self, dataset: DatasetConfig, image_size: int) -> None:
        if dataset.task and dataset.task not in TASKS:
            raise DataError(unknown("task of shapes", dataset.task, TASKS, f"data set {dataset.name}"))
        self.classes = TASKS[dataset.task or "shape"][0]
        self.background: tuple[str, ...] | None = None
        self._dataset, self._image_size = dataset, image_size

    def split(self, name: str) -> ShapeSplit:
        return ShapeSplit(self._dataset, name, self._image_size)


def fingerprint_shapes(seed: int) -> str:
    """Fingerprint of an evaluation set of the procedural world, whose content follows from version and seed."""
    return _fingerprint("evaluation", seed)


def ask(scenes: Scenes) -> list[Question]:
    """Questions about the one scene of `scenes`."""
    assert len(scenes) == 1
    objects = phrases.describe(scenes, 0)
    number = streams.uniforms(scenes.key ^ np.uint64(0xA5C), 2)[0]
    color, shape = COLORS[int(number[0] * len(COLORS))], SHAPES[int(number[1] * len(SHAPES))]
    having = sum(one.color == color for one in objects)
    questions = [
        Question("count", "how many shapes are there?", str(len(objects))),
        Question("count", f"how many {color} shapes are there?", str(having)),
        Question("exist", f"is there a {shape}?", "yes" if any(one.shape == shape for one in objects) else "no"),
        Question("color", "what color is the largest shape?", objects[0].color),
    ]
    for one in objects:
        if sum(other.shape == one.shape for other in objects) == 1:
            questions.append(Question("color", f"what color is the {one.shape}?", one.color))
    return questions


def _boxes(masks: np.ndarray) -> np.ndarray:
    """float32 (k, 4) around the pixels of masks (k, S, S), each of which has some."""
    side = masks.shape[1]
    across, down = masks.max(axis=1) > 0, masks.max(axis=2) > 0
    ends = [across.argmax(1), down.argmax(1), side - across[:, ::-1].argmax(1), side - down[:, ::-1].argmax(1)]
    return np.stack(ends, 1).astype(np.float32)


def _fingerprint(use: str, seed: int) -> str:
    return hashlib.sha256(f"shapes {VERSION} {use} {seed}".encode()).hexdigest()[:16]


def _check_index(i: int, size: int) -> None:
    if not 0 <= i < size:
        raise IndexError(f"sample {i} of {size}")
