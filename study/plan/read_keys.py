"""Levels and words that change nothing: those that set only keys that none of their runs reads."""

from __future__ import annotations

from collections.abc import Mapping

from ablative.study.core.errors import ConfigError
from ablative.study.spec.design import Cell, cell_name
from ablative.study.spec.sections import Values
from ablative.study.spec.study_file import Study
from ablative.study.trainers import Stage, Trainer


class ReadKeys:
    """Notes for each cell what its runs do not read, and refuses what no run reads."""

    def __init__(self, study: Study, trainer: Trainer, words: Mapping[str, object]) -> None:
        """`words`: dotted keys of the command line and their values."""
        self._study, self._trainer, self._words = study, trainer, words
        self._read: set[tuple[str, str]] = set()
        """(factor, level) of levels that change something in one cell at least."""
        self._unread: dict[tuple[str, str], tuple[Cell, str, str]] = {}
        """(factor, level) → a cell, a key that the level sets there and that is not read, and what is instead."""
        self._words_read: set[str] = set()
        self._words_unread: dict[str, str] = {}

    def note(self, cell: Cell, values: Values, opening: Stage) -> None:
        """Note a cell with its dotted values and the stage that opens its runs."""
        unread = self._trainer.unread(opening.name, opening.config)
        for key in self._words:
            if key in unread:
                self._words_unread[key] = unread[key]
            else:
                self._words_read.add(key)
        if not any(key in unread for key, _ in values):
            self._read.update(cell.items())
            return
        for factor, level in cell.items():
            keys = [*self._study.design.factors[factor][level]]
            first = next((key for key in keys if key in unread), None)
            if first is None or any(key not in unread for key in keys):
                self._read.add((factor, level))
            else:
                self._unread[factor, level] = cell, first, unread[first]

    def check(self) -> None:
        """Raise ConfigError for a level, or a word, that sets only keys that none of its runs reads."""
        for (factor, level), (cell, key, instead) in self._unread.items():
            if (factor, level) not in self._read:
                raise ConfigError(
                    f"{self._study.where}: factors.{factor}.{level}: changes nothing, it sets {key}, which "
                    f"no run with this level reads (such as {cell_name(cell)}){_hint(instead)}"
                )
        for key, instead in self._words_unread.items():
            if key not in self._words_read:
                raise ConfigError(
                    f"override '{key}={self._words[key]}': changes nothing, no run of the study reads {key}"
                    f"{_hint(instead)}"
                )


def _hint(instead: str) -> str:
    return f"; it is {instead} that they read" if instead else ""
