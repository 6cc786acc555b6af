"""Typed sections of a study's configurations: each is built once, however many cells share it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.core.typed import build
from ablative.study.spec.cluster import ClusterConfig, spread
from ablative.study.spec.compose import Composer
from ablative.study.spec.runtime import RuntimeConfig
from ablative.study.syntax.words import Overrides, Tree, parse_words, set_value, sort_words

Choices = tuple[tuple[str, str], ...]
"""Config group → option, of a cell's levels."""
Values = tuple[tuple[str, Any], ...]
"""Dotted key → value, of a cell's levels."""


class Frozen(Tree):
    """A mapping as the value of a key, which nothing changes: it can be part of what is looked up."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))

    def __eq__(self, other: object) -> bool:
        """Equal numbers of different types (1 and 1.0) are different values of a configuration."""
        return isinstance(other, Mapping) and repr(dict(self)) == repr(dict(other))


def frozen(value: object) -> object:
    """A value of YAML that can be part of what is looked up: lists as tuples, mappings as `Frozen`."""
    if isinstance(value, Mapping):
        return Frozen({str(key): frozen(item) for key, item in value.items()})
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def cluster_of(texts: Sequence[str], config_dir: str | None) -> ClusterConfig:
    """Where the jobs of a command run that has no study, by words such as `cluster=slurm cluster.hours=2`.

    Raises ConfigError for a word of another key.
    """
    words = sort_words(parse_words(texts), ("cluster",), ())
    for key in words.values:
        if key.partition(".")[0] != "cluster":
            raise ConfigError(
                unknown("key", key.partition(".")[0], ("cluster",), f"override '{key}' (without a study)")
            )
    composer = Composer(config_dir)
    sections = Sections(composer, {}, words)
    found: ClusterConfig = sections.section("cluster", ClusterConfig)
    return spread(found, sections.section("runtime", RuntimeConfig))


class Sections:
    """Composed trees and their sections: 10,000 cells take about a second."""

    def __init__(self, composer: Composer, base: Mapping[str, str], words: Overrides) -> None:
        """`base`: config group → option that every run starts from; the words on the command line go before it."""
        self.composer, self._words = composer, words
        self.base = {**base, **words.choices}
        self._more: tuple[str, ...] = ()
        self._split: tuple[Values, dict[str, Values]] = (), {}
        self._built: dict[tuple[object, ...], Any] = {}

    def extend(self, overrides: tuple[str, ...]) -> None:
        """Compose every tree from now on with further overrides, in Hydra's grammar."""
        self._more = overrides

    def tree(self, choices: Choices = (), values: Values = (), without: tuple[str, ...] = ()) -> Tree:
        """The configuration tree of a cell: base choices, then the cell's, then the words, then the cell's values.

        Args:
            choices: config group → option.
            values: dotted key → value.
            without: words of the command line (their keys) that are passed over.
        """
        merged = {**self.base, **dict(choices)}
        tree = self.composer.tree(tuple(sorted(merged.items())), self._more)
        words = ((key, value) for key, value in self._words.values.items() if key not in without)
        for key, value in (*words, *values):
            tree = set_value(tree, key, value)
        return tree

    def section(
        self,
        name: str,
        cls: type,
        choices: Choices = (),
        values: Values = (),
        complete: Callable[[Any], Any] | None = None,
        without: tuple[str, ...] = (),
    ) -> Any:
        """One section as a typed object, the same object for equal arguments.

        Args:
            name: of the section, the head of its keys.
            cls: its type.
            choices: config group → option.
            values: dotted key → value; those of other sections are passed over.
            complete: fills in what the configuration leaves open, once for each object.
            without: words of the command line (their keys) that are passed over.
        """
        own = self._of_section(values).get(name, ())
        key = (name, choices, own, without)
        if key not in self._built:
            section: Any = build(cls, self.tree(choices, own, without=without).get(name, {}), name)
            self._built[key] = complete(section) if complete else section
        return self._built[key]

    def _of_section(self, values: Values) -> dict[str, Values]:
        """Values by the section that they are of; sections of one cell are asked for one after the other."""
        if values is not self._split[0]:
            found: dict[str, Values] = {}
            for item in values:
                head = item[0].partition(".")[0]
                found[head] = (*found.get(head, ()), item)
            self._split = values, found
        return self._split[1]

    def check_choices(self, groups: tuple[str, ...], where: str) -> None:
        """Raise ConfigError for a group of the base that there is not."""
        for group in self.base:
            if group not in groups:
                raise ConfigError(unknown("config group", group, groups, where))
