"""The procedural world: which scene an index means. Positions and sizes are fractions of the image side.

A scene holds 1 to 6 objects. The first is the main object: always the largest, and the one that captions
speak of most. As in photographs, it is large, near the middle and nearly upright: found so by experiment, since
a tiny model that must learn every place and turn of a shape learns no shape in 30,000 samples. Transfer tasks
about place and direction have scenes of their own, where it roams or turns. Objects keep a gap to each other
(they shrink where there is no room), so that almost every object is whole. Everything is a function of
(version, seed, split, index).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from ablative.trainer.clip.data.images import streams

VERSION = 1
"""Raise it whenever a scene, its drawing or its captions change: data enter a run's identity by version."""
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "moon", "heart")
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
TEXTURES = ("solid", "striped", "dotted", "checkered")
DIRECTIONAL = tuple(SHAPES.index(name) for name in ("triangle", "moon", "heart"))
"""Shapes that no rotation maps to themselves (the triangle is isosceles): only they have an orientation."""
_TEXTURE_SHARES = np.array([0.4, 0.6, 0.8])
"""Where the second, third and fourth texture begin: two in five objects are plain."""
MAX_COUNT = 6
GAP = 0.03
"""Room between the circles around two objects."""
MANNERS = ("portrait", "turned", "roaming")
"""How the main object is placed: large, central, upright; turned by any angle; smaller and anywhere."""
TILT = np.radians(15)
"""Largest turn of an object, except for main objects that are `turned`."""
_STRAY = 0.3
"""How far a central main object strays, as a share of the way to the border."""
_TRIES = 20
_MIN_RADIUS = 0.06
_BACKGROUND = 12
_PER_OBJECT = 5 + 2 * _TRIES


@dataclass(frozen=True)
class Scenes:
    """`n` scenes; object slots from `count` on are empty (their values mean nothing)."""

    count: np.ndarray
    """int64 (n,), 1 … 6."""
    kind: np.ndarray
    """int64 (n, 6), index into `SHAPES`."""
    color: np.ndarray
    texture: np.ndarray
    angle: np.ndarray
    """float64 (n, 6), radians, clockwise on the screen."""
    x: np.ndarray
    """float64 (n, 6), centre, from the left; `y` from the top."""
    y: np.ndarray
    radius: np.ndarray
    """float64 (n, 6), of the circle around the object."""
    background: np.ndarray
    """float64 (n, 12) in [0, 1): what the background is made from."""
    key: np.ndarray
    """uint64 (n,): further random words of the scene (pixel noise, captions)."""

    def __len__(self) -> int:
        return len(self.count)

    def __getitem__(self, rows: slice | np.ndarray) -> Scenes:
        return Scenes(*(getattr(self, field.name)[rows] for field in fields(self)))


def draw_scenes(seed: int, split: str, indices: np.ndarray, manner: str = "portrait") -> Scenes:
    """Scenes `indices` (n,) of a split, in one of the `MANNERS`."""
    assert manner in MANNERS
    key = streams.keys(streams.stream("shapes", VERSION, seed, split), indices)
    numbers = streams.uniforms(key, 1 + _BACKGROUND + MAX_COUNT * _PER_OBJECT)
    count = 1 + (numbers[:, 0] * MAX_COUNT).astype(np.int64)
    objects = numbers[:, 1 + _BACKGROUND :].reshape(-1, MAX_COUNT, _PER_OBJECT)
    kind = (objects[:, :, 0] * len(SHAPES)).astype(np.int64)
    if manner == "turned":
        kind[:, 0] = np.asarray(DIRECTIONAL)[(objects[:, 0, 0] * len(DIRECTIONAL)).astype(np.int64)]
    tries = objects[:, :, 5:].reshape(-1, MAX_COUNT, _TRIES, 2)
    x, y, radius = _place(count, objects[:, :, 4], tries, roaming=manner == "roaming")
    turn = np.full(MAX_COUNT, TILT)
    turn[0] = np.pi if manner == "turned" else TILT
    return Scenes(
        count=count,
        kind=kind,
        color=(objects[:, :, 1] * len(COLORS)).astype(np.int64),
        texture=np.searchsorted(_TEXTURE_SHARES, objects[:, :, 2], side="right"),
        angle=(objects[:, :, 3] - 0.5) * 2 * turn,
        x=x,
        y=y,
        radius=radius,
        background=numbers[:, 1 : 1 + _BACKGROUND],
        key=key,
    )


def _place(
    count: np.ndarray, size: np.ndarray, tries: np.ndarray, roaming: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres and radii (n, 6) from uniform numbers `size` (n, 6) and `tries` (n, 6, t, 2).

    An object takes the first of its candidate places that keeps the gap to those before it; where none
    does, it takes the roomiest and shrinks into it.
    """
    radius = 0.09 + (0.04 - 0.005 * (count[:, None] - 1)) * size
    radius[:, 0] = ((0.15 if roaming else 0.29) + 0.06 * size[:, 0]) * (1 - 0.03 * (count - 1))
    x, y = np.empty_like(radius), np.empty_like(radius)
    rows = np.arange(len(count))
    for slot in range(MAX_COUNT):
        r = radius[:, slot, None]
        places = r[..., None] + (1 - 2 * r[..., None]) * tries[:, slot]
        if slot == 0:
            middle = 0.5 + (places[:, 0] - 0.5) * (1 if roaming else _STRAY)
            x[:, 0], y[:, 0] = middle[:, 0], middle[:, 1]
            continue
        dx = places[:, :, 0, None] - x[:, None, :slot]
        dy = places[:, :, 1, None] - y[:, None, :slot]
        room = (np.sqrt(dx * dx + dy * dy) - radius[:, None, :slot]).min(axis=2) - GAP
        fits = room >= r
        chosen = np.where(fits.any(axis=1), fits.argmax(axis=1), room.argmax(axis=1))
        x[:, slot], y[:, slot] = places[rows, chosen, 0], places[rows, chosen, 1]
        radius[:, slot] = np.clip(room[rows, chosen], _MIN_RADIUS, radius[:, slot])
    return x, y, radius
