"""What the levels of a cell mean: config groups and dotted keys with their values, each key checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ablative.study.core.errors import ConfigError, unknown
from ablative.study.plan.tuned_levels import Tuned
from ablative.study.spec.design import Cell, cell_name
from ablative.study.spec.parents import PARENT_KEY
from ablative.study.spec.sections import Choices, Values, frozen
from ablative.study.spec.study_file import KEYS, Study
from ablative.study.syntax.factors import as_written
from ablative.study.syntax.places import about
from ablative.study.syntax.words import Overrides, unmarked
from ablative.study.trainers import Configurations


class Levels:
    """The levels of one study's cells, and the words that go before them."""

    def __init__(
        self, study: Study, configurations: Configurations, words: Overrides, groups: Sequence[str], keys: Sequence[str]
    ) -> None:
        """Check the words.

        Args:
            study: whose levels they are.
            configurations: of its trainer; they know the keys.
            words: of the command line.
            groups: config groups that a level may choose from.
            keys: of the study file that the trainer reads.
        """
        self._study, self._configurations, self._words, self._groups = study, configurations, words, groups
        self._keys: set[str] = set()
        """Keys of levels that were checked."""
        self._cells: Sequence[Cell] = ()
        self._names: dict[int, str] = {}
        """Identity of one of `_cells` → its name: a large grid asks ten times for each."""
        self._levels: dict[tuple[str, str], tuple[Choices, Values]] = {}  # what `_divided` makes of a level
        self._splits: dict[str, tuple[Choices, Values]] = {}  # cell name → what `split` makes of it
        for key in words.values:
            self._check_word(key, keys)

    def name_cells(self, cells: Sequence[Cell]) -> None:
        """Make the names of the grid's cells."""
        self._cells, self._names = cells, {id(cell): cell_name(cell) for cell in cells}

    def forget(self) -> None:
        """Forget what cells mean: tuned levels have got a meaning."""
        self._splits.clear()

    def name(self, cell: Cell) -> str:
        """The name of a cell."""
        return self._names.get(id(cell)) or cell_name(cell)

    def _check_word(self, key: str, keys: Sequence[str]) -> None:
        if key.split(".")[0] == "cluster" and "." in key:
            return
        if key in self._study.factors:
            value = self._words.values[key]
            raise ConfigError(
                f"override '{key}={value}': {key} is a factor; 'factors.{key}=[{value}]' keeps that level"
            )
        try:
            self._configurations.check_key(key, "override")
        except ConfigError as error:
            allowed = [*self._groups, *KEYS, *keys, "a key of a configuration"]
            message = unknown("key", key, allowed, f"override '{key}'")
            near = "did you mean"
            if "." in key or unmarked(key) != key or (near not in message and near in str(error)):
                raise
            raise ConfigError(message) from None

    def split(self, cell: Cell, tuned: Tuned) -> tuple[Choices, Values]:
        """A cell's overrides as hashable group choices and dotted values."""
        if (name := self.name(cell)) not in self._splits:
            if tuned.names_search(cell):
                self._splits[name] = self._divided(tuned.meaning(cell))
            else:
                # No two levels of a cell set the same key.
                parts = [self._of_level(*item) for item in cell.items()]
                choices = tuple(item for own, _ in parts for item in own)
                self._splits[name] = choices, tuple(item for _, own in parts for item in own)
        return self._splits[name]

    def _of_level(self, factor: str, level: str) -> tuple[Choices, Values]:
        if (factor, level) not in self._levels:
            self._levels[factor, level] = self._divided(self._study.design.factors[factor][level])
        return self._levels[factor, level]

    def _divided(self, overrides: Mapping[str, object]) -> tuple[Choices, Values]:
        choices, values = [], []
        for key, value in overrides.items():
            if key == PARENT_KEY:
                continue
            chosen = key in self._groups and not isinstance(value, Mapping)
            if key not in self._keys:
                self._check_level_key(key, chosen)
                self._keys.add(key)
            if chosen:
                choices.append((key, str(value)))
            else:
                values.append((key, frozen(value)))
        return tuple(choices), tuple(values)

    def _check_level_key(self, key: str, chosen: bool) -> None:
        head, _, rest = key.partition(".")
        if not chosen and (head != "cluster" or not rest):
            self._configurations.check_key(key, f"{self._study.where}: factors")
        # Where a run goes is no part of what it is: a level's own resources and a cluster given here agree.
        words = {**self._words.values, **self._words.choices}
        if head != "cluster" and (word := next((word for word in words if key in (word, unmarked(word))), None)):
            factors = self._study.design.factors.items()
            factor = next(name for name, levels in factors if any(key in meaning for meaning in levels.values()))
            few = self._study.design.baseline.get(factor) or next(iter(self._study.factors[factor]))
            raise ConfigError(
                f"override '{word}': a factor of the study sets this key, '{factor}'; 'factors.{factor}=[{few}]' keeps "
                f"some of its levels, factors.{factor}=null takes it away"
            )

    def blamed(self, cell: Cell, message: str) -> str:
        """A message on a cell's configuration, with the word or the level that sets the key."""
        words = {**self._words.choices, **self._words.values}
        if key := about(message, words):
            return f"override '{key}={as_written(words[key])}': {message}"
        for factor, level in cell.items():
            if about(message, self._study.design.factors[factor][level]):
                return f"{self._study.where}: factors.{factor}.{level}: {message} (cell {cell_name(cell)})"
        if message.partition(": ")[0] in self._study.base:
            return f"{self._study.where}: {message}"
        return f"{self._study.where}: cell {cell_name(cell)}: {message}"
