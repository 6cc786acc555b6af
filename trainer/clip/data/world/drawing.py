"""Scenes to pixels. Shapes are signed distances, so that edges are smooth without drawing at a larger size.

Distance formulas of star and heart follow I. Quilez, "2D distance functions" (iquilezles.org).
All arrays of a batch are drawn at once; the only loops run over the 8 shapes and the 6 object slots.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.world.scenes import MAX_COUNT, Scenes

_PALETTE = np.array(
    [
        (214, 33, 38),  # red
        (247, 137, 22),  # orange
        (250, 223, 52),  # yellow
        (38, 152, 62),  # green
        (66, 205, 219),  # cyan
        (41, 72, 210),  # blue
        (132, 48, 168),  # purple
        (247, 133, 187),  # pink
    ],
    np.float32,
)
_LUMINANCE = _PALETTE @ np.array([0.299, 0.587, 0.114], np.float32)
_SECOND = np.where(_LUMINANCE[:, None] < 125, _PALETTE * 0.4 + np.float32(235) * 0.6, _PALETTE * 0.4)
"""Second tone of a texture: near-white on dark colours, a dark shade on light ones."""
_RIM = np.float32(0.13)
"""Width in radii of a plain rim, so that a pattern's second tone never melts into the background."""
_CHUNK = 128
"""Scenes drawn at a time: the working set stays in the processor's cache."""


def render(scenes: Scenes, size: int, classes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, size, size, 3) and masks uint8 (n, size, size): 0 background, 1 + class elsewhere.

    Args:
        scenes: n scenes.
        size: of the square images, in pixels.
        classes: of each object for the masks, int (n, MAX_COUNT); None: its shape.
    """
    classes = scenes.kind if classes is None else classes
    images = np.empty((len(scenes), size, size, 3), np.uint8)
    masks = np.zeros((len(scenes), size, size), np.uint8)
    for start in range(0, len(scenes), _CHUNK):
        rows = slice(start, start + _CHUNK)
        canvas = _backgrounds(scenes[rows], size)
        _draw_objects(canvas, masks[rows], scenes[rows], classes[rows], slice(1, MAX_COUNT))
        _draw_objects(canvas, masks[rows], scenes[rows], classes[rows], slice(0, 1))
        np.clip(canvas, 0, 255, out=canvas)
        images[rows] = np.rint(canvas, out=canvas)
    return images, masks


def _backgrounds(scenes: Scenes, size: int) -> np.ndarray:
    """float32 (n, S, S, 3): a greyish tone with a gradient, waves and pixel noise, all of varying strength."""
    u = scenes.background.astype(np.float32)[:, :, None]
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    turn, wave_turn = 2 * np.pi * u[:, 1], 2 * np.pi * u[:, 2]
    slope = 60 * u[:, 3]
    frequency, phase, height = 2 * np.pi * (1 + 3 * u[:, 4]), 2 * np.pi * u[:, 5], 14 * u[:, 6]
    # sin(a + b) from rows and columns: S sines instead of S × S.
    across = frequency * np.cos(wave_turn) * at + phase
    down = frequency * np.sin(wave_turn) * at
    field = (height * np.sin(across))[:, None, :] * np.cos(down)[:, :, None]
    field += (height * np.cos(across))[:, None, :] * np.sin(down)[:, :, None]
    field += (70 + 115 * u[:, 0] + slope * np.cos(turn) * (at - 0.5))[:, None, :]
    field += (slope * np.sin(turn) * (at - 0.5))[:, :, None]
    tint = 20 * (u[:, 7:10, 0] - 0.5)
    noise = streams.words(scenes.key ^ np.uint64(0xA5A5A5A5), size * size).view(np.uint8).reshape(-1, size, size, 8)
    strength = (3 + 13 * u[:, 10, 0]) / 128
    canvas = noise[..., :3].astype(np.float32)
    canvas -= 127.5
    canvas *= strength[:, None, None, None]
    canvas += field[..., None]
    canvas += tint[:, None, None, :]
    return canvas


def _draw_objects(canvas: np.ndarray, masks: np.ndarray, scenes: Scenes, classes: np.ndarray, slots: slice) -> None:
    """Draw these object slots of every scene onto `canvas` (n, S, S, 3) and `masks` (n, S, S), in place.

    `classes` int (n, MAX_COUNT) are the objects' labels in the masks.
    """
    size = canvas.shape[1]
    columns = np.arange(MAX_COUNT)[slots]
    slot, scene = np.nonzero(columns[:, None] < scenes.count[None, :])
    if len(scene) == 0:
        return
    pick = (scene, columns[slot])
    kind, color = scenes.kind[pick], scenes.color[pick]
    radius = (scenes.radius[pick] * size).astype(np.float32)
    pixels, u, v = _windows(scenes, pick, size)
    distance = _distances(kind, u, v)
    alpha = np.clip(0.5 - distance * radius[:, None, None], 0, 1)
    tone = _textures(scenes.texture[pick], u, v, radius)
    tone *= np.clip(0.5 - (distance + _RIM) * radius[:, None, None], 0, 1)
    # Most of a window is not the object: colours are mixed only where it is.
    hit = np.nonzero(alpha)
    one, alpha, tone = hit[0], alpha[hit], tone[hit]
    pixels = pixels[hit] + (scene * size * size)[one]
    rgb = _PALETTE[color][one] + tone[:, None] * (_SECOND - _PALETTE)[color][one]
    flat, flat_mask = canvas.reshape(-1, 3), masks.reshape(-1)
    ends = np.searchsorted(slot[one], np.arange(len(columns) + 1))
    for start, end in itertools.pairwise(ends):
        # Within a slot every object belongs to another scene: no pixel is written twice.
        of = slice(start, end)
        under = flat[pixels[of]]
        flat[pixels[of]] = under + alpha[of, None] * (rgb[of] - under)
        inside = alpha[of] >= 0.5
        flat_mask[pixels[of][inside]] = (classes[pick] + 1)[one[of]][inside]


def _windows(
    scenes: Scenes, pick: tuple[np.ndarray, np.ndarray], size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Square pixel windows around `m` objects: pixel numbers in the image and the object's own coordinates.

    All (m, P, P); own coordinates are turned by the angle and divided by the radius, so that every shape
    fills the unit circle. Objects lie inside the image, so that a window moved inside still holds them.
    """
    x, y = scenes.x[pick] * size, scenes.y[pick] * size
    radius = scenes.radius[pick] * size
    side = min(size, int(np.ceil(2 * radius.max())) + 2)
    steps = np.arange(side)
    columns = np.clip(np.floor(x - side / 2 + 0.5), 0, size - side).astype(np.int64)[:, None] + steps
    rows = np.clip(np.floor(y - side / 2 + 0.5), 0, size - side).astype(np.int64)[:, None] + steps
    dx = ((columns + 0.5 - x[:, None]) / radius[:, None]).astype(np.float32)[:, None, :]
    dy = ((rows + 0.5 - y[:, None]) / radius[:, None]).astype(np.float32)[:, :, None]
    cos = np.cos(scenes.angle[pick]).astype(np.float32)[:, None, None]
    sin = np.sin(scenes.angle[pick]).astype(np.float32)[:, None, None]
    pixels = rows[:, :, None] * size + columns[:, None, :]
    return pixels, cos * dx + sin * dy, cos * dy - sin * dx


