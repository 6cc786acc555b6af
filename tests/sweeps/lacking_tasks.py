"""Tasks of a trainer whose extra the job's machine lacks."""

from __future__ import annotations

import importlib
import sys

sys.modules["torch"] = None  # type: ignore[assignment]
importlib.import_module("torch")
