"""The language of claims: comparisons of arms, such as `mae_clip - clip > 0` or `|max - map| > |mae_clip - clip|`.

    claim      = comparison {"and" comparison}            every one must hold
    comparison = side (">" | "<" | "~") side {…}          chains: a > b > c; "~" (or "≈"): the same within the margin
    side       = sum | [number "*"] "|" sum "|"
    sum        = ["-"] term {("+" | "-") term}
    term       = [number "*"] (arm | "(" sum ")") | number
    arm        = level ["[" level {"," level} "]"]        mae_clip, mae_clip[gap, small]

A level is written by its name, as `factor.name` where two factors share it, in single quotes where it holds other
signs than letters, digits, "_" and "."; an arm means the average over all cells with its levels.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ablative.study.core.errors import ConfigError
from ablative.study.spec.labels import Label, joined

ArmExpression = tuple[str, ...]
"""Levels as written."""

DEEPEST = 50
"""Parentheses within each other."""
_PLAIN = str.maketrans({"≈": "~", "−": "-"})
SIGNS = {">": ">", "<": "<", "~": "~", "≈": "~"}
_TOKEN = re.compile(r"\s*(?:('[^']*'|(?=[\w.]*[^\W\d])\w[\w.]*)|(\d+(?:\.\d+)?)|([-+*()\[\],|><~≈−]))")
"""A level (`16k` is one, too), a number, a sign."""


@dataclass(frozen=True)
class Sum:
    """A weighted sum of arms and a constant; with `absolute`, its absolute value."""

    arms: tuple[tuple[float, ArmExpression], ...]
    constant: float = 0.0
    absolute: bool = False

    def scaled(self, factor: float) -> Sum:
        return Sum(tuple((factor * weight, arm) for weight, arm in self.arms), factor * self.constant, self.absolute)

    def plus(self, other: Sum) -> Sum:
        return Sum((*self.arms, *other.arms), self.constant + other.constant)


@dataclass(frozen=True)
class Comparison:
    """One comparison of a claim."""

    left: Sum
    sign: str
    """`>`, `<` or `~`."""
    right: Sum
    text: str
    """The comparison as written, with single spaces and plain signs."""


def parse(text: str, where: str) -> tuple[Comparison, ...]:
    """The comparisons that a statement consists of; raises ConfigError that names the place where it goes wrong."""
    return _Parser(text, where).statement()


def relabelled(statement: str, label: Callable[[str], str]) -> Label:
    """A statement as it is printed: each level (as written, without quotes) by its label, and `−` for minus.

    >>> relabelled("mae_clip[gap] - clip > 0", str.upper)
    'MAE_CLIP[GAP] − CLIP > 0'
    """
    pieces, end = [], 0
    for word in _Parser(statement, "").words:
        level = word.kind == "name" and word.text != "and"
        sign = "−" if word.kind == "-" else word.text
        pieces += [statement[end : word.start], label(word.text.strip("'")) if level else sign]
        end = word.end
    return joined("", pieces)


def arm_text(arm: ArmExpression) -> str:
    """`mae_clip[gap]`, as it is written."""
    return arm[0] + (f"[{', '.join(arm[1:])}]" if arm[1:] else "")


@dataclass(frozen=True)
class _Word:
    kind: str
    """`number`, `name`, or the sign itself."""
    text: str
    start: int
    end: int


class _Parser:
    """Recursive descent over the words of one statement."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where, self.place = text, where, 0
        self._depth = 0
        self.words = self._split()

    def statement(self) -> tuple[Comparison, ...]:
        found = self._chain()
        while self._name() == "and":
            self.place += 1
            found += self._chain()
        if self._peek():
            raise self._error("'and', a comparison sign or the end")
        return tuple(found)

    def _chain(self) -> list[Comparison]:
        """`a > b > c` as its comparisons of neighbours."""
        found: list[Comparison] = []
        start, left = self._start(), self._side()
        while self._peek() in SIGNS:
            sign = SIGNS[self._take()]
            middle, right = self._start(), self._side()
            text = " ".join(self.text[start : self.words[self.place - 1].end].translate(_PLAIN).split())
            if not left.arms and not right.arms:
                raise ConfigError(f"{self.where}: '{text}' compares no arms")
            if sign == "~" and (left.absolute or right.absolute):
                raise ConfigError(f"{self.where}: '{text}': '~' compares differences, not absolute values")
            found.append(Comparison(left, sign, right, text))
            start, left = middle, right
        if not found:
            raise self._error("'>', '<' or '~'")
        return found

    def _side(self) -> Sum:
        at = self.place
        factor = 1.0
        if self._peek() == "number" and self._peek(1) == "*" and self._peek(2) == "|":
            factor = float(self._take())
            self.place += 1
        if self._peek() != "|":
            self.place = at
            return self._sum()
        self.place += 1
        inside = self._sum()
        self._expect("|")
        return Sum(inside.arms, inside.constant, absolute=True).scaled(factor)

    def _sum(self) -> Sum:
        total = Sum(())
        sign = -1.0 if self._peek() in ("-", "−") else 1.0
        self.place += sign < 0
        while True:
            total = total.plus(self._term().scaled(sign))
            if self._peek() not in ("+", "-", "−"):
                return total
            sign = 1.0 if self._take() == "+" else -1.0

    def _term(self) -> Sum:
        if self._peek() == "number":
            value = float(self._take())
            if self._peek() != "*":
                return Sum((), value)
            self.place += 1
            self._enter()
            inside = self._term().scaled(value)
            self._depth -= 1
            return inside
        if self._peek() == "(":
            self.place += 1
            self._enter()
            inside = self._sum()
            self._depth -= 1
            self._expect(")")
            return inside
        return Sum(((1.0, self._arm()),))

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ConfigError(
                f"{self.where}: '{self.text[:40]}…': more than {DEEPEST} parentheses or factors in a term"
            )

    def _arm(self) -> ArmExpression:
        levels = [self._level()]
        if self._peek() == "[":
            self.place += 1
            levels.append(self._level())
            while self._peek() == ",":
                self.place += 1
                levels.append(self._level())
            self._expect("]")
        return tuple(levels)

    def _level(self) -> str:
        if self._peek() != "name" or self._name() == "and":
            quoted = f" (a level that is a number: '{self.words[self.place].text}')" if self._peek() == "number" else ""
            raise self._error(f"a level, a number or '('{quoted}")
        return self._take().strip("'")

    def _split(self) -> list[_Word]:
        words, place = [], 0
        while self.text[place:].strip():
            match = _TOKEN.match(self.text, place)
            if match is None:
                rest = self.text[place:].strip()
                raise ConfigError(
                    f"{self.where}: '{self.text}' cannot be read at '{rest[:20]}'; put a level with signs of its own "
                    "in single quotes"
                )
            kind = "name" if match[1] else "number" if match[2] else match[3]
            words.append(
                _Word(kind, match[1] or match[2] or match[3], match.end() - len(match[0].strip()), match.end())
            )
            place = match.end()
        return words

    def _peek(self, ahead: int = 0) -> str:
        """Kind of the next word, empty at the end."""
        i = self.place + ahead
        return self.words[i].kind if i < len(self.words) else ""

    def _name(self) -> str:
        return self.words[self.place].text if self._peek() == "name" else ""

    def _start(self) -> int:
        return self.words[self.place].start if self._peek() else len(self.text)

    def _take(self) -> str:
        self.place += 1
        return self.words[self.place - 1].text

    def _expect(self, kind: str) -> None:
        if self._peek() != kind:
            raise self._error(f"'{kind}'")
        self.place += 1

    def _error(self, wanted: str) -> ConfigError:
        found = f"'{self.words[self.place].text}'" if self._peek() else "the end"
        return ConfigError(f"{self.where}: '{self.text}': expected {wanted}, found {found}")
