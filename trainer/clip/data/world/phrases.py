"""What people would write under a scene: like the alt-text of web images, captions mention only some of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ablative.trainer.clip.data.images import streams
from ablative.trainer.clip.data.world.scenes import COLORS, SHAPES, TEXTURES, Scenes

NUMBERS = ("one", "two", "three", "four", "five", "six")
REFERENCES = 5
"""Captions per image of an evaluation set, as COCO has."""
_PREPOSITIONS = {"left": "on", "right": "on", "top": "at", "bottom": "at", "middle": "in"}
_OPENINGS = ("a {}", "a {}", "{}", "{}", "photo of a {}", "picture of a {}", "photo: {}", "my favourite {}")
_ENDINGS = ("", "", "", "", "", " next to something", " and more", " clip art", " on a plain background")
_CROWDS = ("{n} shapes, one of them a {}", "a {} and other shapes", "{n} shapes with a {}", "{n} shapes: a {} and more")


@dataclass(frozen=True)
class Words:
    """One object in words."""

    shape: str
    color: str
    texture: str
    place: str
    """`left`, `right`, `top`, `bottom` or `middle`."""

    def phrase(self, shape: bool = True, color: bool = True, texture: bool = False) -> str:
        """Noun phrase with what is asked for: `striped red circle`, `red shape`, `circle`."""
        parts = [self.texture] if texture and self.texture != "solid" else []
        return " ".join([*parts, *([self.color] if color else []), self.shape if shape else "shape"])


def describe(scenes: Scenes, row: int) -> list[Words]:
    """Every object of a scene in words, the main object first."""
    return [
        Words(
            SHAPES[scenes.kind[row, slot]],
            COLORS[scenes.color[row, slot]],
            TEXTURES[scenes.texture[row, slot]],
            place(float(scenes.x[row, slot]), float(scenes.y[row, slot])),
        )
        for slot in range(scenes.count[row])
    ]


def place(x: float, y: float) -> str:
    """Where on the image a centre lies: the side it is nearer to, or the middle."""
    right, down = x - 0.5, y - 0.5
    if max(abs(right), abs(down)) < 0.1:
        return "middle"
    if abs(right) >= abs(down):
        return "right" if right > 0 else "left"
    return "bottom" if down > 0 else "top"


def captions(scenes: Scenes, start: int = 0) -> list[str]:
    """One caption a scene, the `start`-th of the endless series that each scene has."""
    numbers = streams.uniforms(scenes.key ^ np.uint64(0x5EED + start), 10)
    return [_caption(describe(scenes, row), numbers[row]) for row in range(len(scenes))]


def references(scenes: Scenes) -> list[list[str]]:
    """`REFERENCES` captions a scene for retrieval; the first two say more than most, to distinguish scenes."""
    numbers = streams.uniforms(scenes.key ^ np.uint64(0xC0C0), 10)
    short = [captions(scenes, start) for start in range(1, REFERENCES - 1)]
    return [
        [_listing(words), _pairing(words, numbers[row]), *(series[row] for series in short)]
        for row, words in enumerate(describe(scenes, row) for row in range(len(scenes)))
    ]


def _caption(objects: Sequence[Words], u: np.ndarray) -> str:
    """A caption from uniform numbers `u` (10,): of the main object nine times in ten, with its colour mostly."""
    main = objects[0]
    if u[0] < 0.08:
        return _listing(objects)
    if u[0] < 0.22 and len(objects) > 1:
        return _pairing(objects, u)
    if u[0] < 0.26:
        return _about_another(objects, u)
    phrase = main.phrase(shape=u[1] < 0.95, color=u[2] < 0.88, texture=u[3] < 0.3)
    if u[0] < 0.36 and len(objects) > 1:
        text = _pick(_CROWDS, u[4]).replace("{n}", NUMBERS[len(objects) - 1]).format(phrase)
    else:
        text = _pick(_OPENINGS, u[4]).format(phrase) + _pick(_ENDINGS, u[6])
    return article(text)


def _listing(objects: Sequence[Words]) -> str:
    """Up to three objects: `striped red circle, blue star on the left, green ring at the top`."""
    others = (f"{one.phrase()} {_where(one)}" for one in objects[1:3])
    return ", ".join([objects[0].phrase(texture=True), *others])


def _pairing(objects: Sequence[Words], u: np.ndarray) -> str:
    """The main object and another one, or the main object alone."""
    main = objects[0].phrase(texture=u[3] < 0.35)
    if len(objects) == 1:
        return article(f"a single {main}")
    other = objects[1 + int(u[7] * (len(objects) - 1))].phrase(color=u[8] < 0.8)
    return article(f"a {main} {_pick(('and a', 'next to a', 'with a'), u[9])} {other}")


def _about_another(objects: Sequence[Words], u: np.ndarray) -> str:
    """What misses the main object's name: a count with a colour, or the smaller things."""
    one = objects[int(u[7] * len(objects))]
    if len(objects) == 1:
        return f"one {one.color} shape"
    if u[8] < 0.6:
        return f"{NUMBERS[len(objects) - 1]} shapes, one of them {one.color}"
    return article(f"some shapes and a {one.phrase()}")


def _where(one: Words) -> str:
    return f"{_PREPOSITIONS[one.place]} the {one.place}"


def _pick(choices: Sequence[str], u: float) -> str:
    return choices[int(u * len(choices))]


def article(text: str) -> str:
    """`a orange star` → `an orange star`; no other word of this world needs it."""
    return text.replace("a orange", "an orange")
