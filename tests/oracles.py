"""Independent implementations to compare with (`tests/oracles.txt`); tests skip where they are not installed."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from missing import missing

from ablative.trainer.clip.protocols.dense.operators import load_torchvision


def oracle(name: str) -> ModuleType:
    """The module `name` of timm, open_clip, transformers, …; skips the test, saying why, without it.

    torchvision's CPU wheels lag behind torch: the operators without which its import dies come from the product.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            load_torchvision()
            return importlib.import_module(name)
        except ImportError as error:
            missing(f"no reference implementation to compare with: {error} (pip install -r tests/oracles.txt)")
