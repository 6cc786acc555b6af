"""How wide text is in LaTeX, from the widths of Computer Modern's letters: papers' other fonts are narrower."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ablative.reports.tables.escape import bare

SIZES = {10: 1.0, 9: 1.028, 8: 1.063, 7: 1.139, 6: 1.222, 5: 1.361}
"""Font size in points → how much wider its letters are for their size: small fonts are cut wider."""
BOLD = 1.16
_NARROW = {
    278: ".,:;!il'[]|/jI·",
    333: " -",
    389: "()rst",
    444: "cezf",
    500: "0123456789aogvkxyw–*+",
}
"""Thousandths of the font's size → characters that are so wide at most."""
_WIDTHS = {letter: width for width, letters in _NARROW.items() for letter in letters}
_CAPITAL, _OTHER, _WIDE = 764, 560, 1000
_WIDTHS |= dict.fromkeys("mMW%@—", _WIDE) | dict.fromkeys("±×−=<>≈≤≥→←", 778) | {"w": 722}


def text_width(text: str, size: int, bold: bool = False) -> float:
    """Width of a text in points."""
    return in_points(letters(text), size, bold)


def in_points(width: int, size: int, bold: bool = False) -> float:
    """What `letters` has measured, in points."""
    return width / 1000 * size * SIZES[size] * (BOLD if bold else 1.0)


@functools.lru_cache(maxsize=10_000)
def letters(text: str) -> int:
    """Width of a text in thousandths of the font's size; a table has few different texts, measured for each style."""
    return sum(map(_letter, bare(text)))


def wrapped(text: str, width: float, size: int) -> list[str]:
    """The words of a text in lines that are as wide as `width` or as its longest word."""
    words = text.split()
    room = max([width, *(text_width(word, size) for word in words)])
    lines: list[str] = []
    for word in words:
        if lines and text_width(f"{lines[-1]} {word}", size) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines or [""]


def widest(texts: Sequence[str], size: int) -> float:
    return max((text_width(text, size) for text in texts), default=0.0)


def _letter(letter: str) -> int:
    if letter in _WIDTHS:
        return _WIDTHS[letter]
    if ord(letter) > 0x2E80:  # letters of Chinese, Japanese and Korean, and pictures
        return _WIDE
    return _CAPITAL if letter.isupper() else _OTHER
