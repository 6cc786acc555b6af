"""Where protocols keep what a report draws of a model (`study.home.panel_pictures` says what that is).

The store names the evaluation, whose id covers model, data and settings; the archives lie in the folder of that id, one
for each data set.
"""

from __future__ import annotations

from pathlib import Path

from ablative.study.home.paths import TaskPaths

PICTURED = ("panels", "upernet", "detection")
"""Kinds of protocols that keep pictures: of the model as it is, or as they have trained it."""


def pictures_path(paths: TaskPaths, dataset: str) -> Path:
    """The archive of an evaluation's data set."""
    return paths.root / f"pictures-{dataset}.npz"
