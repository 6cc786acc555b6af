"""Modules that write or read an `ablate.*` tag take its name from one list."""

import ast
import re
from pathlib import Path

from ablative.study.home import tracking_tags

ROOT = Path(__file__).parents[2]
LIST = ROOT / "study" / "home" / "tracking_tags.py"
NAMES = {name: value for name, value in vars(tracking_tags).items() if name.isupper() and isinstance(value, str)}
TAG = re.compile(r"ablate\.[a-z_]+(\.[a-z_]+)*\.?")
NO_TAGS = ("ablate.trainers", "ablate.executors")
"""Groups of entry points."""


def sources(*packages: str) -> list[Path]:
    return [path for package in packages for path in (ROOT / package).rglob("*.py") if path != LIST]


def test_no_module_writes_a_tag_out() -> None:
    written = {
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for path in sources("study", "trainer", "sweeps", "reports")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if TAG.fullmatch(node.value) and node.value not in NO_TAGS
    }
    assert not written


def test_sql_names_tags_of_the_list_alone_and_those_that_reports_read() -> None:
    models = sorted((ROOT / "reports" / "sql").rglob("*.sql"))
    found = {tag for path in models for tag in re.findall(r"'(ablate\.[^']*)'", path.read_text())}
    assert found and found <= set(tracking_tags.READ), found - set(tracking_tags.READ)
    assert found == set(tracking_tags.READ), "a tag is read that no model uses"


def test_every_tag_of_the_list_has_a_writer() -> None:
    """A writer names the tag as a key of a dictionary, as a key that it sets, or in a pair."""
    used: set[str] = set()
    for path in sources("study", "trainer", "sweeps"):
        used |= set(re.findall(r"tracking_tags\.([A-Z_]+)(?=:|\]| \+|, )", path.read_text()))
    # Written as SCHEDULER and a name; the other by reports, beside what the store has.
    assert set(NAMES) - used <= {"QUEUE_SECONDS", "ORIGIN"}, set(NAMES) - used
