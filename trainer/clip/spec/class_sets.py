"""Class names as data: named lists with their synonyms and, for segmentation, the names of the background."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources

from ablative.study.core.errors import ConfigError, unknown


@dataclass(frozen=True)
class ClassSet:
    """Names of a data set's classes, in the order of its labels."""

    names: tuple[str, ...]
    """Commas separate synonyms where a protocol takes them (segmentation)."""
    background: tuple[str, ...] | None
    """Segmentation: names that all mean label 0; empty: label 0 is not scored; None: as the protocol says."""


@functools.cache
def class_sets() -> dict[str, ClassSet]:
    """Class names of a list by its name (`DatasetConfig.classes`); `classes.json` gives the source of each list."""
    text = resources.files("ablative.trainer.clip.spec").joinpath("classes.json").read_text(encoding="utf-8")
    return {
        name: ClassSet(tuple(entry["names"]), tuple(entry["background"]) if "background" in entry else None)
        for name, entry in json.loads(text).items()
    }


def class_set(name: str) -> ClassSet:
    """The class names of a list; raises ConfigError for a name that does not exist."""
    sets = class_sets()
    if name not in sets:
        raise ConfigError(unknown("classes", name, sets, "suite.datasets"))
    return sets[name]