def _distances(kind: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance (m, P, P) to each object's edge, negative inside, in radii."""
    distance = np.empty_like(u)
    for number, shape in enumerate(_SIGNED):
        of = kind == number
        if of.any():
            distance[of] = shape(u[of], v[of])
    return distance


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt(u * u + v * v) - 0.9


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) - 0.7


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Isosceles, tip up at (0, -1), base at v = 0.75 with half-width 0.65."""
    slant = (np.abs(u) * 1.75 - (v + 1) * 0.65) / np.float32(np.hypot(1.75, 0.65))
    return np.maximum(slant, v - 0.75)


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Five points, one up; inner radius about 0.4 of the outer."""
    inner = np.float32(0.4)
    sin36, cos36 = np.float32(np.sin(np.pi / 5)), np.float32(np.cos(np.pi / 5))
    u, v = np.abs(u), -v
    for side in (np.float32(1), np.float32(-1)):
        over = 2 * np.maximum(side * cos36 * u - sin36 * v, 0)
        u, v = u - over * side * cos36, v + over * sin36
    u, v = np.abs(u), v - 1
    edge_u, edge_v = inner * sin36, inner * cos36 - 1
    along = np.clip((u * edge_u + v * edge_v) / (edge_u**2 + edge_v**2), 0, 1)
    away = np.sqrt((u - edge_u * along) ** 2 + (v - edge_v * along) ** 2)
    # Not np.sign: it is 0 on the edge's line far outside as well, and would leave stray pixels there.
    return np.copysign(away, v * edge_u - u * edge_v)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.minimum(u, v) - 0.22, np.maximum(u, v) - 0.95)


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(u * u + v * v) - 0.77) - 0.19


def _moon(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A disc less a smaller one to its right: horns point right."""
    disc = np.sqrt(u * u + v * v) - 0.97
    bite = np.sqrt((u - 0.52) ** 2 + v * v) - 0.78
    return np.maximum(disc, -bite)


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Tip down at (0, 0.95), two lobes up."""
    scale = np.float32(1.62)
    u, v = np.abs(u) / scale, (0.95 - v) / scale
    lobe = np.sqrt((u - 0.25) ** 2 + (v - 0.75) ** 2) - np.float32(np.sqrt(2) / 4)
    middle = 0.5 * np.maximum(u + v, 0)
    body = np.sqrt(np.minimum(u**2 + (v - 1) ** 2, (u - middle) ** 2 + (v - middle) ** 2)) * np.sign(u - v)
    return np.where(u + v > 1, lobe, body) * scale


_SIGNED: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    _circle,
    _square,
    _triangle,
    _star,
    _cross,
    _ring,
    _moon,
    _heart,
)
"""The shapes' functions, in the order of `world.SHAPES`."""


def _textures(texture: np.ndarray, u: np.ndarray, v: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Share (m, P, P) of the second tone; `radius` (m,) in pixels. No pattern is finer than 4 pixels a period."""
    period = np.maximum(0.66, 4 / radius)[:, None, None]
    pixels = period * radius[:, None, None]
    tone = np.zeros_like(u)
    for number, pattern in ((1, _stripes), (2, _dots), (3, _checks)):
        of = texture == number
        if of.any():
            tone[of] = np.clip(0.5 + pattern(u[of] / period[of], v[of] / period[of]) * pixels[of], 0, 1)
    return tone


def _stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to the pattern's edge in periods, positive where the second tone is."""
    return np.abs(v - np.floor(v) - 0.5) - 0.25


def _dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return np.float32(0.29) - np.sqrt(u * u + v * v)


def _checks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a = np.abs(u * 0.8 - np.floor(u * 0.8) - 0.5) - 0.25
    b = np.abs(v * 0.8 - np.floor(v * 0.8) - 0.5) - 0.25
    return np.sign(a * b) * np.minimum(np.abs(a), np.abs(b)) / np.float32(0.8)
