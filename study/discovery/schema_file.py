"""The file of the schema, and the line by which editors find it."""

from __future__ import annotations

import os
from pathlib import Path

from ablative.study.core.files import write_atomic
from ablative.study.discovery.schema import schema_text
from ablative.study.home.paths import Home

MARK = "yaml-language-server:"
"""How a comment begins from which editors learn where the schema is."""


def write_schema(home: Home) -> Path:
    """Write the schema into a home, and return its path."""
    home.root.mkdir(parents=True, exist_ok=True)
    write_atomic(home.schema, schema_text(), durable=False)
    return home.schema


def first_line(schema: Path, folder: Path) -> str:
    """The comment of a study file in a folder: the path is relative where both lie in one tree."""
    near = os.path.relpath(schema, folder)
    return f"# {MARK} $schema={near if near.count('..') <= FARTHEST else schema}"


FARTHEST = 2
"""Folders that a relative path goes up at most."""
