"""Colours of levels: ten that colour-blind readers distinguish too, and hues of equal lightness for more."""

from __future__ import annotations

import numpy as np

Rgb = tuple[float, float, float]

COLORBLIND = (
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9",
)  # fmt: skip
"""The palette of this name in seaborn, in its order."""
LIGHTNESS, SATURATION, FIRST_HUE = 64.35, 89.1, 3.59
"""The hues' own, as HSLuv defines them: percent, percent and degrees."""

RGB_OF_XYZ = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
WHITE_U, WHITE_V = 0.19784, 0.46834
"""D65 in the chromaticities of CIELUV."""


def palette(count: int) -> list[Rgb]:
    """So many colours; a palette of fewer than eleven is the beginning of the one of ten."""
    if count <= len(COLORBLIND):
        return [_rgb(paint) for paint in COLORBLIND[:count]]
    return [_of_hue((FIRST_HUE + 359 * i / count) % 359) for i in range(count)]


def _rgb(paint: str) -> Rgb:
    red, green, blue = (part / 255 for part in bytes.fromhex(paint.removeprefix("#")))
    return red, green, blue


def _of_hue(degrees: float) -> Rgb:
    """sRGB of a hue with the palette's lightness, at its share of the largest chroma that a screen shows (HSLuv)."""
    toward_u, toward_v = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    luminance = ((LIGHTNESS + 16) / 116) ** 3
    # Along a hue, a channel of linear RGB is 0 or 1 where a linear function of (u, v) is 0.
    largest = np.inf
    for x, y, z in RGB_OF_XYZ:
        for bound in (0.0, 1.0):
            of_u, of_v = 9 * x - 3 * z, 4 * y - 20 * z - 4 * bound / luminance
            slope = of_u * toward_u + of_v * toward_v
            distance = -(of_u * WHITE_U + of_v * WHITE_V + 12 * z) / slope
            largest = min(largest, distance) if distance > 0 else largest
    chroma = largest * SATURATION / 100
    u, v = WHITE_U + chroma * toward_u, WHITE_V + chroma * toward_v
    xyz = luminance / (4 * v) * np.array([9 * u, 4 * v, 12 - 3 * u - 20 * v])
    linear = np.clip(RGB_OF_XYZ @ xyz, 0.0, 1.0)
    red, green, blue = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).tolist()
    return red, green, blue
