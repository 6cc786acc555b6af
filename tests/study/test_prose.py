"""Prose and types that may only get better: counts per package that no change may raise.

The tests read docstrings, comments (Python and SQL) and annotations, not the texts that users see. Where a count has
fallen, write the lower number here: `python tests/study/test_prose.py` prints the counts of today.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("study", "trainer", "sweeps", "reports")
Place = tuple[str, int, str]
"""File, line and text of something that counts."""

WORDS = re.compile(
    r"\b(told|tell|tells|beside|likewise|whoever|nobody|of its own|lest|thereof|stands)\b", re.IGNORECASE
)
"""Words that made sentences hard to read: say what does what, with the field's noun."""
NO_SUBJECT = re.compile(
    r"(Of|Likewise|Beside|Besides|As|By|For|From|In|On|To|With|Without|Under|Among|What is told|At (?!most|least))\b"
)
"""How a docstring begins that is understood only with the line above it."""

COMMENT = {".py": re.compile(r"(^\s*|  )#.*"), ".sql": re.compile(r"--.*")}
"""As the formatter lays them out."""

MOST_WORDS = {"study": 0, "trainer": 0, "sweeps": 0, "reports": 0}
MOST_WITHOUT_SUBJECT = {"study": 0, "trainer": 1, "sweeps": 0, "reports": 0}
MOST_ANY = {"study": 128, "trainer": 63, "sweeps": 60, "reports": 107}


@cache
def files(package: str, suffix: str = ".py") -> list[Path]:
    return sorted((ROOT / package).rglob("*" + suffix))


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def docstrings(path: Path) -> Iterator[tuple[ast.AST, int, str]]:
    """Owner, first line and text of each docstring, those below attributes included."""
    for parent in nodes(path):
        body = getattr(parent, "body", None)
        for node in body if isinstance(body, list) else ():
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield parent, node.lineno, node.value.value


def comments(path: Path) -> Iterator[tuple[int, str]]:
    pattern = COMMENT[path.suffix]
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := pattern.search(line):
            yield number, match.group()


def bad_words(package: str) -> Iterator[Place]:
    for path in (*files(package), *files(package, ".sql")):
        texts = list(comments(path))
        if path.suffix == ".py":
            texts += [
                (line + i, text)
                for _, line, docstring in docstrings(path)
                for i, text in enumerate(docstring.splitlines())
            ]
        yield from ((str(path), line, match.group()) for line, text in texts for match in WORDS.finditer(text))


def without_subject(package: str) -> Iterator[Place]:
    """A module's docstring is a title and may begin as it likes."""
    for path in files(package):
        for owner, line, text in docstrings(path):
            if NO_SUBJECT.match(text.lstrip()) and not (isinstance(owner, ast.Module) and line == 1):
                yield str(path), line, text.lstrip().splitlines()[0]


def annotations(path: Path) -> Iterator[ast.expr]:
    for node in nodes(path):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef) and node.returns:
            yield node.returns


def any_types(package: str) -> Iterator[Place]:
    for path in files(package):
        for annotation in annotations(path):
            for node in ast.walk(annotation):
                if isinstance(node, ast.Name) and node.id == "Any":
                    yield str(path), node.lineno, ast.unparse(annotation)


COUNTS = {
    "MOST_WORDS": (bad_words, MOST_WORDS),
    "MOST_WITHOUT_SUBJECT": (without_subject, MOST_WITHOUT_SUBJECT),
    "MOST_ANY": (any_types, MOST_ANY),
}


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("name", COUNTS)
def test_the_count_does_not_rise(name: str, package: str) -> None:
    find, most = COUNTS[name]
    places = sorted(find(package))
    listed = "\n".join(f"{Path(path).relative_to(ROOT)}:{line}: {text}" for path, line, text in places)
    assert len(places) <= most[package], f"{name} of {package}: {len(places)}, at most {most[package]}\n{listed}"


def test_the_rules_find_what_they_are_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    folder = tmp_path / "invented"
    folder.mkdir()
    (folder / "a.py").write_text(
        '"""From here to there."""\nword = "nobody is counted in a text"  # but likewise here\n"""Of the word."""\n\n\n'
        'def f(x: dict[str, Any]) -> None:\n    """At most one sentence, which stands alone."""\n'
    )
    (folder / "b.sql").write_text("-- what is told of a row\nselect 1\n")
    assert [(line, text) for _, line, text in bad_words("invented")] == [(2, "likewise"), (7, "stands"), (1, "told")]
    assert [(line, text) for _, line, text in without_subject("invented")] == [(3, "Of the word.")]
    assert [(line, text) for _, line, text in any_types("invented")] == [(6, "dict[str, Any]")]


if __name__ == "__main__":
    for name, (find, _) in COUNTS.items():
        print(f"{name} =", {package: len(list(find(package))) for package in PACKAGES})
