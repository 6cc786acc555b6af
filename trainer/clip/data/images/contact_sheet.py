"""A contact sheet: images with their captions beneath."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILE = 176
"""Side of an image on the sheet, in pixels."""
_MARGIN = 12
_FONT_SIZE = 14
_LINE = 18
_LINES = 3


def contact_sheet(images: Sequence[np.ndarray | None], captions: Sequence[str], columns: int = 6) -> Image.Image:
    """A white sheet with a row of `columns` tiles after the other.

    Args:
        images: uint8 (H, W, 3) of any size, enlarged or reduced to fit a tile; None leaves a grey one.
        captions: beneath each, in up to three lines.
    """
    assert len(images) == len(captions)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    width, height = TILE + _MARGIN, TILE + _MARGIN + _LINES * _LINE + 4
    sheet = Image.new("RGB", (columns * width + _MARGIN, rows * height + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    font = _font()
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = _MARGIN + place % columns * width, _MARGIN + place // columns * height
        tile = Image.new("RGB", (TILE, TILE), "white" if image is not None else "lightgrey")
        if image is not None:
            fitted = _fit(Image.fromarray(image))
            tile.paste(fitted, ((TILE - fitted.width) // 2, (TILE - fitted.height) // 2))
        sheet.paste(tile, (left, top))
        draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline="lightgrey")
        for number, line in enumerate(_wrap(caption, font, TILE)):
            draw.text((left, top + TILE + 4 + number * _LINE), line, "black", font)
    return sheet


def _fit(image: Image.Image) -> Image.Image:
    scale = TILE / max(image.size)
    # Small images are shown pixel for pixel, as the model sees them.
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), method)


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines of at most `width` pixels, the last one ending in … where there is more."""
    lines: list[str] = []
    rest = " ".join(text.split())
    while rest and len(lines) < _LINES:
        end = len(rest)
        while font.getlength(rest[:end]) > width:
            space = rest.rfind(" ", 0, end)
            end = space if space > 0 else end - 1
        lines.append(rest[:end])
        rest = rest[end:].lstrip()
    if rest:
        last = lines[-1]
        while font.getlength(last + "…") > width:
            last = last[:-1]
        lines[-1] = last + "…"
    return lines


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans as it comes with Matplotlib: it knows Greek, Cyrillic and many more letters than Pillow's own."""
    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.exists():
            return ImageFont.truetype(path, _FONT_SIZE)
    return ImageFont.load_default(_FONT_SIZE)
