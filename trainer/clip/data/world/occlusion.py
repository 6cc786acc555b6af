"""The main object of a scene, partly hidden and cut out: COCO-Amodal's objects in miniature."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.images.pictures import resize, square_around
from ablative.trainer.clip.data.world.scenes import Scenes

HIDDEN = 0.4
"""Share of the object's box that something grey hides, from one of its four sides."""
_GREYS = (40, 215)
_STREAM = np.uint64(0x0CC1)


def occluded(image: np.ndarray, scene: Scenes) -> np.ndarray:
    """uint8 (S, S, 3): the square around the main object of the one scene of `scene`, part of it behind grey."""
    assert len(scene) == 1
    size = len(image)
    x, y, radius = (size * float(value[0, 0]) for value in (scene.x, scene.y, scene.radius))
    left, top, right, bottom = (round(edge) for edge in (x - radius, y - radius, x + radius, y + radius))
    side, shade = streams.uniforms(scene.key ^ _STREAM, 2)[0]
    depth = round(HIDDEN * 2 * radius)
    rows, columns = [
        (slice(max(0, top), bottom), slice(max(0, left), left + depth)),
        (slice(max(0, top), bottom), slice(max(0, right - depth), right)),
        (slice(max(0, top), top + depth), slice(max(0, left), right)),
        (slice(max(0, bottom - depth), bottom), slice(max(0, left), right)),
    ][int(side * 4)]
    covered = image.copy()
    covered[rows, columns] = round(_GREYS[0] + shade * (_GREYS[1] - _GREYS[0]))
    return resize(Image.fromarray(covered), size, square_around((left, top, right, bottom), size, size))
