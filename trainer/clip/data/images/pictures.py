"""From an encoded image to square pixels."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageOps

from ablative.study.core.errors import DataError

_TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")
_ORIENTATION = 0x0112
_FIRST_LYING = 5
"""EXIF's orientations from this one on exchange width and height."""
_FORMATS = {b"\xff\xd8": ("JPEG",), b"\x89P": ("PNG",), b"RI": ("WEBP",)}
"""First bytes → format. Pillow would try one decoder after the other, which costs more than a small image."""


Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""
Reduction = Callable[[int, int], int]
"""Divisor of the sides of a JPEG (1, 2, 4 or 8), as a function of its width and height before that, upright."""


def decode(content: bytes, name: str, turn: bool = True, reduction: Reduction | None = None) -> Image.Image:
    """RGB image: turned as its EXIF says, transparency on white, one frame of many.

    Args:
        turn: masks and boxes belong to the pixels as they are stored: an image that has some is read without.
        reduction: lets a JPEG be decoded to a part of its sides only, which is quicker.

    Raises DataError naming `name` where the content is no image or is cut off.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS.get(content[:2]))
        if reduction is not None and image.format == "JPEG":
            lies = turn and image.getexif().get(_ORIENTATION, 1) >= _FIRST_LYING
            by = reduction(*(image.size[::-1] if lies else image.size))
            image.draft(None, (image.width // by, image.height // by))
        image.load()
        if turn and image.getexif().get(_ORIENTATION, 1) != 1:
            return _rgb(ImageOps.exif_transpose(image))
        return _rgb(image)
    except Exception as error:  # Pillow's decoders raise errors of any kind on damaged files
        raise DataError(f"{name}: no readable image ({error})") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow would clip 16-bit greys instead of scaling them.
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def resize(image: Image.Image, size: int, box: Box | None = None) -> np.ndarray:
    """uint8 (size, size, 3) of a box; without one, of the central square.

    Bicubic, with the antialiasing of Pillow.
    """
    return np.array(_resized(image, size, box or central_square(*image.size)))


def _resized(image: Image.Image, size: int, box: Box) -> Image.Image:
    if image.size == (size, size) and box == (0, 0, size, size):
        return image
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def squares(
    content: bytes, name: str, boxes: Callable[[int, int], Sequence[Box]], out: np.ndarray, reduced: bool
) -> None:
    """Resize boxes of an encoded image as `resize` does, into uint8 (boxes, size, size, 3).

    Args:
        boxes: from the width and height of the whole image.
        reduced: decode a JPEG to a part of its sides where every box still has `size` pixels across and down.

    Raises DataError as `decode` does.
    """
    size, whole, wanted = out.shape[1], (0, 0), []

    def reduction(width: int, height: int) -> int:
        nonlocal whole, wanted
        whole, wanted = (width, height), [*boxes(width, height)]
        narrowest = min(min(right - left, bottom - top) for left, top, right, bottom in wanted)
        return next((by for by in (8, 4, 2) if narrowest >= by * size), 1)

    image = decode(content, name, reduction=reduction if reduced else None)
    if not wanted:
        whole, wanted = image.size, [*boxes(*image.size)]
    across, down = image.width / whole[0], image.height / whole[1]
    for place, (left, top, right, bottom) in enumerate(wanted):
        box = (left * across, top * down, right * across, bottom * down)
        out[place] = np.asarray(_resized(image, size, box))


def scaled(image: Image.Image, short: int, long: int = 0) -> np.ndarray:
    """uint8 (H, W, 3) of the whole image: its shorter side becomes `short`, its longer one `long` at most (0: any)."""
    factor = short / min(image.size)
    if long:
        factor = min(factor, long / max(image.size))
    width, height = (max(1, int(side * factor + 0.5)) for side in image.size)
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))


def decode_labels(content: bytes, name: str) -> np.ndarray:
    """uint8 (H, W) of a label map: palette or grey values as they are, a bitmap as 0 and 1."""
    try:
        image = Image.open(io.BytesIO(content))
        labels = np.array(image)
    except Exception as error:  # as in `decode`
        raise DataError(f"{name}: no readable mask ({error})") from error
    if labels.ndim != 2 or image.mode not in ("1", "L", "P"):
        raise DataError(f"{name}: the mask has mode {image.mode}, expected one channel of 8 bits or less (1, L, P)")
    return labels.astype(np.uint8)


def check_mask(labels: np.ndarray, image: bytes, name: str) -> None:
    """Raise DataError unless a label map (H, W) has the size of its encoded image, as that is stored."""
    try:
        # Opening decodes no pixels.
        width, height = Image.open(io.BytesIO(image)).size
    except Exception as error:  # as in `decode`
        raise DataError(f"{name}: no readable image ({error})") from error
    if labels.shape != (height, width):
        raise DataError(
            f"{name}: the mask has {labels.shape[1]} × {labels.shape[0]} pixels and its image {width} × {height} "
            "(as stored, before it is turned by EXIF); expected the same size"
        )


def resize_labels(labels: np.ndarray, size: int) -> np.ndarray:
    """uint8 (size, size) of a label map's central square, nearest pixel."""
    height, width = labels.shape
    box = central_square(width, height)
    return np.array(Image.fromarray(labels).resize((size, size), Image.Resampling.NEAREST, box=box))


def central_square(width: int, height: int) -> Box:
    """Box of the largest central square."""
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def square_around(box: Box, width: int, height: int) -> Box:
    """The smallest square that holds a box, moved into the image; never larger than the image's shorter side."""
    left, top, right, bottom = box
    side = min(max(right - left, bottom - top, 1.0), width, height)
    x = min(max((left + right - side) / 2, 0.0), width - side)
    y = min(max((top + bottom - side) / 2, 0.0), height - side)
    return x, y, x + side, y + side


def encoding(content: bytes, name: str) -> str | None:
    """Suffix of an image's format (`jpg`, `png`, `webp`), None for another one that can be read.

    Raises DataError where the content is no image or is cut off.
    """
    try:
        image = Image.open(io.BytesIO(content))
        # A JPEG is read to its end all the same, but only an eighth of each side is computed.
        image.draft(None, (1, 1))
        image.load()
    except Exception as error:  # as in `decode`
        raise DataError(f"{name}: no readable image ({error})") from error
    return {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}.get(image.format or "")
