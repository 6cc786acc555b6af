"""Class names as data: named lists with their synonyms and, for segmentation, the names of the background."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from ablative.study.core.errors import ConfigError, DataError, unknown


@dataclass(frozen=True)
class ClassSet:
    """Names of a data set's classes, in the order of its labels."""

    names: tuple[str, ...]
    """Commas separate synonyms where a protocol takes them (segmentation)."""
    background: tuple[str, ...] | None
    """Segmentation: names that all mean label 0; empty: label 0 is not scored; None: as the protocol says."""
    synonyms: bool = False
    """Commas separate synonyms in classification too, which then averages over the prompts of all of them."""


@functools.cache
def class_sets() -> dict[str, ClassSet]:
    """Class names of a list by its name (`DatasetConfig.classes`); `classes.json` gives the source of each list."""
    text = resources.files("ablative.trainer.clip.spec").joinpath("classes.json").read_text(encoding="utf-8")
    return {
        name: ClassSet(
            tuple(entry["names"]),
            tuple(entry["background"]) if "background" in entry else None,
            entry.get("synonyms", False),
        )
        for name, entry in json.loads(text).items()
    }


def class_set(name: str, where: str = "suite.datasets") -> ClassSet:
    """The class names of a list; raises ConfigError for a name that does not exist."""
    sets = class_sets()
    if name not in sets:
        raise ConfigError(unknown("classes", name, sets, where))
    return sets[name]


def split_synonyms(name: str) -> tuple[str, ...]:
    """The names of one class.

    >>> split_synonyms("happy, smiling")
    ('happy', 'smiling')
    """
    return tuple(each.strip() for each in name.split(",") if each.strip())


def names_in_order(name: str, own: Sequence[str], where: str, place: str) -> tuple[str, ...]:
    """The names of a list in the order of a data set's labels.

    Publishers of the same images number the classes differently: the pets alphabetically, or capitals first. A list of
    the same names as the set's own follows their order; one of other names (ImageNet's, for folders named by WordNet)
    is taken as it is.

    Args:
        own: the set's own names, in the order of its labels.
        place: what holds them, in words for the error messages.

    Raises:
        ConfigError: no such list.
        DataError: the list has more or fewer names, or some of the set's names for other labels.
    """
    found = class_set(name)
    if len(found.names) != len(own):
        fitting = [other for other, each in class_sets().items() if len(each.names) == len(own)]
        raise DataError(
            f"{where}: classes={name} names {len(found.names)} classes, but there are {len(own)} {place}"
            + (f"; lists of {len(own)}: {', '.join(fitting)}" if fitting else "")
        )
    keys = [_spelling(split_synonyms(each)[0] if found.synonyms else each) for each in found.names]
    wanted = [_spelling(each) for each in own]
    if len(set(keys)) == len(keys) and set(keys) == set(wanted):
        return tuple(found.names[keys.index(each)] for each in wanted)
    for i, key in enumerate(keys):
        if key in wanted and wanted[i] != key:
            raise DataError(
                f"{where}: classes={name} gives '{found.names[i]}' the label {i}, and of the {place} it is that of "
                f"'{own[i]}'; expected the same names, or the same order"
            )
    return found.names


def _spelling(name: str) -> str:
    """What two spellings of a class's name share: letters and digits."""
    return re.sub(r"[\W_]", "", name.lower())
