"""Types of what a study file may say where no configuration class reads it: for lists of keys and the JSON schema.

The text in an `Annotated` is how the form is called for people.
"""

from __future__ import annotations

from typing import Annotated

Text = Annotated[str | int | float | bool, "text"]
"""Whatever is read as text: a number or a truth value as YAML writes it."""
Level = Annotated[str | int | float | bool, "level"]
Condition = Annotated[dict[str, Level | list[Level]], "{factor: level, or a list of levels}"]
"""Factor → levels."""
Words = Annotated[Text | list[Text], "text, or a list of words"]
"""A command line."""
Names = Annotated[Text | list[Text], "name, or a list of names"]
