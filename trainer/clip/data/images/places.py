"""Where data in files lies."""

from __future__ import annotations

import os
from pathlib import Path

from ablative.study.core.errors import AbsentDataError, ConfigError

VARIABLE = "ABLATE_DATA"


def locate(path: str, where: str, expected: str) -> Path:
    """A file or folder of a data set; relative paths start at $ABLATE_DATA or else at the current folder.

    Args:
        expected: the layout, in words, for the error message.

    Raises:
        ConfigError: no path is set.
        AbsentDataError: nothing there.
    """
    if not path:
        raise ConfigError(f"{where}: no path is set; expected {expected}")
    roots = list(dict.fromkeys([os.environ.get(VARIABLE) or os.getcwd(), os.getcwd()]))
    places = [Path(root).absolute() / Path(path).expanduser() for root in roots]
    for place in places:
        if place.exists():
            return place
    hint = "" if os.environ.get(VARIABLE) or Path(path).is_absolute() else f"; ${VARIABLE} is not set"
    raise AbsentDataError(f"{where}: {' or '.join(map(str, places))} does not exist; expected {expected}{hint}")
