"""Nouns after numbers, for messages."""

from __future__ import annotations


def plural(noun: str, number: int) -> str:
    """The noun's form after a number; its plural must end with a plain `s`.

    >>> [plural("run", number) for number in (0, 1, 2)]
    ['runs', 'run', 'runs']
    """
    return noun if number == 1 else f"{noun}s"


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "failed task"), counted(3, "run")
    ('1 failed task', '3 runs')
    """
    return f"{number} {plural(noun, number)}"
