"""The examples of docs/extending.md: the blocks of code with where they belong, and the commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ablative.study.core.packages import PACKAGES, ROOT

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACED = re.compile(
    r"^(?:New file `([^`]+)`|In `([^`]+)`, (after|before|instead of) `([^`]+)`):\n\n```\w+\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """Code of the page, and where it belongs."""

    path: str
    text: str
    place: str = ""
    """`after`, `before` or `instead of` the line; empty: it is a new file."""
    line: str = ""
    """Without its indentation."""

    def place_in(self, checkout: Path, folder: Path) -> Path:
        """Its file, in the copy of the packages or, where it is a user's own, below the folder."""
        top = checkout / ROOT if f"{ROOT}.{self.path.split('/')[0]}" in PACKAGES else folder
        return top / self.path

    def apply(self, checkout: Path, folder: Path) -> None:
        """Put it where it belongs."""
        path = self.place_in(checkout, folder)
        if not self.place:
            assert not path.exists(), f"{self.path} is no new file"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.text)
            return
        lines = path.read_text().splitlines(keepends=True)
        [at] = [i for i, line in enumerate(lines) if line.strip() == self.line]
        lines[at + (self.place == "after") : at + (self.place != "before")] = [self.text]
        path.write_text("".join(lines))


def blocks(text: str = PAGE) -> Iterator[Block]:
    """Those of a part of the page, in order."""
    for new, old, place, line, content in PLACED.findall(text):
        yield Block(new or old, content, place, line)


def commands(text: str = PAGE) -> list[list[str]]:
    """Words after `ablate` of each command in a part of the page."""
    shells = [content for language, content in FENCED.findall(text) if language == "bash"]
    return [shlex.split(line)[1:] for content in shells for line in content.splitlines()]
