"""Prompt templates: named sets, and class names filled into them."""

from __future__ import annotations

import functools
import json
from importlib import resources

from ablative.study.core.errors import ConfigError, unknown

OWN = "own"
"""Value in place of a set's name: the templates in the data's own folder (CLIP_benchmark's)."""


@functools.cache
def template_sets() -> dict[str, tuple[str, ...]]:
    """Templates by the name that `DatasetConfig.templates` gives; `templates.json` says where each set is from."""
    text = resources.files("ablative.trainer.clip.spec").joinpath("templates.json").read_text(encoding="utf-8")
    return {name: tuple(entry["templates"]) for name, entry in json.loads(text).items()}


def templates(name: str, where: str = "suite.datasets") -> tuple[str, ...]:
    """The templates of a set; raises ConfigError for a name that does not exist."""
    sets = template_sets()
    if name not in sets:
        raise ConfigError(unknown("templates", name, sets, where))
    return sets[name]


def names_class(template: str) -> bool:
    """Whether a prompt says which class it is about; without `{}` it is one text for all.

    >>> names_class("a photo of {a} {}"), names_class("a photo of a dog")
    (True, False)
    """
    return fill(template, "cat") != fill(template, "dog")


def fill(template: str, name: str) -> str:
    """A prompt: `{}` becomes the class name and `{a}` its article.

    >>> fill("a photo of {a} {}", "apple")
    'a photo of an apple'
    """
    try:
        return template.format(name, a="an" if name[:1].lower() in tuple("aeiou") else "a")
    except (KeyError, IndexError, ValueError):
        raise ConfigError(
            f"template {template!r}: expected {{}} for the class name and {{a}} for its article"
        ) from None
