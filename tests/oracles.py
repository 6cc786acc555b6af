"""Independent implementations to compare with (`tests/oracles.txt`); tests skip where they are not installed."""

from __future__ import annotations

import functools
import importlib
import warnings
from types import ModuleType

import torch
from missing import missing


@functools.cache
def _declare_missing_operators() -> torch.library.Library:
    """torchvision's CPU wheels lag behind torch, and their import dies for want of these two operators."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def oracle(name: str) -> ModuleType:
    """The module `name` of timm, open_clip or torchvision; skips the test, saying why, without it."""
    _declare_missing_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError as error:
            missing(f"no reference implementation to compare with: {error} (pip install -r tests/oracles.txt)")
